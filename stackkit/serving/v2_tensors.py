"""Tensors as the Open Inference Protocol (V2) sends them: JSON lists, or raw bytes behind the JSON."""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .errors import BadRequestError
from .replies import to_plain

Array = np.ndarray[Any, Any]

DTYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
}
_BFLOAT = "BF16"
"""Known in binary form only; numpy has no such type, so it is widened to float32."""
_DATATYPES = {np.dtype(name): datatype for datatype, name in DTYPES.items()}
_MOST_EMPTY = 2**16
"""Rows that may be without values: as lists they take memory, and in a request they take none."""
_LENGTH = struct.Struct("<I")
_NONE = type(None)


def datatype_of(dtype: Any) -> str:
    """The protocol's name for numpy's dtype; text, dates and objects are BYTES."""
    return _DATATYPES.get(np.dtype(dtype).newbyteorder("="), "BYTES")


# requests


def decode(entry: Mapping[str, Any], raw: bytes | None) -> Array:
    """One input of a request as an array of its shape; BYTES are an array of text, or of bytes where they were sent
    raw or as base64. ``raw`` is what came in binary form, else None. Raises BadRequestError.
    """
    name, datatype, shape = entry["name"], entry.get("datatype"), _shape(entry)
    if not isinstance(datatype, str) or (datatype not in DTYPES and (datatype != _BFLOAT or raw is None)):
        raise BadRequestError(f"The datatype of the input {name} is none of {', '.join(DTYPES)}.")
    count = math.prod(shape)
    values = _from_raw(raw, datatype, name) if raw is not None else _from_json(_flat(entry, shape), datatype, entry)
    if values.size != count:
        raise BadRequestError(f"The input {name} has {values.size} elements, and its shape {count}.")
    try:
        return values.reshape(shape)
    except ValueError:
        raise BadRequestError(f"The shape of the input {name} is none that an array can have.") from None


def _shape(entry: Mapping[str, Any]) -> tuple[int, ...]:
    shape = entry.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 2**31 for size in shape):
        raise BadRequestError(f"The shape of the input {entry['name']} is not a list of sizes.")
    if 0 in shape and math.prod(shape[: shape.index(0)]) > _MOST_EMPTY:
        raise BadRequestError(f"The shape of the input {entry['name']} has too many rows without values.")
    return tuple(shape)


def _flat(entry: Mapping[str, Any], shape: Sequence[int]) -> list[Any]:
    """Data nested to the shape or flat, both are allowed, as one flat list."""
    name, data = entry["name"], entry.get("data")
    if not isinstance(data, list):
        raise BadRequestError(f"The input {name} has no list named data.")
    is_nested = any(isinstance(each, list) for each in data)
    for depth, size in enumerate(shape[1:] if is_nested else (), 1):
        if not all(isinstance(each, list) and len(each) == size for each in data):
            raise BadRequestError(f"The data of the input {name} is not nested as its shape is, at depth {depth}.")
        data = [value for each in data for value in each]
    return data


def _from_json(flat: list[Any], datatype: str, entry: Mapping[str, Any]) -> Array:
    name, kinds = entry["name"], set(map(type, flat))
    if datatype == "BYTES":
        if not kinds <= {str, _NONE}:
            raise _unfit(name, datatype, "text")
        if _parameters(entry).get("content_type") == "base64":
            flat = [None if text is None else _from_base64(text, name) for text in flat]
        return _objects(flat)
    dtype = np.dtype(DTYPES[datatype])
    if dtype.kind == "b":
        if kinds <= {bool}:
            return np.array(flat, dtype=dtype)
        raise _unfit(name, datatype, "true and false")
    if dtype.kind == "f":
        return _floats(flat, dtype, entry)
    if float in kinds:  # JSON knows but one kind of number: 1.0 is an integer too
        flat = [int(value) if type(value) is float and value.is_integer() else value for value in flat]
        kinds = set(map(type, flat))
    if not kinds <= {int}:
        raise _unfit(name, datatype, "integers")
    limits = np.iinfo(dtype)
    if flat and not limits.min <= min(flat) <= max(flat) <= limits.max:
        raise _unfit(name, datatype, f"integers from {limits.min} to {limits.max}")
    return np.array(flat, dtype=dtype)


