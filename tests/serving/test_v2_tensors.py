from __future__ import annotations

import datetime
import math
import struct
from typing import Any

import numpy as np
import pytest

from stackkit.serving.errors import BadRequestError
from stackkit.serving.v2_tensors import DTYPES, decode, encode


def entry(datatype: Any, data: Any = None, shape: Any = None, **parameters: Any) -> dict[str, Any]:
    shape = [len(data)] if shape is None else shape
    return {"name": "x", "datatype": datatype, "shape": shape, "data": data, "parameters": parameters}


SAMPLES: dict[str, list[Any]] = {
    **{name: [0, 1, 100] for name in DTYPES},
    "BOOL": [True, False, True],
    "INT64": [-(2**63), 2**53 + 1, 2**63 - 1],
    "UINT64": [0, 2**64 - 1, 2**63],
    "FP16": [0.5, -2.0, None],
    "FP32": [0.5, -2.0, None],
    "FP64": [0.1, 1e300, None],
    "BYTES": ["a", "é", ""],
}


@pytest.mark.parametrize("datatype", DTYPES)
def test_every_datatype_goes_there_and_back(datatype: str) -> None:
    data = SAMPLES[datatype]
    array = decode(entry(datatype, data), None)
    assert array.dtype == np.dtype(DTYPES[datatype])
    reply, raw = encode("x", array, is_binary=False)
    assert raw == b""
    assert reply == {"name": "x", "shape": [3], "datatype": datatype, "data": data}


@pytest.mark.parametrize("datatype", DTYPES)
def test_every_datatype_goes_there_and_back_in_binary_form(datatype: str) -> None:
    array = decode(entry(datatype, SAMPLES[datatype]), None)
    reply, raw = encode("x", array, is_binary=True)
    assert reply["parameters"] == {"binary_data_size": len(raw)}
    assert "data" not in reply
    again = decode(entry(datatype, shape=[3]), raw)
    assert again.dtype == array.dtype
    texts = [each.decode() if isinstance(each, bytes) else each for each in again.tolist()]
    np.testing.assert_array_equal(texts, array.tolist())


def test_binary_data_is_little_endian_and_row_major() -> None:
    raw = struct.pack("<6h", 1, 2, 3, 4, 5, 6)
    assert decode(entry("INT16", shape=[2, 3]), raw).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert encode("x", np.array([[1, 2], [3, 4]], dtype=">i2").T, is_binary=True)[1] == struct.pack("<4h", 1, 3, 2, 4)
    assert decode(entry("BYTES", shape=[2]), b"\x01\x00\x00\x00a\x00\x00\x00\x00").tolist() == [b"a", b""]


def test_an_integer_may_be_written_with_a_fraction_of_zero() -> None:
    array = decode(entry("INT64", [1.0, -2, 2.0**53]), None)
    assert (array.dtype, array.tolist()) == (np.dtype("int64"), [1, -2, 2**53])


@pytest.mark.parametrize(("datatype", "largest"), [("FP16", 65504.0), ("FP32", (2 - 2**-23) * 2.0**127)])
def test_what_is_a_little_too_large_is_not_rounded_down(datatype: str, largest: float) -> None:
    assert decode(entry(datatype, [largest]), None).tolist() == [largest]
    with pytest.raises(BadRequestError, match="in its range"):
        decode(entry(datatype, [math.nextafter(largest, math.inf)]), None)


def test_bfloat_is_taken_in_binary_form() -> None:
    assert decode(entry("BF16", shape=[2]), struct.pack("<2H", 0x3F80, 0xC000)).tolist() == [1.0, -2.0]
    with pytest.raises(BadRequestError):
        decode(entry("BF16", [1.0]), None)


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]]])
def test_data_may_be_nested_or_flat(data: list[Any]) -> None:
    assert decode(entry("INT64", data, [2, 2]), None).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("shape", [[0], [0, 3], [3, 0], [0, 2**31 - 1]])
def test_there_may_be_no_values(shape: list[int]) -> None:
    assert decode(entry("FP32", [], shape), None).shape == tuple(shape)


def test_bytes_may_be_sent_as_base64() -> None:
    assert decode(entry("BYTES", ["aGk=", None], content_type="base64"), None).tolist() == [b"hi", None]
    with pytest.raises(BadRequestError, match="text that is not base64"):
        decode(entry("BYTES", ["98765"], content_type="base64"), None)


def test_bytes_are_answered_as_base64() -> None:
    reply, _ = encode("x", np.array([b"\xff", "a"], dtype=object), is_binary=False)
    assert reply["data"] == ["/w==", "YQ=="]
    assert reply["parameters"] == {"content_type": "base64"}


def test_what_has_no_datatype_is_text() -> None:
    values = np.array([None, {"a": 1}, datetime.date(2024, 1, 2), 1.5], dtype=object)
    assert encode("x", values, is_binary=False)[0]["data"] == [None, '{"a": 1}', "2024-01-02", "1.5"]
    dates = np.array(["2024-01-02", "NaT"], dtype="datetime64[s]")
    assert encode("x", dates, is_binary=False)[0]["data"] == ["2024-01-02T00:00:00", None]


@pytest.mark.parametrize(
    ("given", "raw"),
    [
        (entry("INT32", [98765.5]), None),
        (entry("INT64", [98765e300]), None),
        (entry("INT32", [True]), None),
        (entry("INT32", ["98765"]), None),
        (entry("INT32", [None]), None),
        (entry("INT8", [98765]), None),
        (entry("UINT8", [-98765]), None),
        (entry("UINT64", [2**64]), None),
        (entry("BOOL", [1]), None),
        (entry("FP32", [1e300]), None),
        (entry("FP16", [98765]), None),
        (entry("FP64", [10**400]), None),
        (entry("FP64", ["98765"]), None),
        (entry("BYTES", [98765]), None),
        (entry("INT64", [1, 2, 3], [2]), None),
        (entry("INT64", [[1, 2], [3]], [2, 2]), None),
        (entry("INT64", [[1, 2], [3, 4]], [4]), None),
        (entry("INT64", [1], [-1]), None),
        (entry("INT64", [1], "98765"), None),
        (entry("INT64", [1], [True]), None),
        (entry("INT64", None, [1]), None),
        (entry("INT24", [1]), None),
        (entry("INT64", [1], [1] * 65), None),
        (entry("INT64", [], [0] + [2**31 - 1] * 3), None),
        (entry("INT64", [], [2**31 - 1, 0]), None),
        (entry("INT64", [], [1000, 1000, 0, 1]), None),
        (entry(["INT8"], [1]), None),
        (entry("INT32", shape=[1]), b"98765"),
        (entry("INT32", shape=[2]), b"1234"),
        (entry("BYTES", shape=[1]), b"\x05\x00\x00\x00987"),
        (entry("BYTES", shape=[1]), b"\x05\x00"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], raw: bytes | None) -> None:
    with pytest.raises(BadRequestError) as caught:
        decode(given, raw)
    assert "98765" not in caught.value.message
