from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stackkit.serving import formats
from stackkit.serving.app import App
from stackkit.serving.errors import InvalidInputError, MissingLibraryError
from stackkit.serving.models import StreamingModel
from stackkit.serving.payloads import Payload, Shape
from stackkit.serving.signature import Casting

CASES = json.loads(Path(__file__).with_name("requests.json").read_text())

# what MLflow and its dependencies warn about while models are made and loaded is none of ours
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sk_named, sk_nosig and sk_tensor predict 2a+b; tuned has params; odd does what its input says."""
    pytest.importorskip("mlflow")
    folder = tmp_path_factory.mktemp("mlflow")
    with warnings.catch_warnings(record=True), pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'tracking.db'}")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        _save_models(folder)
        _save_functions(folder)
    return folder


def _save_models(folder: Path) -> None:
    import mlflow
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.linear_model import LinearRegression

    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [0.0, 1.0, 0.0, 2.0]})
    target = 2 * frame["a"] + frame["b"]
    array = frame.to_numpy()

    def save(name: str, model: Any, signature: Any) -> None:
        mlflow.sklearn.save_model(
            model,
            folder / name,
            signature=signature,
            serialization_format="cloudpickle",
            pip_requirements=["scikit-learn"],
        )

    save("sk_named", LinearRegression().fit(frame, target), infer_signature(frame, target))
    save("sk_nosig", LinearRegression().fit(array, target), None)
    save("sk_tensor", LinearRegression().fit(array, target), infer_signature(array, target.to_numpy()))


def _save_functions(folder: Path) -> None:
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, ParamSchema, ParamSpec, Schema

    class Tuned(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return [value * params["scale"] for value in model_input["x"]]

    columns = Schema([ColSpec("double", "x")])
    params = ParamSchema([ParamSpec("scale", "double", 1.0), ParamSpec("count", "long", 3)])
    signature = ModelSignature(inputs=columns, params=params)
    mlflow.pyfunc.save_model(folder / "tuned", python_model=Tuned(), signature=signature, pip_requirements=["mlflow"])

    class Echo(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return model_input

    lossy = ModelSignature(inputs=Schema([ColSpec("long", "n"), ColSpec("binary", "raw")]))
    mlflow.pyfunc.save_model(folder / "lossy", python_model=Echo(), signature=lossy, pip_requirements=["mlflow"])

    class Sums(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return [int(sum(values)) for values in model_input["x"]]

    nested = ModelSignature(inputs=Schema([ColSpec(Array(DataType.long), "x")]), params=params)
    mlflow.pyfunc.save_model(folder / "nested", python_model=Sums(), signature=nested, pip_requirements=["mlflow"])

    class Talker(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return "whole"

        def predict_stream(self, context, model_input, params=None):
            yield from model_input["prompt"].split()

    prompt = ModelSignature(inputs=Schema([ColSpec("string", "prompt")]))
    mlflow.pyfunc.save_model(folder / "talker", python_model=Talker(), signature=prompt, pip_requirements=["mlflow"])

    class Odd(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            from mlflow.exceptions import MlflowException
            from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

            if not isinstance(model_input, dict):
                raise MlflowException("no such thing", error_code=RESOURCE_DOES_NOT_EXIST)
            if "messages" in model_input:
                return {"answer": model_input["messages"]}
            raise KeyError("secret")

    mlflow.pyfunc.save_model(folder / "odd", python_model=Odd(), pip_requirements=["mlflow"])

    class Typed(mlflow.pyfunc.PythonModel):
        def predict(self, model_input: list[str], params: Any = None) -> list[str]:
            return [text.upper() for text in model_input]

    # the annotations of this module are text, and MLflow reads them as types
    Typed.predict.__annotations__.update({"model_input": list[str], "return": list[str]})
    mlflow.pyfunc.save_model(folder / "typed", python_model=Typed(), pip_requirements=["mlflow"])


@pytest.fixture(scope="module")
def apps(models: Path, serve_model: Callable[..., App]) -> Callable[[str], App]:
    loaded: dict[str, App] = {}

    def app_of(name: str) -> App:
        if name not in loaded:
            loaded[name] = serve_model(formats.load(str(models / name)))
        return loaded[name]

    return app_of


@pytest.mark.parametrize(
    ("model", "case"),
    [pytest.param(model, case, id=f"{model}-{case['name']}") for case in CASES for model in case["models"]],
)
def test_the_scoring_protocol(
    apps: Callable[[str], App], call: Callable[..., Any], model: str, case: dict[str, Any]
) -> None:
    is_csv = "csv" in case
    body = case["csv"].encode() if is_csv else case["json"]
    headers = {"content-type": "text/csv" if is_csv else "application/json"}
    reply = call(apps(model), body=body, headers=headers)
    if "error" in case:
        assert (reply.status, reply.content["error_code"]) == (400, case["error"])
        assert "98765" not in reply.content["message"]
    else:
        assert (reply.status, reply.content) == (200, {"predictions": pytest.approx(case["predictions"])})


def test_what_is_missing_is_named(apps: Callable[[str], App], call: Callable[..., Any]) -> None:
    message = call(apps("sk_named"), body={"dataframe_records": [{"a": 1}]}).content["message"]
    assert message.endswith("a: double (required), b: double (required). It lacks b.")


@pytest.mark.parametrize(
    ("params", "expected"),
    [(None, [2.0]), ({}, [2.0]), ({"scale": 3}, [6.0]), ({"scale": 0.5, "unknown": 1}, [1.0])],
)
def test_params(apps: Callable[[str], App], call: Callable[..., Any], params: Any, expected: list[float]) -> None:
    reply = call(apps("tuned"), body={"inputs": {"x": [2.0]}, "params": params})
    assert reply.content == {"predictions": expected}


@pytest.mark.parametrize("params", [{"count": 98765.5}, {"count": "x98765"}, {"scale": [98765]}])
def test_params_that_do_not_fit_are_400(apps: Callable[[str], App], call: Callable[..., Any], params: Any) -> None:
    reply = call(apps("tuned"), body={"inputs": {"x": [2.0]}, "params": params})
    assert (reply.status, reply.content["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert reply.content["message"] == "params do not fit the model's signature: scale (double), count (long)."


def test_the_models_own_mlflow_errors_keep_their_code(apps: Callable[[str], App], call: Callable[..., Any]) -> None:
    reply = call(apps("odd"), body={"dataframe_records": [{"x": 1}]})
    assert (reply.status, reply.content["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert reply.content["message"] == "no such thing"


def test_any_other_failure_is_500_and_told_to_the_log_alone(
    apps: Callable[[str], App], call: Callable[..., Any]
) -> None:
    reply = call(apps("odd"), body={"inputs": {"x": 1}})
    assert reply.status == 500
    assert b"secret" not in reply.body


def test_a_chat_request_is_answered_bare_by_a_model_without_signature(
    apps: Callable[[str], App], call: Callable[..., Any]
) -> None:
    assert call(apps("odd"), body={"messages": ["hi"]}).content == {"answer": ["hi"]}


def test_a_model_with_type_hints_takes_inputs_raw(apps: Callable[[str], App], call: Callable[..., Any]) -> None:
    assert call(apps("typed"), body={"inputs": ["a", "b"]}).content == {"predictions": ["A", "B"]}
    assert call(apps("typed"), body={"instances": ["a"]}).status == 400
    assert call(apps("typed"), body={"inputs": [1]}).status == 400


@pytest.mark.parametrize("text", ["a", "1"])
def test_a_model_with_type_hints_takes_a_column_of_a_file(
    apps: Callable[[str], App], call: Callable[..., Any], text: str
) -> None:
    reply = call(apps("typed"), body=f"x\n{text}\n".encode(), headers={"content-type": "text/csv"})
    assert reply.content == {"predictions": [text.upper()]}


def test_parquet(apps: Callable[[str], App], call: Callable[..., Any], tmp_path: Path) -> None:
    import pandas as pd

    pd.DataFrame({"a": [1.0], "b": [2.0]}).to_parquet(tmp_path / "rows.parquet")
    headers = {"content-type": "application/vnd.apache.parquet"}
    reply = call(apps("sk_named"), body=(tmp_path / "rows.parquet").read_bytes(), headers=headers)
    assert reply.content == {"predictions": pytest.approx([4.0])}
    assert call(apps("sk_named"), body=b"nothing", headers=headers).status == 400


def test_a_missing_library_is_named(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [name for name in sys.modules if name.partition(".")[0] == "mlflow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(MissingLibraryError, match=r"needs mlflow.*pip install 'stackkit\[mlflow\]'"):
        formats.load(str(models / "tuned"))


def test_a_supervised_server_serves_it(models: Path, start_server: Callable[..., Any]) -> None:
    server = start_server(str(models / "sk_named"))
    server.wait_ready()
    reply = server.request("/invocations", {"dataframe_records": [{"a": 1, "b": 2}]})
    assert reply.content == {"predictions": pytest.approx([4.0])}


def test_a_supervised_server_casts_as_it_was_told_to(models: Path, start_server: Callable[..., Any]) -> None:
    server = start_server(str(models / "lossy"), casting="mlflow", model_name="-odd name")
    server.wait_ready()
    assert server.request("/invocations", {"inputs": {"n": [1.5], "raw": ["aGk="]}}).status == 200
    assert server.request("/v2/models/-odd%20name").content["name"] == "-odd name"


def test_casting_as_mlflow_does_on_request(
    models: Path, serve_model: Callable[..., App], call: Callable[..., Any]
) -> None:
    body = {"inputs": {"n": [1.5, "2"], "raw": ["aGk=", "aGk="]}}
    assert call(serve_model(formats.load(str(models / "lossy"))), body=body).status == 400
    app = serve_model(formats.load(str(models / "lossy"), casting=Casting.MLFLOW))
    assert call(app, body=body).content == {"predictions": [{"n": 1, "raw": "YUdrPQ=="}, {"n": 2, "raw": "YUdrPQ=="}]}
    assert call(app, body={"inputs": {"n": ["98765x"]}}).content["message"] == (
        "The input does not fit the model's signature: n: long (required), raw: binary (required)."
    )
    tuned = serve_model(formats.load(str(models / "tuned"), casting=Casting.MLFLOW))
    assert call(tuned, body={"inputs": {"x": [2]}, "params": {"scale": 2}}).content == {"predictions": [4.0]}
    assert call(tuned, body={"inputs": {"x": [2]}, "params": {"count": 0.5}}).status == 400


def test_nested_columns_are_cast_by_mlflow(
    models: Path, serve_model: Callable[..., App], call: Callable[..., Any]
) -> None:
    app = serve_model(formats.load(str(models / "nested")))
    assert call(app, body={"dataframe_records": [{"x": [1, 2]}, {"x": [3]}]}).content == {"predictions": [3, 3]}
    assert call(app, body={"dataframe_records": [{"x": ["a"]}]}).status == 400
    reply = call(app, body=b"x\n1\n", headers={"content-type": "text/csv"})
    assert (reply.status, reply.content["error_code"]) == (400, "BAD_REQUEST")
    assert reply.content["message"] == "Not all of the model's columns can be sent as CSV: x: Array(long) (required)."


def test_of_a_nested_signature_everything_else_is_told(
    models: Path, tmp_path: Path, serve_model: Callable[..., App], call: Callable[..., Any]
) -> None:
    shutil.copytree(models / "nested", tmp_path / "nested")
    example = {"dataframe_records": [{"x": [1, 2]}]}
    (tmp_path / "nested" / "serving_input_example.json").write_text(json.dumps(example))
    app = serve_model(formats.load(str(tmp_path / "nested")))
    operation = call(app, "/openapi.json", method="GET").content["paths"]["/invocations"]["post"]
    content = operation["requestBody"]["content"]["application/json"]
    assert content["example"] == example
    assert call(app, body=example).content == {"predictions": [3]}
    params = content["schema"]["oneOf"][0]["properties"]["params"]["anyOf"][0]["properties"]
    assert list(params) == ["scale", "count"]
    sent = {"inputs": [{"name": "x", "datatype": "INT64", "shape": [1, 2], "data": [1, 2]}]}
    assert call(app, "/v2/models/model/infer", body=sent).status == 400


@pytest.mark.parametrize("data", [Payload(Shape.WHOLE, {"prompt": "a b"}), Payload(Shape.RECORDS, [{"prompt": "a b"}])])
def test_a_model_that_can_stream_does(models: Path, data: Payload) -> None:
    talker = formats.load(str(models / "talker"))
    assert isinstance(talker, StreamingModel)
    assert talker.can_stream
    assert list(talker.stream(data, None)) == ["a", "b"]
    with pytest.raises(InvalidInputError):
        list(talker.stream(Payload(Shape.WHOLE, {"input": "a"}), None))
    tuned = formats.load(str(models / "tuned"))
    assert isinstance(tuned, StreamingModel)
    assert not tuned.can_stream
