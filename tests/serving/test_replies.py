from __future__ import annotations

import datetime
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackkit.serving.replies import encode, encode_csv, encode_lines


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        (None, None),
        (np.array([[1.0, 2.0]]), [[1.0, 2.0]]),
        (np.array([1.0, np.nan, np.inf]), [1.0, None, None]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([1, None, np.nan], dtype=object), [1, None, None]),
        (np.array(5), 5),
        (np.ma.array([1, 2], mask=[False, True]), [1, None]),
        (np.array([[1.5, 2.0]], dtype=">f8").T, [[1.5], [2.0]]),
        (np.float32(1.5), 1.5),
        (np.float64("nan"), None),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.datetime64("2024-01-02T03:04:05"), "2024-01-02T03:04:05"),
        (np.datetime64("NaT"), None),
        ([float("nan"), float("-inf"), 1.0], [None, None, 1.0]),
        ((1, [2]), [1, [2]]),
        ({"p": np.array([1, 2]), 3: np.float32(1.5)}, {"p": [1, 2], "3": 1.5}),
        (pd.DataFrame({"x": [1, 2], "y": ["a", None]}), [{"x": 1, "y": "a"}, {"x": 2, "y": None}]),
        (pd.Series([1, 2], name="z"), [{"z": 1}, {"z": 2}]),
        (pd.Series([1, 2]), [{"0": 1}, {"0": 2}]),
        (pd.Index(["a"]), ["a"]),
        ([pd.NaT, pd.NA], [None, None]),
        ([pd.Timestamp("2024-01-02T03:04:05Z")], ["2024-01-02T03:04:05+00:00"]),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (b"abc", "YWJj"),
        (b"x" * 100, "eHh4" * 33 + "eA=="),
    ],
    ids=repr,
)
def test_predictions_become_strict_json(predictions: Any, expected: Any) -> None:
    def refuse(token: str) -> None:
        raise AssertionError(token)

    assert json.loads(encode(predictions), parse_constant=refuse) == {"predictions": expected}


def test_timestamps_in_arrays_become_text() -> None:
    dates = np.array([["2024-01-02", "NaT"]], dtype="M8[D]")
    assert json.loads(encode(dates)) == {"predictions": [["2024-01-02", None]]}


def test_an_object_that_can_dump_itself() -> None:
    class Answer:
        def model_dump(self) -> dict[str, Any]:
            return {"score": np.float32(0.5)}

    assert json.loads(encode([Answer()])) == {"predictions": [{"score": 0.5}]}


def test_bare_replies() -> None:
    assert encode({"answer": 1}, wrapped=False) == b'{"answer": 1}'


def test_what_json_cannot_say_is_named() -> None:
    with pytest.raises(TypeError, match="type set"):
        encode([{1, 2}])


@pytest.mark.parametrize(
    ("predictions", "lines", "table"),
    [
        (np.array([1.5, np.nan]), "1.5\nnull\n", '1.5\n""\n'),
        (np.array([[1, 2], [3, 4]]), "[1, 2]\n[3, 4]\n", "1,2\n3,4\n"),
        (pd.DataFrame({"x": [1], "y": ["a,b"]}), '{"x": 1, "y": "a,b"}\n', '1,"a,b"\n'),
        ([True, "a", None], 'true\n"a"\nnull\n', 'true\na\n""\n'),
        ([[1, [2, 3]]], "[1, [2, 3]]\n", '1,"[2, 3]"\n'),
        ({"p": 1}, '{"p": 1}\n', "1\n"),
        (
            {"p": [1, 2], "q": np.eye(2)},
            '{"p": 1, "q": [1.0, 0.0]}\n{"p": 2, "q": [0.0, 1.0]}\n',
            '1,"[1.0, 0.0]"\n2,"[0.0, 1.0]"\n',
        ),
        ({"p": [1, 2], "q": [3]}, '{"p": [1, 2], "q": [3]}\n', '"[1, 2]",[3]\n'),
        (7, "7\n", "7\n"),
        ([], "", ""),
    ],
)
def test_one_prediction_a_line(predictions: Any, lines: str, table: str) -> None:
    assert encode_lines(predictions).decode() == lines
    assert encode_csv(predictions).decode() == table


@pytest.mark.parametrize("scale", [1e-320, 1e-5, 1e-4, 1.0, 1e6, 1e15, 1e16, 1e22, 1e300])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int8", "uint64"])
@pytest.mark.parametrize("count", [1, 3000])
def test_many_numbers_are_written_as_python_writes_them(dtype: str, scale: float, count: int) -> None:
    numbers = np.random.default_rng(0).normal(size=(count, 2)) * scale
    numbers[0] = [-0.0, 1e-4]
    limits = np.finfo(dtype) if dtype.startswith("f") else np.iinfo(dtype)
    values = np.clip(numbers, float(limits.min) / 2, float(limits.max) / 2).astype(dtype)
    assert encode(values) == json.dumps({"predictions": values.tolist()}).encode()
    assert encode(values[:, 0], wrapped=False) == json.dumps(values[:, 0].tolist()).encode()
