"""The request that a model answers before anybody else's."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from stackkit.serving.errors import InvalidInputError, ModelLoadError, UnavailableError
from stackkit.serving.estimators import example_for
from stackkit.serving.first_request import first_request
from stackkit.serving.metrics import Metrics
from stackkit.serving.payloads import CHAT_KEYS, Payload, Shape
from stackkit.serving.service import Service
from stackkit.serving.signature import Signature

EXAMPLE = {"inputs": [[1, 2]], "params": {"k": 1}}


class Model:
    """Does what ``act`` does; was saved with ``example``."""

    name = "test"

    def __init__(
        self, act: Callable[[], Any] = lambda: None, example: Any = EXAMPLE, chat_keys: frozenset[str] = frozenset()
    ) -> None:
        self.signature: Signature | None = Signature(example=example)
        self.chat_keys = chat_keys
        self.asked: list[tuple[Payload, Any, str]] = []
        self._act = act

    def predict(self, data: Payload, params: Mapping[str, Any] | None) -> Any:
        self.asked.append((data, params, threading.current_thread().name))
        return self._act()


class Fitted(Model):
    """Has no signature, and was fitted with two columns."""

    def __init__(self) -> None:
        super().__init__()
        self.signature = None
        self.example = {"inputs": [[0.0, 0.0]]}


def fail(error: BaseException) -> Callable[[], Any]:
    def act() -> Any:
        raise error

    return act


@pytest.fixture
def service() -> Service:
    return Service(metrics=Metrics.alone())


def test_the_model_answers_the_request_that_it_was_saved_with_on_its_own_thread(service: Service) -> None:
    model = Model()
    service.serve(model)
    assert model.asked == [(Payload(Shape.INPUTS, [[1, 2]]), {"k": 1}, "model")]
    service.check_ready()


def test_an_estimator_without_a_signature_is_asked_by_its_width() -> None:
    assert first_request(Fitted()) == (Payload(Shape.INPUTS, [[0.0, 0.0]]), None)


def test_an_estimator_that_knows_names_alone_is_not_asked(service: Service) -> None:
    pytest.importorskip("sklearn")
    pandas = pytest.importorskip("pandas")
    from sklearn.preprocessing import FunctionTransformer

    def lowered(frame: Any) -> Any:
        return frame.apply(lambda column: column.str.lower())  # AttributeError for numbers

    example = example_for(FunctionTransformer(lowered).fit(pandas.DataFrame({"city": ["Rome"]})))
    assert example == {"dataframe_records": [{"city": 0.0}]}
    service.serve(Model(fail(AttributeError("numbers have no str")), example))
    service.check_ready()


@pytest.mark.parametrize(
    "model",
    [Model(example=None), Model(example={"rows": 1}), Model(example={"prompt": "hi"}, chat_keys=CHAT_KEYS)],
    ids=["knows none", "not understood", "chat"],
)
def test_a_model_that_knows_no_request_or_is_chatted_with_is_not_asked(service: Service, model: Model) -> None:
    service.serve(model)
    assert model.asked == []
    service.check_ready()


@pytest.mark.parametrize("error", [RuntimeError("no weights"), SystemExit("no weights")], ids=lambda each: repr(each))
def test_a_model_that_fails_at_it_is_not_served(service: Service, error: BaseException) -> None:
    with pytest.raises(ModelLoadError, match=f"it fails when it is asked: {type(error).__name__}: no weights"):
        service.serve(Model(fail(error)))
    with pytest.raises(UnavailableError):
        service.check_ready()


@pytest.mark.parametrize("error", [ValueError("unknown category"), InvalidInputError("no such column")], ids=repr)
def test_a_model_that_refuses_it_is_served(
    service: Service, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        service.serve(Model(fail(error)))
    service.check_ready()
    assert str(error) in caplog.text