def _floats(flat: list[Any], dtype: np.dtype[Any], entry: Mapping[str, Any]) -> Array:
    """Null is NaN, as it is in replies: JSON has no other word for it."""
    name, datatype = entry["name"], entry["datatype"]
    if not set(map(type, flat)) <= {int, float, _NONE}:
        raise _unfit(name, datatype, "numbers")
    try:
        values = np.array(flat, dtype="float64")
    except OverflowError:
        raise _unfit(name, datatype, "numbers in its range") from None
    # not by what becomes infinite: what is a little too large would be rounded down
    if (np.isfinite(values) & (np.abs(values) > np.finfo(dtype).max)).any():
        raise _unfit(name, datatype, "numbers in its range")
    return values.astype(dtype)


def _from_raw(raw: bytes, datatype: str, name: str) -> Array:
    """Little-endian and row-major; each element of BYTES comes after its length."""
    if datatype == "BYTES":
        elements = []
        place = 0
        while place < len(raw):
            start = place + _LENGTH.size
            end = start + _LENGTH.unpack_from(raw, place)[0] if start <= len(raw) else len(raw) + 1
            if end > len(raw):
                raise BadRequestError(f"The binary data of the input {name} ends within an element.")
            elements.append(raw[start:end])
            place = end
        return _objects(elements)
    dtype = np.dtype("uint16" if datatype == _BFLOAT else DTYPES[datatype]).newbyteorder("<")
    if len(raw) % dtype.itemsize:
        raise BadRequestError(f"The binary data of the input {name} is no whole number of elements.")
    values = np.frombuffer(raw, dtype)
    if datatype == _BFLOAT:
        return (values.astype("uint32") << 16).view("float32")
    return values.astype(dtype.newbyteorder("="))


def _from_base64(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequestError(f"The input {name} holds text that is not base64.") from None


def _objects(values: Sequence[Any]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _parameters(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = entry.get("parameters")
    return parameters if isinstance(parameters, dict) else {}


def _unfit(name: str, datatype: str, wanted: str) -> BadRequestError:
    return BadRequestError(f"The input {name} holds values that are no {datatype}: expected {wanted}.")


# replies


def encode(name: str, values: Array, *, is_binary: bool) -> tuple[dict[str, Any], bytes]:
    """One output's entry, and its binary form, which is empty when the data stands in the entry.

    What has no datatype of its own is text: dates as ISO 8601, objects as JSON. Bytes are base64 in JSON, which the
    entry's ``content_type`` says.
    """
    datatype = datatype_of(values.dtype)
    entry: dict[str, Any] = {"name": name, "shape": list(values.shape), "datatype": datatype}
    flat = values.reshape(-1)
    if datatype != "BYTES":
        if is_binary:
            raw = flat.astype(flat.dtype.newbyteorder("<")).tobytes()
            return entry | {"parameters": {"binary_data_size": len(raw)}}, raw
        numbers = flat.tolist()
        if flat.dtype.kind == "f" and not np.isfinite(flat).all():
            numbers = [number if math.isfinite(number) else None for number in numbers]
        return entry | {"data": numbers}, b""
    elements = [_element(value) for value in (to_plain(flat) if flat.dtype.kind in "mM" else flat.tolist())]
    if is_binary:
        pieces = [each if isinstance(each, bytes) else (each or "").encode() for each in elements]
        raw = b"".join(_LENGTH.pack(len(piece)) + piece for piece in pieces)
        return entry | {"parameters": {"binary_data_size": len(raw)}}, raw
    if any(isinstance(each, bytes) for each in elements):
        entry["parameters"] = {"content_type": "base64"}
        elements = [_to_base64(each) for each in elements]
    return entry | {"data": elements}, b""


def _element(value: Any) -> str | bytes | None:
    if value is None or isinstance(value, str | bytes):
        return value
    plain = to_plain(value)
    return plain if isinstance(plain, str | None) else json.dumps(plain, allow_nan=False)


def _to_base64(value: str | bytes | None) -> str | None:
    if value is None:
        return None
    return base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode("ascii")
