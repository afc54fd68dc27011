"""The cast by the signature: the same as MLflow's where MLflow loses nothing, refused where it does."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackkit.serving import inputs
from stackkit.serving.casting import cast_payload
from stackkit.serving.errors import BadRequestError, InvalidInputError, RequestError
from stackkit.serving.payloads import Payload, Shape, decode_json
from stackkit.serving.signature import Signature

COLUMNS = [
    {"type": "long", "name": "i"},
    {"type": "double", "name": "d"},
    {"type": "string", "name": "s"},
    {"type": "boolean", "name": "t"},
    {"type": "float", "name": "f", "required": False},
    {"type": "datetime", "name": "when", "required": False},
    {"type": "binary", "name": "raw", "required": False},
]
TYPED = {"inputs": json.dumps([{"required": True, **column} for column in COLUMNS])}
NUMBERS = {"inputs": '[{"type": "double", "name": "a"}, {"type": "double", "name": "b"}]'}
UNNAMED = {"inputs": '[{"type": "double"}, {"type": "long"}]'}
UNNAMED_TEXT = {"inputs": '[{"type": "string"}]'}
ONE = {"inputs": '[{"type": "string", "name": "kind"}]'}
MATRIX = {"inputs": '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}]'}
NAMED = {
    "inputs": '[{"name": "x", "type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}},'
    ' {"name": "y", "type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]'
}
ROW = {"i": 1, "d": 1.5, "s": "x", "t": True}


def payload_of(request: dict[str, Any]) -> Payload:
    ((key, value),) = request.items()
    return Payload(Shape(key), value.encode() if key == "csv" else value)


def decoded(request: dict[str, Any]) -> Payload:
    return payload_of(request) if "csv" in request else decode_json(json.dumps(request).encode())[0]


def cast(request: dict[str, Any], signature: dict[str, str]) -> Any:
    return inputs.join([inputs.prepare(decoded(request), None, Signature.from_mlflow(signature))])[0]


SAME = [
    (TYPED, {"dataframe_records": [ROW]}),
    (TYPED, {"dataframe_records": [{**ROW, "s": None}]}),
    (TYPED, {"dataframe_records": [{**ROW, "s": None}, ROW]}),
    (TYPED, {"dataframe_records": [{**ROW, "s": 5}]}),
    (TYPED, {"dataframe_records": [{**ROW, "d": None}, {**ROW, "d": "2.5"}]}),
    (TYPED, {"dataframe_records": [{**ROW, "i": "7", "d": 2, "t": 1}]}),
    (TYPED, {"dataframe_records": [{**ROW, "i": 2**53 + 1}]}),
    (TYPED, {"dataframe_records": [{**ROW, "f": 0.1, "when": "2024-01-02", "raw": "aGk="}]}),
    (TYPED, {"dataframe_records": [{**ROW, "f": 0.1}, ROW]}),
    (TYPED, {"dataframe_records": [{"extra": [1], **dict(reversed(ROW.items()))}]}),
    (TYPED, {"dataframe_split": {"columns": list(ROW), "index": [7], "data": [list(ROW.values())]}}),
    (TYPED, {"inputs": [ROW, {**ROW, "i": 2}]}),
    (TYPED, {"inputs": [{**ROW, "s": 5}]}),
    (TYPED, {"inputs": {name: [value, value] for name, value in ROW.items()}}),
    (TYPED, {"inputs": {**{name: [value] for name, value in ROW.items()}, "when": ["2024-01-02T03:04:05"]}}),
    (TYPED, {"instances": [{**ROW, "f": 1.5}]}),
    (TYPED, {"csv": "i,d,s,t\n1,1.5,x,True\n2,,y,false\n"}),
    (NUMBERS, {"dataframe_records": [{"a": 1.0, "b": 2}, {"b": 4, "a": 3.5}]}),
    (NUMBERS, {"dataframe_split": {"columns": ["b", "a"], "data": [[1, 2], [3, 4]]}}),
    (NUMBERS, {"dataframe_split": {"columns": ["b", "a"], "index": ["u", "v"], "data": [[1, 2], [3, 4]]}}),
    (NUMBERS, {"dataframe_split": {"columns": ["a", "b"], "data": []}}),
    (NUMBERS, {"dataframe_split": {"columns": ["a", "b", "z", "z", None], "data": [[1, 2, 3, 4, 5]]}}),
    (NUMBERS, {"dataframe_split": {"columns": ["b", "a"], "data": {"a": [1.5, 2], "b": [2, 3], "z": [0, 0]}}}),
    (NUMBERS, {"dataframe_split": {"data": {"a": [1.5], "b": [2]}, "index": ["u"]}}),
    (NUMBERS, {"dataframe_split": {"columns": ["a", "b"], "data": [{"b": 1, "a": 2.5}, {"b": 1}]}}),
    (NUMBERS, {"inputs": {"a": 1, "b": 2}}),
    (NUMBERS, {"inputs": {"a": [1, 2], "b": 3}}),
    (NUMBERS, {"csv": "b,zz,a\n1,x,2\n"}),
    (UNNAMED, {"dataframe_split": {"data": [[1.5, 2], [3, 4]]}}),
    (UNNAMED, {"dataframe_split": {"columns": ["u", "v", "w"], "data": [[1.5, 2, 0]]}}),
    (UNNAMED, {"csv": "u,v\n1,2\n3.5,4\n"}),
    (UNNAMED_TEXT, {"csv": "u\n1\n"}),
    (UNNAMED_TEXT, {"inputs": "a"}),
    (UNNAMED_TEXT, {"instances": 1}),
    (UNNAMED_TEXT, {"inputs": ["a", "b"]}),
    (ONE, {"dataframe_records": [{"kind": float("nan")}, {"kind": "x"}]}),
    (ONE, {"dataframe_records": [{"kind": float("nan")}]}),
    (ONE, {"dataframe_records": [{"kind": float("nan")}, {"kind": 1}]}),
    (ONE, {"inputs": ["a", "b"]}),
    (ONE, {"instances": ["a", "b"]}),
    (ONE, {"dataframe_split": {"columns": ["kind"], "data": ["a", "b"]}}),
    (MATRIX, {"inputs": [[1, 2], [3, 4.5]]}),
    (MATRIX, {"instances": [["1", "2"]]}),
    (MATRIX, {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]]}}),
    (MATRIX, {"dataframe_records": [{"x": [1, 2]}, {"x": [3, 4]}]}),
    (MATRIX, {"dataframe_split": {"data": [{"b": 1, "a": 2.5}]}}),
    (NAMED, {"inputs": {"x": [[1, 2]], "y": [3], "extra": [4]}}),
    (NAMED, {"instances": [{"x": [1, 2], "y": 3}, {"x": [1, 2], "y": 3}]}),
    (NAMED, {"dataframe_records": [{"x": [1, 2], "y": 3}]}),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("signature", "request_body"), SAME)
def test_what_loses_nothing_is_cast_as_mlflow_casts_it(signature: dict[str, str], request_body: dict[str, Any]) -> None:
    pytest.importorskip("mlflow")
    from mlflow.models import ModelSignature
    from mlflow.models.utils import _enforce_schema

    from stackkit.serving.loaders.mlflow_casting import cast_as_mlflow

    schema = ModelSignature.from_dict(signature).inputs
    expected = _enforce_schema(cast_as_mlflow(payload_of(request_body), schema), schema)
    _assert_same(cast(request_body, signature), expected)


def _assert_same(given: Any, expected: Any) -> None:
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(given, expected, check_column_type=False)
    elif isinstance(expected, dict):
        assert list(given) == list(expected)
        for name, values in expected.items():
            _assert_same(given[name], values)
    else:
        assert given.dtype == expected.dtype
        np.testing.assert_array_equal(given, expected)


@pytest.mark.parametrize(
    ("signature", "request_body", "message"),
    [
        (TYPED, {"dataframe_records": [ROW, {**ROW, "i": 98765.5}]}, "column i, row 1 is not of type long"),
        (TYPED, {"inputs": [ROW, {**ROW, "i": 98765.5}]}, "column i, row 1 is not of type long"),
        (TYPED, {"instances": [ROW, {**ROW, "t": "98765"}]}, "column t, row 1 is not of type boolean"),
        (TYPED, {"inputs": [{**ROW, "t": None}]}, "column t, row 0 is not of type boolean: it is null"),
        (TYPED, {"inputs": [{**ROW, "raw": "98765"}]}, "column raw, row 0 is not of type binary"),
        (TYPED, {"inputs": [{**ROW, "f": 1.5}, ROW]}, "Not all rows of inputs have a value for f"),
        (TYPED, {"csv": "i,d,s,t\n1,1,x,True\n98765.5,1,x,True\n"}, "column i, row 1 is not of type long"),
        (TYPED, {"csv": "i,d,s,t\n1,1,x,\n"}, "not a CSV table"),
        (TYPED, {"csv": "i,d,s,t,when\n1,1,x,True,2024-01-02\n"}, "dates of column when cannot be sent as CSV"),
        (TYPED, {"csv": "i,d,s,t,f\n1,1,x,True,1e300\n"}, "column f, row 0 is not of type float: it is too large"),
        (NUMBERS, {"csv": "a,b\n1,2\n98765x,3\n"}, "column a, row 1 is not of type double"),
        (NUMBERS, {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3]]}}, "not as long as its columns"),
        (NUMBERS, {"inputs": [3, [1, 2]]}, "not as long as its columns"),
        (NUMBERS, {"instances": [[1, 2], 3]}, "not as long as its columns"),
        (NUMBERS, {"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}, "must be different names"),
        (NUMBERS, {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]], "index": []}}, "index"),
        (NUMBERS, {"dataframe_split": {"columns": ["a", "b", ["z"]], "data": [[1, 2, 3]]}}, "must be different names"),
        (NUMBERS, {"dataframe_split": {"data": {"a": [98765, 1], "b": [2]}}}, "not lists of one length"),
        (NUMBERS, {"dataframe_split": {"data": {"a": 98765, "b": 2}}}, "not lists of one length"),
        (NUMBERS, {"dataframe_split": {"columns": ["a"], "data": {"b": [98765]}}}, "have none of its columns"),
        (NUMBERS, {"dataframe_split": {"data": {}}}, "have none of its columns"),
        (NUMBERS, {"dataframe_split": {"data": [{"a": 98765, "b": 2}, [1, 2]]}}, "are objects, and others are not"),
        (NUMBERS, {"dataframe_records": [{"a": 98765, "b": 2}, None]}, "are objects, and others are not"),
        (NUMBERS, {"inputs": [{"a": 98765, "b": 2}, 1]}, "are objects, and others are not"),
        (MATRIX, {"dataframe_records": [{"a": 98765, "b": 2}, None]}, "are objects, and others are not"),
        (MATRIX, {"dataframe_records": [None]}, "has the shape (1,)"),
        (NUMBERS, {"inputs": {"a": [98765, 1], "b": [2]}}, "not lists of one length"),
        (MATRIX, {"inputs": {"x": [[1, 2]]}}, "the model takes one array without"),
        (NAMED, {"instances": {"x": [[1, 2]], "y": [3, 4]}}, "not lists of one length"),
    ],
)
def test_what_would_change_is_refused(signature: dict[str, str], request_body: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        cast(request_body, signature)
    assert caught.value.status == 400
    assert message in caught.value.message
    assert "98765" not in caught.value.message


@pytest.mark.parametrize(
    ("signature", "request_body", "lacking"),
    [
        (NUMBERS, {"dataframe_records": []}, "It lacks a, b."),
        (NUMBERS, {"dataframe_records": [{"a": 98765}]}, "It lacks b."),
        (NUMBERS, {"dataframe_split": {"data": [[98765, 1]]}}, "It lacks a, b."),
        (NUMBERS, {"inputs": [[98765, 1]]}, "It lacks a, b."),
        (NUMBERS, {"inputs": None}, "It lacks a, b."),
        (NUMBERS, {"inputs": "98765"}, "It lacks a, b."),
        (NUMBERS, {"csv": "x,y\n98765,1\n"}, "It lacks a, b."),
        (NAMED, {"inputs": {"x": [[98765, 1]]}}, "It lacks y."),
        (NAMED, {"inputs": [[98765, 1]]}, "It lacks x, y."),
        (UNNAMED, {"inputs": 98765}, "The input has 1 columns, where the model takes 2."),
        (UNNAMED_TEXT, {"inputs": None}, "The input has 0 columns, where the model takes 1."),
        (MATRIX, {"inputs": None}, "where the model takes an array: float64 tensor of shape (-1, 2)."),
        (UNNAMED, {"dataframe_split": {"data": [[98765]]}}, "The input has 1 columns, where the model takes 2."),
        (MATRIX, {"dataframe_records": []}, "The input has no rows."),
    ],
)
def test_what_is_missing_is_named(signature: dict[str, str], request_body: dict[str, Any], lacking: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        cast(request_body, signature)
    assert caught.value.message.endswith(lacking)
    assert "98765" not in caught.value.message


@pytest.mark.parametrize("key", ["dataframe_records", "inputs", "instances"])
def test_bytes_dates_and_null_are_the_same_in_every_shape(key: str) -> None:
    row = {**ROW, "s": None, "raw": "aGk=", "when": "2024-01-02T03:00:00+02:00"}
    frame = cast({key: [row]}, TYPED)
    assert frame["raw"].tolist() == [b"hi"]
    assert frame["when"].tolist() == [pd.Timestamp("2024-01-02T01:00:00")]
    assert frame["s"].isna().all()


def test_parquet_is_cast_too() -> None:
    pytest.importorskip("pyarrow")
    rows = pd.DataFrame({"b": [1, 2], "extra": ["x", "y"], "a": [0.5, 1.5]})
    frame = cast_payload(Payload(Shape.PARQUET, rows.to_parquet()), Signature.from_mlflow(NUMBERS))
    assert {name: values.tolist() for name, values in frame.columns.items()} == {"a": [0.5, 1.5], "b": [1.0, 2.0]}
    fractions = Payload(Shape.PARQUET, pd.DataFrame({"i": [0.5], "d": [1], "s": ["x"], "t": [True]}).to_parquet())
    with pytest.raises(BadRequestError, match="column i, row 0 is not of type long: it has a fraction"):
        cast_payload(fractions, Signature.from_mlflow(TYPED))


def test_dates_of_parquet_are_moments() -> None:
    pytest.importorskip("pyarrow")
    body = pd.DataFrame([{**ROW, "when": date(2024, 1, 2)}, {**ROW, "when": None}]).to_parquet()
    when = cast_payload(Payload(Shape.PARQUET, body), Signature.from_mlflow(TYPED)).columns["when"]
    assert (str(when.dtype), when.tolist()) == ("datetime64[ns]", [pd.Timestamp("2024-01-02"), pd.NaT])


def test_without_a_signature_arrays_are_made_and_tables_left_to_pandas() -> None:
    def as_it_came(request: dict[str, Any]) -> Any:
        return cast_payload(payload_of(request), Signature())

    assert as_it_came({"inputs": [[1, 2]]}).tolist() == [[1, 2]]
    assert as_it_came({"inputs": "a"}).shape == ()
    assert as_it_came({"inputs": [{"x": 1}]}) == [{"x": np.array(1)}]
    assert as_it_came({"instances": [{"x": 1}, {"x": 2}]})["x"].tolist() == [1, 2]
    assert as_it_came({"inputs": {"x": [1], "y": [1, 2]}})["y"].tolist() == [1, 2]
    assert as_it_came({"inputs": {"x": 1}}) == {"x": np.array(1)}
    assert repr(as_it_came({"instances": [{"x": None}]})["x"]) == "array([array(None, dtype=object)], dtype=object)"
    assert as_it_came({"dataframe_records": [{"x": 1, "y": "a"}]}).to_dict("list") == {"x": [1], "y": ["a"]}
    for uneven in ([[1], [1, 2]], [{"x": 1}, {"y": 2}], {"x": [1], "y": [1, 2]}, {"x": 1}):
        with pytest.raises(BadRequestError):
            as_it_came({"instances": uneven})


def test_rows_of_equal_keys_are_joined() -> None:
    signature = Signature.from_mlflow(TYPED)
    first, second, nulled = (
        inputs.prepare(Payload(Shape.RECORDS, [{**ROW, **change}]), None, signature)
        for change in ({}, {"i": 2, "s": "y"}, {"s": None})
    )
    assert first.key is not None
    assert first.key == second.key
    assert nulled.key is None
    frame, params = inputs.join([first, second])
    assert params is None
    pd.testing.assert_frame_equal(frame, cast({"dataframe_records": [ROW, {**ROW, "i": 2, "s": "y"}]}, TYPED))


def test_params_keep_rows_apart() -> None:
    signature = Signature.from_mlflow({**NUMBERS, "params": '[{"name": "k", "type": "long", "default": 3}]'})
    keys = [
        inputs.prepare(Payload(Shape.RECORDS, [{"a": 1, "b": 2}]), params, signature).key
        for params in (None, {"k": 3}, {"k": 4})
    ]
    assert keys[0] == keys[1] != keys[2]
