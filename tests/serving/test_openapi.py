"""The OpenAPI document and the page that shows it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from stackkit.serving import inputs as serving_inputs
from stackkit.serving.app import App
from stackkit.serving.models import PreparedInput
from stackkit.serving.payloads import Payload
from stackkit.serving.schemas import request_schema
from stackkit.serving.signature import Column, DataType, Param, Signature, Tensor
from stackkit.serving.v2_schemas import inference_example

COLUMNS = Signature(
    inputs=tuple(Column(kind, str(kind), required=kind is not DataType.BINARY) for kind in DataType),
    params=(Param(DataType.LONG, "k", 3), Param(DataType.STRING, "tags", ["x"], is_list=True)),
)
SIGNATURES = {
    "columns": COLUMNS,
    "nameless columns": Signature(inputs=(Column(DataType.DOUBLE), Column(DataType.STRING))),
    "tensor": Signature(inputs=(Tensor("float32", (-1, 2, -1)),)),
    "named tensors": Signature(inputs=(Tensor("uint8", (-1, 2), "x"), Tensor("bool", (-1,), "y"))),
    "example": Signature(inputs=COLUMNS.inputs, example={"dataframe_records": [{"double": 1}]}),
    "nothing": Signature(),
}


class Counter:
    """Predicts nothing but how many rows it was given."""

    name = "test"
    chat_keys: frozenset[str] = frozenset()
    is_rowwise = False

    def __init__(self, signature: Signature) -> None:
        self.signature = signature

    def prepare(self, data: Payload, params: Mapping[str, Any] | None) -> PreparedInput:
        return serving_inputs.prepare(data, params, self.signature)

    def predict_prepared(self, prepared: Sequence[PreparedInput]) -> Any:
        return [each.rows for each in prepared]

    def predict(self, data: Payload, params: Mapping[str, Any] | None) -> Any:
        return self.predict_prepared([self.prepare(data, params)])


INFER = "/v2/models/{model}/infer"


def body_of(document: Any, path: str = "/invocations") -> Any:
    return document["paths"][path]["post"]["requestBody"]["content"]["application/json"]


@pytest.mark.parametrize("path", ["/invocations", INFER])
@pytest.mark.parametrize("name", sorted(SIGNATURES.keys() - {"example"}))
def test_the_example_is_answered_and_fits_the_schema(
    name: str, path: str, serve_model: Callable[..., App], call: Callable[..., Any]
) -> None:
    app = serve_model(Counter(SIGNATURES[name]))
    content = body_of(call(app, "/openapi.json", method="GET").content, path)
    assert call(app, path.replace("{model}", "model"), body=content["example"]).status == 200
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(content["schema"])
    jsonschema.Draft202012Validator(content["schema"]).validate(content["example"])


def test_the_example_is_the_one_that_the_model_was_saved_with(
    serve_model: Callable[..., App], call: Callable[..., Any]
) -> None:
    document = call(serve_model(Counter(SIGNATURES["example"])), "/openapi.json", method="GET").content
    assert body_of(document)["example"] == {"dataframe_records": [{"double": 1}]}


ROW = {"boolean": True, "integer": 1, "long": "2", "float": 1, "double": "0.5", "string": None, "datetime": 0}


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        ({"dataframe_records": [ROW]}, True),
        ({"inputs": [ROW], "params": {"k": 1, "tags": ["a"]}}, True),
        ({"instances": [{**ROW, "binary": "aGk="}], "extra": 1}, True),
        ({"dataframe_records": [{**ROW, "long": 1.5}]}, False),
        ({"dataframe_records": [{**ROW, "boolean": "false"}]}, False),
        ({"dataframe_records": [{**ROW, "binary": "***"}]}, False),
        ({"dataframe_records": [{"long": 1}]}, False),
        ({"inputs": [ROW], "params": {"k": "1"}}, False),
        ({"inputs": [ROW], "instances": [ROW]}, False),
        ({}, False),
    ],
)
def test_the_schema_says_what_the_server_does(
    serve_model: Callable[..., App], call: Callable[..., Any], body: dict[str, Any], fits: bool
) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    app = serve_model(Counter(COLUMNS))
    schema = body_of(call(app, "/openapi.json", method="GET").content)["schema"]
    assert jsonschema.Draft202012Validator(schema).is_valid(body) is fits
    assert call(app, body=body).status == (200 if fits else 400)


OPTIONAL = tuple(Column(kind, str(kind), required=False) for kind in (DataType.LONG, DataType.BOOLEAN, DataType.DOUBLE))


@pytest.mark.parametrize(
    ("inputs", "body", "fits"),
    [
        ((Column(DataType.DOUBLE, "a"),), {"inputs": [1, None]}, True),
        ((Column(DataType.DOUBLE, "a"),), {"instances": []}, True),
        ((Column(DataType.DOUBLE, "a"),), {"dataframe_split": {"columns": ["a"], "data": [1, 2]}}, True),
        ((Column(DataType.DOUBLE, "a"),), {"dataframe_split": {"columns": ["a"], "data": []}}, True),
        ((Column(DataType.DOUBLE, "a"),), {"dataframe_records": []}, False),
        ((Column(DataType.STRING, "a"),), {"dataframe_records": [{"a": {}}]}, False),
        ((Column(DataType.DATETIME, "a"),), {"dataframe_records": [{"a": 992.0}, {"a": "2000-01-01"}]}, True),
        (OPTIONAL, {"dataframe_records": [{"long": 1, "double": 1}, {"boolean": True}]}, False),
        (OPTIONAL, {"dataframe_records": [{"long": 1, "boolean": True, "double": 1}, {"long": 1, "boolean": 0}]}, True),
        (OPTIONAL, {"inputs": [{"long": 1, "boolean": True, "double": 1}, {"long": 1, "boolean": 0}]}, False),
        (OPTIONAL, {"inputs": [{"double": None}]}, True),
        ((Tensor("float32", (-1,)),), {"inputs": []}, True),
        ((Tensor("float32", (-1, 1)),), {"inputs": [[None]]}, True),
    ],
)
def test_null_and_what_is_left_out(
    serve_model: Callable[..., App],
    call: Callable[..., Any],
    inputs: tuple[Column, ...] | tuple[Tensor, ...],
    body: dict[str, Any],
    fits: bool,
) -> None:
    """By a model that says nothing against it."""
    jsonschema = pytest.importorskip("jsonschema")
    app = serve_model(Counter(Signature(inputs)))
    schema = body_of(call(app, "/openapi.json", method="GET").content)["schema"]
    assert jsonschema.Draft202012Validator(schema).is_valid(body) is fits
    assert call(app, body=body).status == (200 if fits else 400)


def test_what_the_models_class_refuses_is_not_in_the_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    signature = Signature((Column(DataType.DOUBLE, "a"),), takes_null=False, takes_no_rows=False)
    validator = jsonschema.Draft202012Validator(request_schema(signature))
    assert validator.is_valid({"inputs": [1.5]})
    for body in ({"inputs": [None]}, {"inputs": []}, {"dataframe_split": {"columns": ["a"], "data": []}}):
        assert not validator.is_valid(body)


def one(name: str, datatype: str, value: Any, shape: Sequence[int] = (1,)) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape), "data": [value]}


A, B = one("a", "FP64", 1.5), one("b", "INT64", 1)
PAIR = (Column(DataType.DOUBLE, "a"), Column(DataType.LONG, "b", required=False))


@pytest.mark.parametrize(
    ("inputs", "body", "fits"),
    [
        (PAIR, {"inputs": [A, B]}, True),
        (PAIR, {"inputs": [A]}, True),
        (PAIR, {"inputs": [A, B], "id": "7", "parameters": {"k": None, "other": []}}, True),
        (PAIR, {"inputs": [A, B], "outputs": [{"name": "sum"}]}, True),
        (PAIR, {"inputs": [A | {"data": [None]}]}, True),
        (PAIR, {"inputs": [B]}, False),
        (PAIR, {"inputs": [A, B | {"name": "c"}]}, False),
        (PAIR, {"inputs": [A, B, one("c", "INT64", 1)]}, False),
        (PAIR, {"inputs": []}, False),
        (PAIR, {"inputs": [A, B | {"data": [None]}]}, False),
        (PAIR, {"inputs": [A, B | {"data": [1.5]}]}, False),
        (PAIR, {"inputs": [A, B], "id": 7}, False),
        (PAIR, {"inputs": [A, B], "parameters": {"k": "1"}}, False),
        (PAIR, {"inputs": [A, B], "outputs": [{"name": "difference"}]}, False),
        (PAIR, {"inputs": [A, B], "outputs": []}, True),
        (PAIR, {"inputs": [A, B], "outputs": {}}, False),
        (PAIR, {"inputs": [A, B | {"data": [1.0]}]}, True),
        ((Column(DataType.BINARY, "a"),), {"inputs": [one("a", "BYTES", "Yg==")]}, True),
        ((Column(DataType.BINARY, "a"),), {"inputs": [one("a", "BYTES", "b")]}, False),
        ((Column(DataType.DATETIME, "a"),), {"inputs": [one("a", "BYTES", "yesterday")]}, False),
        ((Tensor("float32", (-1, 1)),), {"inputs": [one("any", "FP32", [0.5], (1, 1))]}, True),
        ((Tensor("float32", (-1, 1)),), {"inputs": [one("any", "FP32", 1e39, (1, 1))]}, False),
        ((Tensor("uint8", (-1,), "x"),), {"inputs": [one("any", "UINT8", 255)]}, True),
        ((Tensor("uint8", (-1,), "x"),), {"inputs": [one("any", "UINT8", 256)]}, False),
        ((Tensor("int8", (-1,), "x"), Tensor("bool", (-1,), "y")), {"inputs": [one("x", "INT8", 1)]}, False),
        (None, {"inputs": [one("any", "INT16", 1), one("other", "BYTES", "a")]}, True),
        (None, {"inputs": [one("any", "INT16", 1) | {"datatype": "INT24"}]}, False),
    ],
)
def test_what_fits_the_schema_of_inference_is_answered_and_what_does_not_is_refused(
    serve_model: Callable[..., App],
    call: Callable[..., Any],
    inputs: tuple[Column, ...] | tuple[Tensor, ...] | None,
    body: dict[str, Any],
    fits: bool,
) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    outputs = (Column(DataType.LONG, "sum"),)
    app = serve_model(Counter(Signature(inputs, outputs=outputs, params=(Param(DataType.LONG, "k", 3),))))
    schema = body_of(call(app, "/openapi.json", method="GET").content, INFER)["schema"]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert jsonschema.Draft202012Validator(schema).is_valid(body) is fits
    assert call(app, "/v2/models/model/infer", body=body).status == (200 if fits else 400)


@pytest.mark.parametrize("name", SIGNATURES)
def test_what_is_said_of_the_model_and_what_it_answers_fit_their_schemas(
    name: str, serve_model: Callable[..., App], call: Callable[..., Any]
) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    app = serve_model(Counter(SIGNATURES[name]))
    document = call(app, "/openapi.json", method="GET").content
    for method, path in (("GET", "/v2/models/{model}"), ("POST", INFER)):
        operation = document["paths"][path][method.lower()]
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        body = None if method == "GET" else body_of(document, path)["example"]
        reply = call(app, path.replace("{model}", "model"), body=body, method=method)
        jsonschema.Draft202012Validator(schema).validate(reply.content)


def test_a_scoring_request_of_rows_makes_an_example_of_inference() -> None:
    """For a model that has no signature, and knows how wide its rows are."""
    (tensor,) = inference_example(None, {"inputs": [[0.0] * 3]})["inputs"]
    assert (tensor["datatype"], tensor["shape"], tensor["data"]) == ("FP64", [1, 3], [0.0] * 3)


def test_a_model_with_type_hints_takes_inputs_alone() -> None:
    schema = request_schema(Signature((Column(DataType.STRING),), has_type_hints=True))
    assert [form["title"] for form in schema["oneOf"]] == ["inputs"]


def test_a_model_without_signature_is_described_too(make_app: Callable[..., App], call: Callable[..., Any]) -> None:
    document = call(make_app(len), "/openapi.json", method="GET").content
    assert document["info"]["title"] == "model"
    assert len(body_of(document)["schema"]["oneOf"]) == 4


def test_there_is_no_description_while_the_model_loads(
    serve_model: Callable[..., App], call: Callable[..., Any]
) -> None:
    assert call(serve_model(None), "/openapi.json", method="GET").status == 503


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_page_is_complete_in_itself(make_app: Callable[..., App], call: Callable[..., Any], path: str) -> None:
    reply = call(make_app(len), path, method="GET")
    page = reply.body.decode()
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "//" not in re.sub(r"<!.*?>", "", page)
    (script,) = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = reply.headers["content-security-policy"]
    assert policy.startswith(f"default-src 'none'; script-src 'sha256-{digest}';")
    assert "innerHTML" not in script
