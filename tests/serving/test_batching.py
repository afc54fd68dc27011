from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackkit.serving.app import App
from stackkit.serving.batching import Batching, UnevenPredictionsError, join, rows_and_key, split
from stackkit.serving.errors import InvalidInputError
from stackkit.serving.models import PreparedInput
from stackkit.serving.payloads import Payload


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        ([1, 2, 3], [[1], [2, 3]]),
        (np.array([[1], [2], [3]]), [[[1]], [[2], [3]]]),
        (pd.Series([1, 2, 3], index=[7, 8, 9]), [[1], [2, 3]]),
        ({"label": [1, 2, 3], "score": np.array([4, 5, 6])}, [{"label": [1], "score": [4]}, {"label": [2, 3]}]),
    ],
)
def test_predictions_are_cut_by_rows(predictions: Any, expected: Any) -> None:
    for part, wanted in zip(split(predictions, [1, 2]), expected, strict=True):
        if isinstance(wanted, dict):
            assert list(part["label"]) == wanted["label"]
        else:
            assert np.asarray(part).tolist() == wanted


def test_a_frame_is_cut_by_rows() -> None:
    first, second = split(pd.DataFrame({"p": [1, 2, 3]}, index=[2, 0, 1]), [2, 1])
    assert (first["p"].tolist(), second["p"].tolist()) == ([1, 2], [3])


@pytest.mark.parametrize("predictions", [[1, 2], [1, 2, 3, 4], np.array(3), "abc", 3, None, {"p": [1]}, {1, 2, 3}])
def test_what_has_not_one_prediction_a_row_is_refused(predictions: Any) -> None:
    with pytest.raises(UnevenPredictionsError):
        split(predictions, [1, 2])


@pytest.mark.parametrize(
    ("values", "rows", "joined"),
    [
        ([[1], [2, 3]], [1, 2], [1, 2, 3]),
        ([np.array([[1.0]]), np.array([[2.0], [3.0]])], [1, 2], np.array([[1.0], [2.0], [3.0]])),
        ([{"a": np.array([1]), "b": np.array([2])}, {"a": np.array([3]), "b": np.array([4])}], [1, 1], None),
        ([{"a": [1], "b": [2]}, {"a": [3], "b": [4]}], [1, 1], {"a": [1, 3], "b": [2, 4]}),
        ([pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]})], [1, 1], pd.DataFrame({"a": [1, 2]})),
    ],
)
def test_inputs_of_one_key_are_joined(values: list[Any], rows: list[int], joined: Any) -> None:
    described = [rows_and_key(value) for value in values]
    assert [count for count, _ in described] == rows
    assert len({key for _, key in described}) == 1
    assert described[0][1] is not None
    result = join(values)
    if isinstance(joined, np.ndarray):
        assert (result == joined).all()
    elif isinstance(joined, pd.DataFrame):
        pd.testing.assert_frame_equal(result, joined)
    elif joined is not None:
        assert result == joined
    else:
        assert {name: column.tolist() for name, column in result.items()} == {"a": [1, 3], "b": [2, 4]}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.array([1]), np.array([1.0])),
        (np.zeros((1, 2)), np.zeros((1, 3))),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": ["x"]})),
        ({"a": np.zeros(1)}, {"b": np.zeros(1)}),
        ([1], np.array([1])),
    ],
)
def test_inputs_that_differ_have_other_keys(one: Any, other: Any) -> None:
    assert rows_and_key(one)[1] != rows_and_key(other)[1]


@pytest.mark.parametrize("value", [1, "text", None, np.array(1), {"a": [1], "b": [1, 2]}, {"a": 1}, {}])
def test_some_inputs_are_never_joined(value: Any) -> None:
    assert rows_and_key(value) == (1, None)


class Summing:
    """Doubles each number, and waits in its first call until it is released. Minus one is a complaint."""

    name = "summing"
    signature = None
    chat_keys: frozenset[str] = frozenset()

    def __init__(self, *, is_rowwise: bool = True) -> None:
        self.is_rowwise = is_rowwise
        self.began, self.released = threading.Event(), threading.Event()
        self.calls: list[list[int]] = []

    def predict(self, data: Payload, params: Mapping[str, Any] | None) -> Any:
        raise AssertionError

    def prepare(self, data: Payload, params: Mapping[str, Any] | None) -> PreparedInput:
        if not isinstance(data.value, list):
            raise InvalidInputError("A list, please.")
        return PreparedInput(data.value, len(data.value), json.dumps(params))

    def predict_prepared(self, inputs: Sequence[PreparedInput]) -> Any:
        values = [value for each in inputs for value in each.value]
        self.calls.append(values)
        self.began.set()
        self.released.wait()
        if -1 in values:
            raise ValueError("minus one")
        return [2 * value for value in values]


Answers = Callable[[App, Summing, Sequence[object]], list[tuple[int, Any]]]


@pytest.fixture
def answers(ask: Callable[..., Awaitable[Any]]) -> Answers:
    """What the requests are answered that arrive, in this order, while the model is busy with another."""

    async def scenario(app: App, model: Summing, bodies: Sequence[object]) -> list[tuple[int, Any]]:
        first = asyncio.create_task(ask(app, body={"inputs": [0]}))
        await asyncio.to_thread(model.began.wait)
        rest = [asyncio.create_task(ask(app, body=body)) for body in bodies]
        for _ in range(5):  # until each of them has come as far as the queue
            await asyncio.sleep(0)
        model.released.set()
        await first
        return [(reply.status, reply.content) for reply in await asyncio.gather(*rest)]

    return lambda app, model, bodies: asyncio.run(scenario(app, model, bodies))


def test_requests_that_wait_are_one_call_and_each_gets_its_own_rows(
    serve_model: Callable[..., App], answers: Answers
) -> None:
    model = Summing()
    replies = answers(serve_model(model), model, [{"inputs": [1]}, {"inputs": [2, 3]}, {"inputs": []}, {"inputs": [4]}])
    assert model.calls == [[0], [1, 2, 3, 4], []]  # what has no rows may be an error, and is tried alone
    assert [content["predictions"] for _, content in replies] == [[2], [4, 6], [], [8]]


def test_other_params_are_another_call(serve_model: Callable[..., App], answers: Answers) -> None:
    model = Summing()
    answers(serve_model(model), model, [{"inputs": [1]}, {"inputs": [2], "params": {"k": 1}}, {"inputs": [3]}])
    assert model.calls == [[0], [1, 3], [2]]


def test_a_bad_row_spoils_nobody_elses_answer(serve_model: Callable[..., App], answers: Answers) -> None:
    model = Summing()
    replies = answers(serve_model(model), model, [{"inputs": [1]}, {"inputs": [-1]}, {"inputs": "x"}, {"inputs": [2]}])
    assert [status for status, _ in replies] == [200, 400, 400, 200]
    assert "minus one" in replies[1][1]["message"]
    assert model.calls == [[0], [1, -1, 2], [1], [-1], [2]]


@pytest.mark.parametrize(
    ("settings", "is_rowwise", "joined"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"batching": Batching.ON}, False, True),
        ({"batching": Batching.OFF}, True, False),
        ({"max_batch_size": 1}, True, False),
    ],
)
def test_when_requests_are_joined(
    serve_model: Callable[..., App], answers: Answers, settings: dict[str, Any], is_rowwise: bool, joined: bool
) -> None:
    model = Summing(is_rowwise=is_rowwise)
    answers(serve_model(model, **settings), model, [{"inputs": [1]}, {"inputs": [2]}])
    assert model.calls == ([[0], [1, 2]] if joined else [[0], [1], [2]])
