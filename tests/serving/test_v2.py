"""The Open Inference Protocol, spoken to the application in this process."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackkit.serving import inputs
from stackkit.serving.app import App
from stackkit.serving.models import PreparedInput
from stackkit.serving.payloads import Payload
from stackkit.serving.signature import Column, DataType, Param, Signature, Tensor

Call = Callable[..., Any]
Serve = Callable[..., App]

COLUMNS = Signature(
    inputs=(Column(DataType.DOUBLE, "a"), Column(DataType.LONG, "b"), Column(DataType.STRING, "s", required=False)),
    outputs=(Column(DataType.DOUBLE, "sum"),),
    params=(Param(DataType.DOUBLE, "scale", 1.0),),
)
MATRIX = Signature(inputs=(Tensor("float64", (-1, 2)),), outputs=(Tensor("float64", (-1,)),))
NAMED = Signature(inputs=(Tensor("float32", (-1, 2), "x"), Tensor("bool", (-1,), "flag")))


class Model:
    """Does with its input, cast by the signature, what the function does."""

    name = "test"
    chat_keys: frozenset[str] = frozenset()
    is_rowwise = False

    def __init__(self, signature: Signature, function: Callable[[Any, Any], Any]) -> None:
        self.signature = signature
        self._function = function

    def prepare(self, data: Payload, params: Mapping[str, Any] | None) -> PreparedInput:
        return inputs.prepare(data, params, self.signature)

    def predict_prepared(self, prepared: Sequence[PreparedInput]) -> Any:
        return self._function(*inputs.join(prepared))

    def predict(self, data: Payload, params: Mapping[str, Any] | None) -> Any:
        return self.predict_prepared([self.prepare(data, params)])


def add(frame: Any, params: Any) -> Any:
    return ((frame["a"] + frame["b"]) * params["scale"]).to_numpy()


def tensor(name: str, datatype: str, data: list[Any], shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


A, B = tensor("a", "FP64", [1.5, 2.5]), tensor("b", "INT64", [1, 2])
INFER = "/v2/models/model/infer"


@pytest.fixture
def adder(serve_model: Serve) -> App:
    return serve_model(Model(COLUMNS, add))


def test_the_server_describes_itself(adder: App, call: Call) -> None:
    content = call(adder, "/v2", method="GET").content
    assert content["name"] == "stackkit"
    assert content["extensions"] == ["binary_tensor_data"]
    assert call(adder, "/v2/models", method="GET").content == {"models": ["model"]}


@pytest.mark.parametrize("path", ["/v2/models/model", "/v2/models/model/versions/1"])
def test_metadata_come_from_the_signature(adder: App, call: Call, path: str) -> None:
    assert call(adder, path, method="GET").content == {
        "name": "model",
        "versions": ["1"],
        "platform": "stackkit",
        "inputs": [
            {"name": "a", "datatype": "FP64", "shape": [-1]},
            {"name": "b", "datatype": "INT64", "shape": [-1]},
            {"name": "s", "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [{"name": "sum", "datatype": "FP64", "shape": [-1]}],
    }


def test_metadata_of_tensors_and_of_a_model_that_does_not_say(
    serve_model: Serve, make_app: Callable[..., App], call: Call
) -> None:
    content = call(serve_model(Model(MATRIX, add)), "/v2/models/model", method="GET").content
    assert content["inputs"] == [{"name": "input", "datatype": "FP64", "shape": [-1, 2]}]
    assert content["outputs"] == [{"name": "predict", "datatype": "FP64", "shape": [-1]}]
    content = call(make_app(len), "/v2/models/model", method="GET").content
    assert (content["inputs"], content["outputs"]) == ([], [])
    nameless = Signature(inputs=(Column(DataType.LONG), Column(DataType.LONG)))
    content = call(serve_model(Model(nameless, add)), "/v2/models/model", method="GET").content
    assert content["inputs"] == [{"name": "input", "datatype": "INT64", "shape": [-1, 2]}]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_health(adder: App, call: Call, method: str) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/model/ready", "/v2/models/model/versions/1/ready"):
        assert call(adder, path, method=method).status == 200
    assert call(adder, "/v2/models/model/ready", method="GET").content == {"name": "model", "ready": True}


def test_while_the_model_loads(serve_model: Serve, call: Call) -> None:
    app = serve_model(None)
    assert call(app, "/v2/health/live", method="GET").status == 200
    for path in ("/v2/health/ready", "/v2/models/model", "/v2/models/model/ready"):
        reply = call(app, path, method="GET")
        assert (reply.status, reply.content) == (503, {"error": "The model is still loading."})
    assert call(app, INFER, {"inputs": [A, B]}).status == 503


@pytest.mark.parametrize("path", ["/v2/models/other", "/v2/models/model/versions/2", "/v2/nothing"])
def test_what_is_not_there_is_404(adder: App, call: Call, path: str) -> None:
    reply = call(adder, path, method="GET")
    assert reply.status == 404
    assert list(reply.content) == ["error"]
    if path != "/v2/nothing":
        assert call(adder, f"{path}/infer", {"inputs": [A, B]}).status == 404


@pytest.mark.parametrize("path", [INFER, "/v2/models/model/versions/1/infer"])
def test_named_inputs_are_columns(adder: App, call: Call, path: str) -> None:
    reply = call(adder, path, {"id": "7", "inputs": [B, A]})
    assert reply.content == {
        "model_name": "model",
        "model_version": "1",
        "id": "7",
        "outputs": [{"name": "sum", "datatype": "FP64", "shape": [2], "data": [2.5, 4.5]}],
    }


def test_columns_may_have_a_second_axis_of_one(adder: App, call: Call) -> None:
    reply = call(adder, INFER, {"inputs": [tensor("a", "FP32", [1.5, 2.5], [2, 1]), B]})
    assert reply.content["outputs"][0]["data"] == [2.5, 4.5]


def test_a_matrix_as_wide_as_the_columns_will_do(serve_model: Serve, call: Call) -> None:
    signature = Signature(inputs=COLUMNS.inputs[:2], params=COLUMNS.params) if COLUMNS.inputs else None
    assert signature is not None
    app = serve_model(Model(signature, add))
    reply = call(app, INFER, {"inputs": [tensor("anything", "FP64", [1.5, 1, 2.5, 2], [2, 2])]})
    assert reply.content["outputs"] == [{"name": "predict", "datatype": "FP64", "shape": [2], "data": [2.5, 4.5]}]


def test_an_input_that_the_model_does_not_have_is_refused(adder: App, serve_model: Serve, call: Call) -> None:
    reply = call(adder, INFER, {"inputs": [A, B, tensor("c", "FP64", [0.5, 0.5])]})
    assert (reply.status, reply.content["error"]) == (400, "The model has no input c; it has a, b, s.")
    app = serve_model(Model(NAMED, lambda arrays, _: arrays["flag"]))
    x, flag = tensor("x", "FP32", [1, 2], [1, 2]), tensor("flag", "BOOL", [True])
    assert call(app, INFER, {"inputs": [x, flag]}).status == 200
    assert call(app, INFER, {"inputs": [x, flag, tensor("z", "BOOL", [True])]}).status == 400


def test_parameters_reach_the_model_when_it_declares_them(adder: App, call: Call) -> None:
    reply = call(adder, INFER, {"inputs": [A, B], "parameters": {"scale": 2, "priority": 1}})
    assert reply.content["outputs"][0]["data"] == [5.0, 9.0]
    assert call(adder, INFER, {"inputs": [A, B], "parameters": {"scale": "2"}}).status == 400


def test_one_tensor_without_name(serve_model: Serve, call: Call) -> None:
    app = serve_model(Model(MATRIX, lambda array, _: array.sum(axis=1)))
    reply = call(app, INFER, {"inputs": [tensor("input-0", "INT32", [1, 2, 3, 4], [2, 2])]})
    assert reply.content["outputs"] == [{"name": "predict", "datatype": "FP64", "shape": [2], "data": [3.0, 7.0]}]


def test_named_tensors(serve_model: Serve, call: Call) -> None:
    app = serve_model(Model(NAMED, lambda arrays, _: {"y": arrays["x"][arrays["flag"]], "n": [len(arrays["x"])]}))
    body = {"inputs": [tensor("x", "FP32", [1, 2, 3, 4], [2, 2]), tensor("flag", "BOOL", [True, False])]}
    assert call(app, INFER, body).content["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]},
        {"name": "n", "datatype": "INT64", "shape": [1], "data": [2]},
    ]
    only = call(app, INFER, {**body, "outputs": [{"name": "n"}]}).content
    assert [output["name"] for output in only["outputs"]] == ["n"]
    assert call(app, INFER, {**body, "outputs": [{"name": "z"}]}).status == 400


def test_a_model_without_signature_gets_what_json_could_have_said(make_app: Callable[..., App], call: Call) -> None:
    app = make_app(lambda data: [json.dumps(data)])
    one = call(app, INFER, {"inputs": [tensor("x", "INT8", [1, 2], [1, 2])]}).content
    assert one["outputs"] == [{"name": "predict", "datatype": "BYTES", "shape": [1], "data": ["[[1, 2]]"]}]
    two = call(app, INFER, {"inputs": [tensor("x", "INT8", [1]), tensor("y", "BYTES", ["a"])]}).content
    assert two["outputs"][0]["data"] == ['{"x": [1], "y": ["a"]}']


@pytest.mark.parametrize(
    ("predictions", "outputs"),
    [
        (pd.DataFrame({"p": [0.5], "q": ["a"]}), [("p", "FP64", [1], [0.5]), ("q", "BYTES", [1], ["a"])]),
        (pd.Series([1, 2]), [("predict", "INT64", [2], [1, 2])]),
        (np.array([True]), [("predict", "BOOL", [1], [True])]),
        (np.array([1.0, np.nan]), [("predict", "FP64", [2], [1.0, None])]),
        (np.array([[1, 2]], dtype="uint8"), [("predict", "UINT8", [1, 2], [1, 2])]),
        ([1, None, np.float32(0.5)], [("predict", "FP64", [3], [1.0, None, 0.5])]),
        ([True, None], [("predict", "BYTES", [2], ["true", None])]),
        ([None], [("predict", "BYTES", [1], [None])]),
        (["a", "b"], [("predict", "BYTES", [2], ["a", "b"])]),
        ([[1], [1, 2]], [("predict", "BYTES", [2], ["[1]", "[1, 2]"])]),
        (7, [("predict", "INT64", [1], [7])]),
        ([{"label": "a"}], [("predict", "BYTES", [1], ['{"label": "a"}'])]),
    ],
)
def test_predictions_become_tensors(
    make_app: Callable[..., App], call: Call, predictions: Any, outputs: list[tuple[Any, ...]]
) -> None:
    reply = call(make_app(lambda _: predictions), INFER, {"inputs": [tensor("x", "INT8", [1])]})
    given = [(each["name"], each["datatype"], each["shape"], each["data"]) for each in reply.content["outputs"]]
    assert given == outputs


def test_predictions_without_any_form_are_500(make_app: Callable[..., App], call: Call) -> None:
    reply = call(make_app(lambda _: [{1, 2}]), INFER, {"inputs": [tensor("x", "INT8", [1])]})
    assert reply.status == 500
    assert list(reply.content) == ["error"]


def binary_body(content: dict[str, Any], raw: bytes) -> tuple[bytes, dict[str, str]]:
    head = json.dumps(content).encode()
    return head + raw, {"inference-header-content-length": str(len(head))}


def test_binary_tensors(adder: App, call: Call) -> None:
    given = [
        {"name": "a", "datatype": "FP64", "shape": [2], "parameters": {"binary_data_size": 16}},
        {"name": "s", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 10}},
        B,
    ]
    raw = struct.pack("<2d", 1.5, 2.5) + b"\x01\x00\x00\x00x\x01\x00\x00\x00y"
    body, headers = binary_body({"inputs": given, "parameters": {"binary_data_output": True}}, raw)
    reply = call(adder, INFER, body, headers=headers)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/octet-stream")
    length = int(reply.headers["inference-header-content-length"])
    (output,) = json.loads(reply.body[:length])["outputs"]
    assert output == {"name": "sum", "datatype": "FP64", "shape": [2], "parameters": {"binary_data_size": 16}}
    assert struct.unpack("<2d", reply.body[length:]) == (2.5, 4.5)


def test_each_output_says_whether_it_is_wanted_in_binary_form(adder: App, call: Call) -> None:
    wanted = {"inputs": [A, B], "parameters": {"binary_data_output": True}}
    reply = call(adder, INFER, {**wanted, "outputs": [{"name": "sum", "parameters": {"binary_data": False}}]})
    assert reply.content["outputs"][0]["data"] == [2.5, 4.5]


@pytest.mark.parametrize(
    ("size", "length"),
    [
        (17, None),
        (8, None),
        (-1, None),
        ("16", None),
        (16, "x"),
        (16, "1000000"),
        (16, "10"),
        pytest.param(16, "9" * 5000, id="too many digits"),
    ],
)
def test_binary_data_that_do_not_add_up_are_400(adder: App, call: Call, size: Any, length: str | None) -> None:
    given = {"name": "a", "datatype": "FP64", "shape": [2], "parameters": {"binary_data_size": size}}
    body, headers = binary_body({"inputs": [given, B]}, struct.pack("<2d", 1.5, 2.5))
    if length is not None:
        headers = {"inference-header-content-length": length}
    reply = call(adder, INFER, body, headers=headers)
    assert reply.status == 400
    assert list(reply.content) == ["error"]


def test_gzip_is_decoded(adder: App, call: Call) -> None:
    body = gzip.compress(json.dumps({"inputs": [A, B]}).encode())
    assert call(adder, INFER, body, headers={"content-encoding": "gzip"}).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        {},
        {"inputs": []},
        {"inputs": {}},
        {"inputs": [1]},
        {"inputs": [{"name": 1}]},
        {"inputs": [A, A]},
        {"inputs": [A]},
        {"inputs": [A, tensor("b", "FP64", [98765.5, 1])]},
        {"inputs": [A, tensor("b", "INT64", [1])]},
        {"inputs": [A, tensor("b", "INT64", [1, 2, 3, 4], [2, 2])]},
        {"inputs": [A, B], "id": 1},
        {"inputs": [A, B], "parameters": []},
        {"inputs": [A, B], "outputs": {}, "extra": 1, "parameters": 1},
        {"inputs": [A, B], "outputs": [{}]},
    ],
)
def test_what_is_malformed_or_does_not_fit_is_400(adder: App, call: Call, body: Any) -> None:
    reply = call(adder, INFER, body)
    assert reply.status == 400
    assert list(reply.content) == ["error"]
    assert "98765" not in reply.content["error"]
