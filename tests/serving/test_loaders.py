from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackkit.serving import formats
from stackkit.serving.app import App
from stackkit.serving.errors import MissingLibraryError, ModelLoadError

Call = Callable[..., Any]
CSV = {"content-type": "text/csv"}


@pytest.fixture
def serve(serve_model: Callable[..., App]) -> Callable[..., App]:
    def serve(reference: object, format_name: str | None = None) -> App:
        return serve_model(formats.load(str(reference), format_name))

    return serve


class Describe:
    """Picklable, has a predict, knows nothing of scikit-learn."""

    def predict(self, data: Any) -> str:
        return type(data).__name__


class Mute:
    pass


TABLES = [
    {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}},
    {"dataframe_records": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]},
    {"instances": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]},
    {"inputs": {"a": [1, 3], "b": [2, 4]}},
]
REORDERED = [
    {"dataframe_split": {"columns": ["b", "x", "a"], "data": [[2, 9, 1], [4, 9, 3]]}},
    {"dataframe_records": [{"b": 2, "a": 1}, {"a": 3, "b": 4}]},
    {"inputs": {"b": [2, 4], "a": [1, 3]}},
]
ARRAYS = [
    {"inputs": [[1, 2], [3, 4]]},
    {"instances": [[1, 2], [3, 4]]},
    {"dataframe_split": {"data": [[1, 2], [3, 4]]}},
]


@pytest.mark.parametrize("name", ["plain.joblib", "plain.pkl", "plain.skops", "named.joblib"])
@pytest.mark.parametrize("body", [*TABLES, *ARRAYS], ids=json.dumps)
def test_estimators_take_every_payload(estimators: Path, serve: Any, call: Call, name: str, body: Any) -> None:
    reply = call(serve(estimators / name), body=body)
    assert reply.status == 200, reply.body
    assert reply.content["predictions"] == pytest.approx([4.0, 10.0])


