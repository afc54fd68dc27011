from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pytest

from stackkit.serving.errors import InvalidInputError
from stackkit.serving.parameters import cast_params
from stackkit.serving.signature import DataType, Param

DECLARED = (
    Param(DataType.DOUBLE, "scale", 1.0),
    Param(DataType.LONG, "k", 3),
    Param(DataType.STRING, "tags", ["x"], is_list=True),
    Param(DataType.BOOLEAN, "flag", False),
    Param(DataType.DATETIME, "when", None),
    Param(DataType.BINARY, "raw", None),
)
DEFAULTS = {"scale": 1.0, "k": 3, "tags": ["x"], "flag": False, "when": None, "raw": None}


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        (None, {}),
        ({}, {}),
        ({"unknown": [1]}, {}),
        ({"scale": 2}, {"scale": 2.0}),
        ({"k": None}, {"k": None}),
        ({"tags": []}, {"tags": []}),
        ({"flag": True}, {"flag": True}),
        ({"when": "2024-01-02T03:00:00+02:00"}, {"when": datetime(2024, 1, 2, 1)}),
        ({"raw": "aGk="}, {"raw": b"hi"}),
    ],
)
def test_what_is_given_comes_before_the_defaults(given: Any, changed: dict[str, Any]) -> None:
    result = cast_params(given, DECLARED)
    assert result == DEFAULTS | changed
    assert list(result)[: len(changed)] == list(changed)
    assert type(result["scale"]) is float


@pytest.mark.parametrize(
    "given",
    [
        [98765],
        "98765",
        {"k": 98765.5},
        {"k": "98765"},
        {"k": True},
        {"k": [98765]},
        {"scale": "98765"},
        {"scale": 10**400},
        {"tags": "98765"},
        {"tags": [98765]},
        {"flag": 1},
        {"when": "98765"},
        {"raw": "98765"},
    ],
)
def test_what_does_not_fit_is_refused(given: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"scale \(double\), k \(long\), tags \(list of string\)") as caught:
        cast_params(given, DECLARED)
    assert "98765" not in caught.value.message


@pytest.mark.parametrize(("given", "expected"), [(None, None), ({}, {}), ({"k": 1}, {}), ([1], {}), ("x", {})])
def test_a_model_without_params_takes_none_whatever_is_given(given: Any, expected: Any) -> None:
    assert cast_params(given, None) == expected


def test_a_date_without_a_time_stays_a_date() -> None:
    result = cast_params({"when": "2024-01-02"}, DECLARED)
    assert result is not None
    assert (type(result["when"]), result["when"]) == (date, date(2024, 1, 2))
