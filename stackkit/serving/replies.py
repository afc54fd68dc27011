"""Predictions written as strict JSON, where NaN and infinities are null and bytes are base64 without line breaks, or
as CSV and JSON Lines made from it.
"""

from __future__ import annotations

import base64
import csv
import datetime
import io
import json
import math
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import orjson

_WRITER = json.JSONEncoder(allow_nan=False)

_MANY = 256
"""Numbers from which on it pays to look at them first."""


def encode(predictions: Any, *, wrapped: bool = True) -> bytes:
    """The reply's body: ``{"predictions": …}``, or the bare predictions.

    Raises TypeError for what JSON cannot say.
    """
    written = _write(predictions)
    return b'{"predictions": %b}' % written if wrapped else written


def encode_lines(predictions: Any) -> bytes:
    """JSON Lines: one prediction a line. Raises TypeError for what JSON cannot say."""
    return b"".join(json.dumps(row, allow_nan=False).encode() + b"\n" for row in _rows(predictions))


def encode_csv(predictions: Any) -> bytes:
    """CSV: one prediction a line, without a line of names, so that the replies for parts of a file are the file's.

    Null is empty, and what is nested deeper than a row's values is JSON. Raises TypeError for what JSON cannot say.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in _rows(predictions):
        values = row.values() if isinstance(row, dict) else row if isinstance(row, list) else [row]
        writer.writerow([json.dumps(each) if isinstance(each, list | dict | bool) else each for each in values])
    return text.getvalue().encode()


def _write(predictions: Any) -> bytes:
    numpy = sys.modules.get("numpy")
    if numpy is not None and type(predictions) is numpy.ndarray:  # a masked one has null among its numbers
        kind = predictions.dtype.kind
        # what is wider than a double has no counterpart in Python
        if kind in "iu" or (kind == "f" and predictions.itemsize <= 8 and bool(numpy.isfinite(predictions).all())):
            return _write_numbers(numpy, predictions)
    return _WRITER.encode(to_plain(predictions)).encode()


def _write_numbers(np: ModuleType, values: Any) -> bytes:
    """Finite numbers, to the byte as Python's own JSON writes them, which takes ten times as long for many."""
    plain = values.tolist()
    if values.size < _MANY or (values.dtype.kind == "f" and _has_exponents(np, values)):
        return str(plain).encode()
    return orjson.dumps(plain).replace(b",", b", ")


def _has_exponents(np: ModuleType, values: Any) -> bool:
    """Whether Python writes one of them with an exponent, which others write differently."""
    sizes = np.abs(values, dtype="float64")
    return bool((((sizes < 1e-4) & (sizes != 0)) | (sizes >= 1e16)).any())


def _rows(predictions: Any) -> list[Any]:
    plain = to_plain(predictions)
    if isinstance(plain, dict) and (rows := rows_of(plain)) is not None:
        return rows
    return plain if isinstance(plain, list) else [plain]


def rows_of(outputs: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Several outputs, each a list with one value for each row, as an object for each row; None when they are not."""
    columns = list(outputs.values())
    if not columns or not all(isinstance(column, list) for column in columns) or len(set(map(len, columns))) > 1:
        return None
    return [dict(zip(outputs, row, strict=True)) for row in zip(*columns, strict=True)]


def to_plain(value: Any) -> Any:
    """``value`` in JSON's own types: arrays become lists, frames lists of row objects, a series a list of objects
    with one key. Raises TypeError for anything that has no such form.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    return _from_library(value)


def _from_library(value: Any) -> Any:
    # what was never imported cannot be what the value is made of
    if (numpy := sys.modules.get("numpy")) is not None and isinstance(value, numpy.ndarray | numpy.generic):
        return _from_numpy(numpy, value)
    if (pandas := sys.modules.get("pandas")) is not None and _is_pandas(pandas, value):
        return _from_pandas(pandas, value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    for name in ("model_dump", "tolist"):  # a pydantic object, or an array of some other library
        if callable(method := getattr(value, name, None)):
            return to_plain(method())
    raise TypeError(f"a prediction of type {type(value).__name__} cannot be written as JSON")


def _from_numpy(np: ModuleType, value: Any) -> Any:
    if value.dtype.kind in "mM":
        return np.where(np.isnat(value), None, value.astype(str)).tolist()
    plain = value.tolist()
    if value.dtype.kind in "biuU" or (value.dtype.kind == "f" and bool(np.isfinite(value).all())):
        return plain
    return to_plain(plain)


def _is_pandas(pd: ModuleType, value: Any) -> bool:
    return value is pd.NaT or value is pd.NA or isinstance(value, pd.DataFrame | pd.Series | pd.Index)


def _from_pandas(pd: ModuleType, value: Any) -> Any:
    if isinstance(value, pd.Series):
        value = value.to_frame()
    if isinstance(value, pd.DataFrame):
        return to_plain(value.to_dict(orient="records"))
    return to_plain(value.tolist()) if isinstance(value, pd.Index) else None
