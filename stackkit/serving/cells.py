"""The values of one column, cast to its type without loss: what cannot be said in that type is refused, by row.

MLflow truncates 1.5 to an integer, takes the text "false" for true and null for false; here each of them is refused.
Numbers as text, integers for floats, 1 and 0 for booleans are taken, as by MLflow, because nothing is lost.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .errors import BadRequestError
from .signature import Column, DataType

if TYPE_CHECKING:
    import pandas as pd

DTYPES = {
    DataType.BOOLEAN: "bool",
    DataType.INTEGER: "int32",
    DataType.LONG: "int64",
    DataType.FLOAT: "float32",
    DataType.DOUBLE: "float64",
    DataType.STRING: "str",
    DataType.BINARY: "object",
    DataType.DATETIME: "datetime64[ns]",
}
"""How a frame holds each type. How it holds text depends on pandas' version: see ``tables``."""

_RANGES = {DataType.INTEGER: (-(2**31), 2**31 - 1), DataType.LONG: (-(2**63), 2**63 - 1)}
LARGEST_FLOAT32 = (2 - 2**-23) * 2.0**127
_NONE = type(None)


class _UnfitError(Exception):
    """One value does not fit; the text says why, in words that repeat nothing of it."""


class UnfitCellError(BadRequestError):
    """The value in one row, counted from 0, is not of its column's type; ``reason`` repeats nothing of it."""

    def __init__(self, column: Column, row: int, reason: str) -> None:
        super().__init__(f"The value in column {column.name}, row {row} is not of type {column.type}: {reason}.")
        self.column = column
        self.row = row
        self.reason = reason


def cast(values: Sequence[Any], column: Column, *, as_text: bool) -> Sequence[Any]:
    """Cast what JSON held. ``as_text`` turns numbers in a column of text into text, which otherwise stay numbers.

    Dates come back as an array, everything else as a list of Python's own values. Null stays None among text and
    optional bytes and becomes NaN and NaT among floats and dates. Raises BadRequestError naming column and row.
    """
    kinds = set(map(type, values))
    if kinds == _UNCHANGED.get(column.type):
        return values
    if column.type is DataType.DATETIME:
        return _cast_dates(values, column)
    if column.type is DataType.STRING and (kinds <= {str, _NONE} or not (as_text or kinds & _NEVER_TEXT)):
        return values
    cast_one = _CASTS[column.type]
    result: list[Any] = []
    for row, value in enumerate(values):
        try:
            if value is None and column.type is DataType.BINARY and not column.required:
                result.append(None)
            else:
                result.append(cast_one(value))
        except _UnfitError as error:
            raise UnfitCellError(column, row, str(error)) from None
    return result


def cast_series(series: pd.Series[Any], column: Column) -> pd.Series[Any]:
    """Cast, by the same rules, a column that a reader has given a dtype already. Raises BadRequestError."""
    import pandas as pd

    dtype = series.dtype
    if column.type is DataType.STRING and dtype.kind in "OU":
        return series
    if column.type is DataType.DATETIME and dtype.kind == "M":
        return _naive(series)
    if column.type in _NUMERIC and dtype.kind in "biuf" and not pd.api.types.is_extension_array_dtype(dtype):
        return _cast_numbers(series, column)
    values = series.astype(object).where(series.notna(), None).tolist()
    cells = cast(values, column, as_text=False)
    kind = object if column.type is DataType.STRING else DTYPES[column.type]
    return pd.Series(cells, dtype=kind, index=series.index)


def _cast_numbers(series: pd.Series[Any], column: Column) -> pd.Series[Any]:
    import numpy as np

    target = np.dtype(DTYPES[column.type])
    if series.dtype == target:
        return series
    values = series.to_numpy()
    with np.errstate(invalid="ignore", over="ignore"):
        result = values.astype(target)
    if target.kind == "f":
        unfit = np.isfinite(values) & (np.abs(values) > np.finfo(target).max)
    else:
        unfit = result != values
        if values.dtype.kind == "f" and target.kind == "i":
            # 2**63 becomes -2**63 or 2**63 - 1, as the processor likes it, and the latter compares as equal
            unfit |= np.abs(values) >= float(-_RANGES[column.type][0])
    if unfit.any():
        row = int(unfit.argmax())
        try:
            _CASTS[column.type](values[row].item())
        except _UnfitError as error:
            raise UnfitCellError(column, row, str(error)) from None
    return series.astype(target)


