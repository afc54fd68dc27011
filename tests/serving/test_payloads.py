"""Bodies of a few kilobytes that would become tables of gigabytes, or keep a reader busy for minutes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stackkit.serving.errors import BadRequestError
from stackkit.serving.payloads import Payload, Shape, decode_json, decode_json_lines, to_frame

MANY = 4000
APART = [{f"c{number}": 1} for number in range(MANY)]
LONG = [[0] * MANY, *[[1]] * MANY]


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_records": APART},
        {"dataframe_records": LONG},
        {"dataframe_split": {"data": APART}},
        {"dataframe_split": {"data": LONG}},
        {"instances": APART},
        {"inputs": APART},
        {"inputs": {"a": [0] * MANY, **{f"c{number}": 1 for number in range(MANY)}}},
    ],
    ids=["records", "lists", "split objects", "split", "instances", "inputs", "columns"],
)
def test_a_table_that_would_be_empty_for_the_most_part_is_refused(body: Any) -> None:
    with pytest.raises(BadRequestError, match="too little in common"):
        decode_json(json.dumps(body).encode())


def test_lines_that_have_no_names_in_common_are_refused() -> None:
    with pytest.raises(BadRequestError, match="too little in common"):
        decode_json_lines("\n".join(map(json.dumps, APART)).encode())


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_records": [{"a": 1}, {"b": 2}]},
        {"dataframe_records": [{"a": 1, "b": 2}] * MANY},
        {"inputs": LONG},
        {"inputs": {"a": [0] * MANY, "b": 1}},
        {"dataframe_split": {"data": [[0] * MANY] * 3000}},
    ],
    ids=["small", "full", "no table", "a single value", "large"],
)
def test_any_other_is_not(body: Any) -> None:
    decode_json(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b",".join([b"a"] * 200) + b"\n1\n", "same name"),
        (b",".join(b"c%d" % number for number in range(MANY)) + b"\n1" * MANY, "too little in common"),
        (b",".join(b"c%d" % number for number in range(MANY)) + b"\r1" * MANY, "too little in common"),
        (b'"' + b"a" * 200_000 + b'",' + b",".join([b"a"] * 200) + b"\n1\n", "is not a CSV table"),
    ],
    ids=["repeated", "sparse", "old line ends", "a long name"],
)
def test_csv_that_would_keep_its_reader_busy_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(BadRequestError, match=message):
        to_frame(Payload(Shape.CSV, body))


def test_csv_may_have_empty_and_repeated_names_and_blank_lines() -> None:
    frame = to_frame(Payload(Shape.CSV, b"\n\na,a," + b"," * 150 + b"\n1,2,3\n\n"))
    assert (list(frame.columns)[:2], len(frame)) == (["a", "a.1"], 1)
