"""Asking endpoints for predictions, at once and later."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from stackkit_sagemaker import predictions

from stackkit.errors import NotSupportedError, PredictionError
from stackkit.model_deployers import Service


@pytest.mark.parametrize(
    ("data", "body"),
    [
        ([[1.5, None]], {"inputs": [[1.5, None]]}),
        (np.array([[1, 2]]), {"inputs": [[1, 2]]}),
        ({"a": np.float32(0.5)}, {"inputs": {"a": 0.5}}),
        (pd.DataFrame({"a": [1]}), {"dataframe_split": {"columns": ["a"], "data": [[1]]}}),
        ({"instances": [1]}, {"instances": [1]}),
    ],
    ids=["list", "array", "columns", "frame", "request"],
)
def test_data_goes_as_json(data: Any, body: Any) -> None:
    encoded, content_type = predictions.encode(data, None)
    assert (json.loads(encoded), content_type) == (body, "application/json")


def test_text_goes_as_csv_without_params() -> None:
    assert predictions.encode("a,b\n1,2\n", None) == (b"a,b\n1,2\n", "text/csv")
    with pytest.raises(NotSupportedError, match="params"):
        predictions.encode("a\n1\n", {"k": 1})


def test_an_endpoint_answers(deploy: Callable[..., Service]) -> None:
    service = deploy()
    assert service.predict([[1.0, 2.0]]) == [[1.0, 2.0]]
    assert service.predict("a,b\n1,2\n") == "a,b\n1,2\n"


def test_the_model_servers_own_words_are_told(deploy: Callable[..., Service]) -> None:
    with pytest.raises(PredictionError, match="answered 400: boom is no number"):
        deploy().predict(["boom"])


def test_what_does_not_run_is_not_asked(deploy: Callable[..., Service], aws: Any) -> None:
    service = deploy()
    service.stop()
    with pytest.raises(PredictionError, match="its state is inactive"):
        service.predict([1])
    service.start()
    aws.client("sagemaker").delete_endpoint(EndpointName=f"stackkit-{service.id}")
    with pytest.raises(PredictionError, match="not found"):
        service.predict([1])


class TestLater:
    @pytest.fixture
    def service(self, aws: Any, deploy: Callable[..., Service]) -> Service:
        return deploy(asynchronous={})

    def test_an_endpoint_answers_into_s3(self, aws: Any, service: Service) -> None:
        assert (service.prediction_url or "").endswith("/async-invocations")
        aws.answer_later({"data": json.dumps({"predictions": [7]})})
        before = aws.names()["objects"]
        assert service.predict([[1.0]]) == [7]
        assert [key for key in aws.names()["objects"] if "/requests/" in key] == []
        assert set(before) <= set(aws.names()["objects"])

    def test_a_failure_is_told_in_its_words(self, aws: Any, service: Service) -> None:
        aws.answer_later({"data": "the model raised ValueError", "is_failure": True})
        with pytest.raises(PredictionError, match="the model raised ValueError"):
            service.predict([[1.0]])

    def test_it_is_waited_for(self, aws: Any, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        waited: list[float] = []
        fetch = predictions._object
        monkeypatch.setattr(predictions, "_object", lambda *given: fetch(*given) if len(waited) > 2 else None)
        aws.answer_later({"data": "[3]"})
        deployer: Any = service.deployer
        answer = predictions.predict_later(
            deployer._hosting.clients, service, deployer._hosting.folder(service), [1], None, wait=waited.append
        )
        assert (answer, len(waited)) == ([3], 3)

    def test_it_is_not_waited_for_without_end(
        self, aws: Any, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(predictions, "_object", lambda *given: None)
        deployer: Any = service.deployer
        with pytest.raises(PredictionError, match="has not answered within 3600 seconds") as raised:
            predictions.predict_later(
                deployer._hosting.clients,
                service,
                deployer._hosting.folder(service),
                [1],
                None,
                wait=lambda seconds: None,
            )
        assert "s3://" in (raised.value.hint or "")
        assert any("/requests/" in key for key in aws.names()["objects"]), "it may be answered yet"
