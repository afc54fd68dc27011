from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackkit.serving.cells import cast, cast_series
from stackkit.serving.errors import BadRequestError
from stackkit.serving.signature import Column, DataType


def column(kind: str, *, required: bool = True) -> Column:
    return Column(DataType(kind), "x", required)


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("double", [1.5, 2.0], [1.5, 2.0]),
        ("double", [1, "2.5", True], [1.0, 2.5, 1.0]),
        ("float", [0.1, 1], [0.1, 1.0]),
        ("long", [1, 2.0, "3", True], [1, 2, 3, 1]),
        ("long", [2**53 + 1, -(2**63), 2**63 - 1], [2**53 + 1, -(2**63), 2**63 - 1]),
        ("integer", [2**31 - 1], [2**31 - 1]),
        ("boolean", [True, 0, 1.0], [True, False, True]),
        ("string", ["a", None], ["a", None]),
        ("string", [5, "a"], [5, "a"]),
        ("binary", ["aGk=", "aG\nk="], [b"hi", b"hi"]),
    ],
)
def test_what_loses_nothing_is_cast(kind: str, values: list[Any], expected: list[Any]) -> None:
    result = cast(values, column(kind), as_text=False)
    assert list(map(type, result)) == list(map(type, expected))
    assert result == expected


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("double", "98765x", "it is text that is no number"),
        ("double", [98765], "it is a list"),
        ("double", 10**400, "it is too large"),
        ("float", 1e39, "it is too large"),
        ("long", 98765.5, "it has a fraction"),
        ("long", "98765.5", "it is text that is no integer"),
        ("long", 2**63, "it is out of range"),
        ("long", None, "it is null"),
        ("long", math.nan, "it is NaN"),
        ("long", math.inf, "it is infinite"),
        ("integer", 2**31, "it is out of range"),
        ("boolean", "false", "it is text"),
        ("boolean", None, "it is null"),
        ("boolean", 98765, "it is a number other than 0 and 1"),
        ("binary", "***", "it is text that is not base64"),
        ("binary", "abc", "it is text that is not base64"),
        ("binary", None, "it is null"),
        ("string", {"98765": 1}, "it is an object"),
        ("string", [98765], "it is a list"),
        ("datetime", "not a date", "it is not a date in ISO 8601"),
        ("datetime", 98765.5, "it is not a date in ISO 8601"),
        ("datetime", 1e300, "it is not a date in ISO 8601"),
        ("datetime", "", "it is not a date in ISO 8601"),
        ("datetime", "NaT", "it is not a date in ISO 8601"),
        ("datetime", "01/02/2024", "it is not a date in ISO 8601"),
        ("datetime", "9999-01-01", "it is not a date in ISO 8601"),
        ("datetime", 1.5, "it is not a date in ISO 8601"),
        ("datetime", True, "it is not a date in ISO 8601"),
    ],
)
def test_what_would_change_is_refused_by_column_and_row(kind: str, value: Any, reason: str) -> None:
    fine = {"boolean": True, "binary": "aGk=", "datetime": "2024-01-02"}.get(kind, 1)
    with pytest.raises(BadRequestError) as caught:
        cast([fine, value, value], column(kind), as_text=False)
    assert caught.value.message == f"The value in column x, row 1 is not of type {kind}: {reason}."


def test_null_among_numbers_is_nan() -> None:
    (number,) = cast([None], column("double"), as_text=False)
    assert math.isnan(number)


def test_null_stays_null_among_optional_bytes() -> None:
    assert cast(["aGk=", None], column("binary", required=False), as_text=False) == [b"hi", None]


def test_numbers_become_text_where_asked_to() -> None:
    assert cast([5, 1.5, None, "a", b"b"], column("string"), as_text=True) == ["5", "1.5", None, "a", "b"]
    with pytest.raises(BadRequestError, match="row 1 is not of type string: it is a list"):
        cast(["a", ["b"]], column("string"), as_text=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-02", "2024-01-02T00:00:00"),
        ("2024-01-02T03:04:05", "2024-01-02T03:04:05"),
        ("2024-01-02 03:04:05.123456789", "2024-01-02T03:04:05.123456789"),
        ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05"),
        ("2024-01-02T03:04:05+02:00", "2024-01-02T01:04:05"),
        (1704164645, "1970-01-01T00:00:01.704164645"),
    ],
)
def test_dates_are_utc_in_nanoseconds(text: Any, expected: str) -> None:
    for values in ([text], [text, None]):
        dates: Any = cast(values, column("datetime"), as_text=False)
        assert dates.dtype == np.dtype("datetime64[ns]")
        assert dates[0] == np.datetime64(expected)
        assert np.isnat(dates[1:]).all()


def test_dates_of_several_kinds_may_stand_together() -> None:
    dates: Any = cast(["2024-01-02", 0, None, "2024-01-02T00:00:00+01:00"], column("datetime"), as_text=False)
    assert dates.astype(str).tolist()[1:3] == ["1970-01-01T00:00:00.000000000", "NaT"]


@pytest.mark.parametrize(
    ("kind", "series", "expected"),
    [
        ("double", pd.Series([1, 2]), [1.0, 2.0]),
        ("float", pd.Series([1.5, np.nan]), [1.5, np.nan]),
        ("long", pd.Series([1.0, 2.0]), [1, 2]),
        ("integer", pd.Series([1, 2]), [1, 2]),
        ("boolean", pd.Series([0, 1]), [False, True]),
        ("long", pd.Series([1, 2], dtype="Int64"), [1, 2]),
        ("binary", pd.Series(["aGk=", b"hi"], dtype=object), [b"hi", b"hi"]),
    ],
)
def test_a_typed_column_is_cast_by_the_same_rules(kind: str, series: pd.Series[Any], expected: list[Any]) -> None:
    result = cast_series(series, column(kind))
    dtype = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32", "boolean": "bool"}
    assert result.dtype == dtype.get(kind, "object")
    pd.testing.assert_series_equal(result, pd.Series(expected, dtype=result.dtype))


@pytest.mark.parametrize(
    ("kind", "values", "row"),
    [
        ("long", [1.0, 1.5], 1),
        ("long", [1.0, np.nan], 1),
        ("long", [9.3e18], 0),
        ("long", [2.0**63], 0),
        ("integer", [0, 2**31], 1),
        ("float", [1e300], 0),
        ("boolean", [0.0, 2.0], 1),
        ("boolean", [np.nan], 0),
        ("double", ["1", "y"], 1),
    ],
)
def test_a_typed_column_that_would_change_is_refused(kind: str, values: list[Any], row: int) -> None:
    with pytest.raises(BadRequestError, match=f"column x, row {row} is not of type {kind}"):
        cast_series(pd.Series(values), column(kind))


def test_dates_with_a_zone_become_utc() -> None:
    series = pd.Series(pd.to_datetime(["2024-01-02T03:00:00+02:00"]))
    assert cast_series(series, column("datetime")).tolist() == [pd.Timestamp("2024-01-02T01:00:00")]
