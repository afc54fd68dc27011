"""Requests that fit ``/openapi.json`` are answered and others refused, each as the document says: by Schemathesis, on
every kind of model that the document tells apart.

The models take whatever fits their signature, or what their class is known to: what a model's own code refuses beyond
that, no document can say. The models of the recorded requests (test_scoring_facts) are of the same kinds, and two of
them could not stand here: echo_typed raises by design when its column boom is true, and special when it gets no rows.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from sklearn.linear_model import LinearRegression

# what MLflow and its dependencies warn about while models are made is none of ours
pytestmark = pytest.mark.filterwarnings("ignore")

FRAME = pd.DataFrame({"a": [0.1, 0.7, 0.2, 0.9], "b": [1.0, 0.0, 1.0, 0.0]})
TARGET = [0, 1, 0, 1]


def save_sklearn(folder: Path, model: Any, inputs: list[dict[str, Any]] | None) -> None:
    """A folder as MLflow writes it, for scikit-learn: such a folder is served without MLflow."""
    folder.mkdir()
    (folder / "model.pkl").write_bytes(pickle.dumps(model))
    params = [{"name": "k", "type": "long", "default": 3, "shape": None}]
    pyfunc = {"loader_module": "mlflow.sklearn", "model_path": "model.pkl"}
    description = {
        "flavors": {"python_function": pyfunc, "sklearn": {"serialization_format": "pickle"}},
        "signature": None if inputs is None else {"inputs": json.dumps(inputs), "params": json.dumps(params)},
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(description))


def table(folder: Path) -> None:
    inputs = [{"type": "double", "name": name, "required": True} for name in FRAME]
    save_sklearn(folder, LinearRegression().fit(FRAME, TARGET), inputs)


def column(folder: Path) -> None:
    save_sklearn(folder, LinearRegression().fit(FRAME[["a"]], TARGET), [{"type": "double", "name": "a"}])


def tensor(folder: Path) -> None:
    spec = {"dtype": "float64", "shape": [-1, 2]}
    save_sklearn(folder, LinearRegression().fit(FRAME.to_numpy(), TARGET), [{"type": "tensor", "tensor-spec": spec}])


def unsigned(folder: Path) -> None:
    save_sklearn(folder, LinearRegression().fit(FRAME.to_numpy(), TARGET), None)


def save_echo(folder: Path, **about: Any) -> None:
    """A model that returns what it is given, served by way of MLflow."""
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Schema

    class Echo(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return model_input

    signature = ModelSignature(inputs=Schema(about["inputs"]), params=about.get("params"))
    mlflow.pyfunc.save_model(folder, python_model=Echo(), signature=signature, pip_requirements=["mlflow"])


def typed(folder: Path) -> None:
    """Every type, params among them; one optional column whose values cannot be left out of some rows only."""
    from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec

    required = [ColSpec(kind, kind) for kind in ("boolean", "integer", "long", "float", "double", "string", "binary")]
    optional = [ColSpec(kind, f"{kind}?", required=False) for kind in ("datetime", "double", "binary", "long")]
    params = [ParamSpec("scale", "double", 1.0), ParamSpec("tags", "string", ["x"], shape=(-1,))]
    save_echo(folder, inputs=[*required, *optional], params=ParamSchema(params))


def tensors(folder: Path) -> None:
    import numpy as np
    from mlflow.types.schema import TensorSpec

    inputs = [TensorSpec(np.dtype("float32"), (-1, 2), "x"), TensorSpec(np.dtype("bool"), (-1,), "y")]
    save_echo(folder, inputs=inputs)


def chat(folder: Path) -> None:
    from mlflow.types.schema import ColSpec

    save_echo(folder, inputs=[ColSpec("string", "prompt")])


def hinted(folder: Path) -> None:
    import mlflow

    class Upper(mlflow.pyfunc.PythonModel):
        def predict(self, model_input: list[str], params=None) -> list[str]:
            return [text.upper() for text in model_input]

    # the annotations of this file are text, which MLflow cannot read
    Upper.predict.__annotations__.update({"model_input": list[str], "return": list[str]})
    mlflow.pyfunc.save_model(folder, python_model=Upper(), input_example=["a"], pip_requirements=["mlflow"])


def function(folder: Path) -> str:
    folder.mkdir()
    (folder / "zero.py").write_text("def predict(data):\n    return 0\n")
    return f"{folder / 'zero.py'}:predict"


SIGNED: dict[str, Callable[[Path], Any]] = {
    each.__name__: each for each in (table, column, tensor, typed, tensors, chat, hinted)
}
UNSIGNED: dict[str, Callable[[Path], Any]] = {each.__name__: each for each in (unsigned, function)}


@pytest.mark.parametrize("make", [*SIGNED, *UNSIGNED])
def test_schemathesis_finds_nothing(
    make: str, tmp_path: Path, start_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a signature nobody can tell what the model refuses: that it may is all that is not held against it."""
    pytest.importorskip("schemathesis")
    if make in ("typed", "tensors", "chat", "hinted"):
        pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'tracking.db'}")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    with warnings.catch_warnings(record=True):
        reference = (SIGNED | UNSIGNED)[make](tmp_path / "model")
    port = start_server(reference or str(tmp_path / "model")).wait_ready().port
    command = [sys.executable, "-c", "import schemathesis.cli; schemathesis.cli.schemathesis()", "run"]
    command += [f"http://127.0.0.1:{port}/openapi.json", "--max-examples", "25", "--seed", "1"]
    command += ["--exclude-checks", "positive_data_acceptance"] if make in UNSIGNED else []
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path)
    assert found.returncode == 0, found.stdout