@pytest.mark.parametrize("name", ["plain.joblib", "named.joblib"])
def test_an_estimator_answers_the_example_in_its_description(
    estimators: Path, serve: Any, call: Call, name: str
) -> None:
    app = serve(estimators / name)
    document = call(app, "/openapi.json", method="GET").content
    example = document["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert call(app, body=example).content == {"predictions": [pytest.approx(0, abs=1e-9)]}


@pytest.mark.parametrize("body", REORDERED, ids=json.dumps)
def test_columns_are_put_in_the_order_of_the_fit(estimators: Path, serve: Any, call: Call, body: Any) -> None:
    reply = call(serve(estimators / "named.joblib"), body=body)
    assert reply.content["predictions"] == pytest.approx([4.0, 10.0])


@pytest.mark.parametrize("name", ["plain.joblib", "named.joblib"])
@pytest.mark.parametrize("media_type", ["text/csv", "application/csv", "Text/CSV; charset=utf-8"])
def test_csv(estimators: Path, serve: Any, call: Call, name: str, media_type: str) -> None:
    reply = call(serve(estimators / name), body=b"a,b\n1,2\n3,4\n", headers={"content-type": media_type})
    assert reply.content["predictions"] == pytest.approx([4.0, 10.0])


def test_one_row_needs_no_lists(estimators: Path, serve: Any, call: Call) -> None:
    reply = call(serve(estimators / "named.joblib"), body={"inputs": {"a": 1, "b": 2}})
    assert reply.content["predictions"] == pytest.approx([4.0])


@pytest.mark.parametrize(
    ("name", "body", "code"),
    [
        ("named.joblib", {"dataframe_records": [{"a": 98765}]}, "INVALID_PARAMETER_VALUE"),
        ("named.joblib", {"inputs": [[1, 2, 98765]]}, "INVALID_PARAMETER_VALUE"),
        ("named.joblib", {"inputs": [1, 98765]}, "INVALID_PARAMETER_VALUE"),
        ("plain.joblib", {"inputs": [[1, 2], [98765]]}, "BAD_REQUEST"),
        ("plain.joblib", {"inputs": {"a": [1, 98765], "b": [2]}}, "BAD_REQUEST"),
        ("plain.joblib", {"instances": [{"a": 1}, {"b": 98765}]}, "BAD_REQUEST"),
        ("named.joblib", {"inputs": {"a": [1, 98765], "b": [2]}}, "BAD_REQUEST"),
        ("plain.joblib", {"messages": []}, "BAD_REQUEST"),
    ],
)
def test_input_that_does_not_fit_is_400_without_its_data(
    estimators: Path, serve: Any, call: Call, name: str, body: Any, code: str
) -> None:
    reply = call(serve(estimators / name), body=body)
    assert (reply.status, reply.content["error_code"]) == (400, code)
    assert "98765" not in reply.content["message"]


def test_a_missing_column_is_named(estimators: Path, serve: Any, call: Call) -> None:
    reply = call(serve(estimators / "named.joblib"), body={"dataframe_records": [{"a": 1}]})
    assert reply.content["message"] == "The input lacks b."


def test_what_csv_cannot_be_read_is_400(estimators: Path, serve: Any, call: Call) -> None:
    app = serve(estimators / "named.joblib")
    for body in (b"", b"a,b\n1,2,3,4\n5\n6,7,8,9,10\n", b"a,b\n\xff,1\n"):
        assert call(app, body=body, headers=CSV).status == 400


def test_nan_in_csv_is_the_models_business(estimators: Path, serve: Any, call: Call) -> None:
    reply = call(serve(estimators / "named.joblib"), body=b"a,b\n1,\n", headers=CSV)
    assert reply.status == 400
    assert "NaN" in reply.content["message"]


@pytest.mark.parametrize(("body", "expected"), [(TABLES[0], "DataFrame"), (ARRAYS[0], "ndarray")])
def test_an_object_that_says_nothing_of_its_features_gets_what_was_sent(
    tmp_path: Path, serve: Any, call: Call, body: Any, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or sys.modules[Describe.__module__])
    path = tmp_path / "d.pkl"
    path.write_bytes(pickle.dumps(Describe()))
    assert call(serve(path), body=body).content == {"predictions": expected}


def test_an_object_without_predict_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.pkl"
    path.write_bytes(pickle.dumps({"not": "a model"}))
    with pytest.raises(ModelLoadError, match="holds a dict, which has no predict method"):
        formats.load(str(path))


def test_a_folder_with_one_model_is_loaded(tmp_path: Path, estimators: Path, serve: Any, call: Call) -> None:
    (tmp_path / "m.joblib").write_bytes((estimators / "plain.joblib").read_bytes())
    assert call(serve(tmp_path), body=ARRAYS[0]).status == 200


def test_skops_loads_only_what_it_trusts(tmp_path: Path) -> None:
    import skops.io

    skops.io.dump(Describe(), tmp_path / "d.skops")
    with pytest.raises(ModelLoadError, match=r"types that skops does not trust: .*Describe"):
        formats.load(str(tmp_path / "d.skops"))


@pytest.mark.parametrize(
    ("name", "module", "hint"),
    [
        ("plain.joblib", "joblib", r"needs joblib.*pip install 'stackkit\[sklearn\]'"),
        ("plain.skops", "skops.io", r"needs skops.*pip install 'stackkit\[sklearn\]'"),
        ("m.onnx", "onnxruntime", r"needs onnxruntime.*pip install 'stackkit\[onnx\]'"),
    ],
)
def test_a_missing_library_is_named_with_what_installs_it(
    estimators: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str, hint: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    path = estimators / name
    if not path.exists():
        path = tmp_path / name
        path.touch()
    with pytest.raises(MissingLibraryError, match=hint):
        formats.load(str(path))


def test_a_pickle_that_needs_scikit_learn_says_so(estimators: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(MissingLibraryError, match=r"needs scikit-learn.*pip install 'stackkit\[sklearn\]'"):
        formats.load(str(estimators / "plain.pkl"))


def test_a_model_costs_no_more_than_its_own_libraries(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("def predict(data):\n    return data\n")
    script = """
import sys
from stackkit.serving import worker
from stackkit.serving.loaders import estimator_loader, onnx_loader, torch_loader
from stackkit.serving import formats
from stackkit.serving.scoring import decode, encode
data, params = decode(b'{"inputs": [1]}', "application/json", ())
assert encode(formats.load(sys.argv[1]).predict(data, params), "application/json", True) == b'{"predictions": [1]}'
heavy = {"numpy", "pandas", "mlflow", "sklearn", "torch", "onnxruntime"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-P", "-c", script, f"{tmp_path / 'm.py'}:predict"], check=True)


# Python


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "a_model.py"
    path.write_text(
        "def describe(data):\n    return [type(data).__name__, len(data)]\n"
        "class Model:\n"
        "    def predict(self, data):\n        return 'predicted'\n"
        "model = Model()\n"
        "number = 5\n"
    )
    return path


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"inputs": [1, 2]}, ["list", 2]),
        ({"inputs": {"a": 1}}, ["dict", 1]),
        ({"instances": "text"}, ["str", 4]),
        ({"dataframe_records": [{"a": 1}]}, ["DataFrame", 1]),
    ],
)
def test_a_function_gets_plain_values_and_frames(
    module: Path, serve: Any, call: Call, body: Any, expected: list[Any]
) -> None:
    assert call(serve(f"{module}:describe"), body=body).content == {"predictions": expected}


def test_a_function_gets_csv_as_a_frame(module: Path, serve: Any, call: Call) -> None:
    reply = call(serve(f"{module}:describe"), body=b"a\n1\n2\n", headers=CSV)
    assert reply.content == {"predictions": ["DataFrame", 2]}


@pytest.mark.parametrize("attribute", ["model", "Model", "model.predict"])
def test_objects_classes_and_methods(module: Path, serve: Any, call: Call, attribute: str) -> None:
    assert call(serve(f"{module}:{attribute}"), body={"inputs": 1}).content == {"predictions": "predicted"}


def test_an_importable_module(serve: Any, call: Call) -> None:
    assert call(serve("statistics:mean"), body={"inputs": [1, 2, 6]}).content == {"predictions": 3}


@pytest.mark.parametrize(
    ("attribute", "reason"), [("absent", "has no attribute absent"), ("number", "can be neither called")]
)
def test_attributes_that_are_no_model(module: Path, attribute: str, reason: str) -> None:
    with pytest.raises(ModelLoadError, match=reason):
        formats.load(f"{module}:{attribute}")


def test_a_module_that_is_not_there_hints_at_a_file() -> None:
    with pytest.raises(ModelLoadError, match=r"for a file write \./absent_module\.py:attribute"):
        formats.load("absent_module:predict")


def test_a_module_that_lacks_something_of_its_own_says_what(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("import absent_dependency\n")
    with pytest.raises(ModuleNotFoundError, match="absent_dependency"):
        formats.load(f"{tmp_path / 'm.py'}:f")


# ONNX


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``one.onnx``: a matrix doubled; ``two.onnx``: float columns a and b to their sum and, as integers, b."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    folder = tmp_path_factory.mktemp("graphs")

    def value(name: str, kind: int, *shape: int | str) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    def save(name: str, nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> None:
        graph = helper.make_graph(nodes, name, inputs, outputs)
        opsets = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(folder / f"{name}.onnx"))

    single, integer = TensorProto.FLOAT, TensorProto.INT64
    save(
        "one",
        [helper.make_node("Add", ["x", "x"], ["y"])],
        [value("x", single, "n", 2)],
        [value("y", single, "n", 2)],
    )
    save(
        "two",
        [
            helper.make_node("Cast", ["b"], ["b_single"], to=single),
            helper.make_node("Add", ["a", "b_single"], ["sum"]),
            helper.make_node("Identity", ["b"], ["same"]),
        ],
        [value("a", single, "n", 1), value("b", integer, "n", 1)],
        [value("sum", single, "n", 1), value("same", integer, "n", 1)],
    )
    return folder


@pytest.mark.parametrize("body", [*TABLES, *ARRAYS, {"inputs": {"x": [[1, 2], [3, 4]]}}], ids=json.dumps)
def test_a_graph_with_one_input(graphs: Path, serve: Any, call: Call, body: Any) -> None:
    assert call(serve(graphs / "one.onnx"), body=body).content == {"predictions": [[2.0, 4.0], [6.0, 8.0]]}


@pytest.mark.parametrize("body", [*TABLES, {"inputs": {"a": [[1], [3]], "b": [[2], [4]]}}], ids=json.dumps)
def test_a_graph_with_named_inputs_and_several_outputs(graphs: Path, serve: Any, call: Call, body: Any) -> None:
    expected = {"predictions": {"sum": [[3.0], [7.0]], "same": [[2], [4]]}}
    assert call(serve(graphs / "two.onnx"), body=body).content == expected


def test_a_graph_with_a_free_first_axis_answers_several_requests_at_once(graphs: Path) -> None:
    from stackkit.serving.batching import split
    from stackkit.serving.payloads import Payload, Shape

    model: Any = formats.load(str(graphs / "two.onnx"))
    assert model.is_rowwise
    rows = [[{"a": 1, "b": 2}], [{"a": 3, "b": 4}, {"a": 5, "b": 6}]]
    prepared = [model.prepare(Payload(Shape.RECORDS, each), None) for each in rows]
    assert prepared[0].key == prepared[1].key
    parts = split(model.predict_prepared(prepared), [each.rows for each in prepared])
    for each, part in zip(prepared, parts, strict=True):
        alone = model.predict_prepared([each])
        assert {name: values.tolist() for name, values in part.items()} == {
            name: values.tolist() for name, values in alone.items()
        }


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("two", {"inputs": {"a": [1]}}, "The input lacks b."),
        ("two", {"inputs": [[1, 2]]}, "The input must be named: a, b."),
        ("two", {"inputs": {"a": [1], "b": ["x"]}}, "not a rectangular array of int64"),
        ("one", {"inputs": [[1, 2, 3]]}, "The model refused the input"),
    ],
)
def test_what_a_graph_cannot_take_is_400(
    graphs: Path, serve: Any, call: Call, name: str, body: Any, message: str
) -> None:
    reply = call(serve(graphs / f"{name}.onnx"), body=body)
    assert (reply.status, message in reply.content["message"]) == (400, True), reply.content


def test_a_graph_describes_itself_to_v2_clients(graphs: Path, serve: Any, call: Call) -> None:
    app = serve(graphs / "two.onnx")
    assert call(app, "/v2/models/model", method="GET").content["inputs"] == [
        {"name": "a", "datatype": "FP32", "shape": [-1, 1]},
        {"name": "b", "datatype": "INT64", "shape": [-1, 1]},
    ]
    given = [
        {"name": "a", "datatype": "FP32", "shape": [2, 1], "data": [1, 3]},
        {"name": "b", "datatype": "INT64", "shape": [2], "data": [2, 4]},
    ]
    assert call(app, "/v2/models/model/infer", {"inputs": given}).content["outputs"] == [
        {"name": "sum", "datatype": "FP32", "shape": [2, 1], "data": [3.0, 7.0]},
        {"name": "same", "datatype": "INT64", "shape": [2, 1], "data": [2, 4]},
    ]
    whole = {"name": "anything", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    reply = call(serve(graphs / "one.onnx"), "/v2/models/model/infer", {"inputs": [whole]})
    assert reply.content["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [2.0, 4.0]}]


def test_a_file_that_is_no_graph(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelLoadError, match="cannot be loaded by onnxruntime"):
        formats.load(str(tmp_path / "m.onnx"))


def test_predictions_of_numpy_arrays_from_python(tmp_path: Path, serve: Any, call: Call) -> None:
    (tmp_path / "m.py").write_text("import numpy as np\ndef predict(data):\n    return np.asarray(data) * 2\n")
    reply = call(serve(f"{tmp_path / 'm.py'}:predict"), body={"inputs": [1, 2]})
    assert reply.content == {"predictions": np.array([2, 4]).tolist()}