def _cast_dates(values: Sequence[Any], column: Column) -> Sequence[Any]:
    """ISO 8601 text, taken as UTC when it names no zone; integers are nanoseconds since 1970, as for MLflow."""
    try:
        dates: Sequence[Any] = _to_dates(values)
    except (ValueError, TypeError, OverflowError):
        for row, value in enumerate(values):
            try:
                _to_dates([value])
            except (ValueError, TypeError, OverflowError):
                raise UnfitCellError(column, row, "it is not a date in ISO 8601") from None
        raise  # each of them fits alone: not the caller's mistake
    return dates


def _to_dates(values: Sequence[Any]) -> Any:
    import numpy as np
    import pandas as pd

    # a float without a fraction is an integer in JSON
    values = [int(value) if type(value) is float and value.is_integer() else value for value in values]
    kinds = set(map(type, values))
    if kinds <= {str, _NONE}:
        given = pd.Series(values, dtype=object)
        dates = pd.to_datetime(given, format="ISO8601", utc=True)
        if (dates.isna() & given.notna()).any():  # pandas takes some text for missing dates, the empty one too
            raise ValueError
    elif kinds <= {int, _NONE}:
        dates = pd.Series([np.datetime64("NaT" if value is None else value, "ns") for value in values])
    elif kinds <= {pd.Timestamp, datetime.datetime, datetime.date, _NONE}:  # of a Parquet file
        dates = pd.to_datetime(pd.Series(values, dtype=object), utc=True)
    elif len(values) > 1:
        return np.concatenate([_to_dates([value]) for value in values])
    else:
        raise TypeError
    return _naive(dates).to_numpy()


def _naive(dates: pd.Series[Any]) -> pd.Series[Any]:
    if dates.dt.tz is not None:
        dates = dates.dt.tz_convert("UTC").dt.tz_localize(None)
    result: pd.Series[Any] = dates.dt.as_unit("ns")
    return result


def _to_float(value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, int | float | str):
        try:
            return float(value)
        except OverflowError:
            raise _UnfitError("it is too large") from None
        except ValueError:
            raise _UnfitError("it is text that is no number") from None
    raise _UnfitError(_described(value))


def _to_float32(value: Any) -> float:
    number = _to_float(value)
    if math.isfinite(number) and abs(number) > LARGEST_FLOAT32:
        raise _UnfitError("it is too large")
    return number


def _to_integer(value: Any, kind: DataType) -> int:
    if not isinstance(value, int | float | str):
        raise _UnfitError(_described(value))
    try:
        number = int(value)
    except OverflowError:
        raise _UnfitError("it is infinite") from None
    except ValueError:
        raise _UnfitError("it is NaN" if isinstance(value, float) else "it is text that is no integer") from None
    if isinstance(value, float) and number != value:
        raise _UnfitError("it has a fraction")
    low, high = _RANGES[kind]
    if not low <= number <= high:
        raise _UnfitError("it is out of range")
    return number


def _to_boolean(value: Any) -> bool:
    if isinstance(value, int | float):
        if value in (0, 1):
            return bool(value)
        raise _UnfitError("it is a number other than 0 and 1")
    raise _UnfitError(_described(value))


def _to_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise _UnfitError("it is not valid UTF-8") from None
    raise _UnfitError(_described(value))


def _to_bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise _UnfitError(_described(value))
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        raise _UnfitError("it is text that is not base64") from None


def _described(value: Any) -> str:
    names = {_NONE: "null", bool: "a boolean", str: "text", bytes: "bytes", list: "a list", dict: "an object"}
    return f"it is {names.get(type(value), 'a number')}"


_NUMERIC = frozenset({DataType.BOOLEAN, *_RANGES, DataType.FLOAT, DataType.DOUBLE})
_NEVER_TEXT = frozenset({bytes, list, dict})
_UNCHANGED = {DataType.BOOLEAN: {bool}, DataType.DOUBLE: {float}, DataType.STRING: {str}, DataType.BINARY: {bytes}}
_CASTS: dict[DataType, Callable[[Any], Any]] = {
    DataType.BOOLEAN: _to_boolean,
    DataType.INTEGER: lambda value: _to_integer(value, DataType.INTEGER),
    DataType.LONG: lambda value: _to_integer(value, DataType.LONG),
    DataType.FLOAT: _to_float32,
    DataType.DOUBLE: _to_float,
    DataType.STRING: _to_text,
    DataType.BINARY: _to_bytes,
}
