"""scikit-learn models in an MLflow folder, loaded without MLflow: which of them, and with the same answers."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stackkit.serving.app import App
from stackkit.serving.loaders import mlflow_direct
from stackkit.serving.payloads import Payload, Shape

FRAME = pd.DataFrame({"a": [0.1, 0.7, 0.2, 0.9], "b": [1.0, 0.0, 1.0, 0.0]})
INPUTS = [{"type": "double", "name": name, "required": True} for name in FRAME]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as MLflow writes it, with a pipeline fitted on named columns."""
    folder = tmp_path / "churn"
    folder.mkdir()
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(FRAME, [0, 1, 0, 1])
    (folder / "model.pkl").write_bytes(pickle.dumps(estimator))
    describe(folder)
    return folder


def describe(folder: Path, **changes: Any) -> None:
    """Write MLmodel, changed by dotted keys: ``sklearn__code`` is the key code of the flavor sklearn."""
    description: dict[str, Any] = {
        "flavors": {
            "python_function": {"loader_module": "mlflow.sklearn", "model_path": "model.pkl", "predict_fn": "predict"},
            "sklearn": {"serialization_format": "pickle", "code": None},
        },
        "is_signature_from_type_hint": False,
        "signature": {"inputs": json.dumps(INPUTS), "outputs": None, "params": None},
    }
    for key, value in changes.items():
        flavor, _, name = key.rpartition("__")
        (description["flavors"][flavor] if flavor else description)[name] = value
    (folder / "MLmodel").write_text(yaml.safe_dump(description))


def test_it_predicts_as_the_estimator_does(folder: Path) -> None:
    model = mlflow_direct.load(folder)
    assert model is not None
    assert model.name == "churn"
    assert model.is_rowwise
    given = Payload(Shape.SPLIT, {"columns": ["b", "a"], "data": FRAME[["b", "a"]].to_numpy().tolist()})
    assert model.predict(given, None).tolist() == [0, 1, 0, 1]


def test_probabilities_are_the_same_to_the_last_bit(folder: Path) -> None:
    describe(folder, python_function__predict_fn="predict_proba")
    model = mlflow_direct.load(folder)
    assert model is not None
    expected = pickle.loads((folder / "model.pkl").read_bytes()).predict_proba(FRAME)
    np.testing.assert_array_equal(model.predict(Payload(Shape.RECORDS, FRAME.to_dict("records")), None), expected)
    np.testing.assert_array_equal(model.predict(Payload(Shape.CSV, FRAME.to_csv().encode()), None), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"python_function__loader_module": "mlflow.pyfunc.model"},
        {"python_function__predict_fn": "score"},
        {"python_function__code": "code"},
        {"python_function__model_path": "../model.pkl"},
        {"python_function__model_path": "missing.pkl"},
        {"sklearn__code": "code"},
        {"sklearn__serialization_format": "dill"},
        {"is_signature_from_type_hint": True},
        {"signature": {"inputs": json.dumps([{"type": "any", "name": "a"}])}},
        {"signature": {"inputs": json.dumps([{"type": "string", "name": "prompt"}])}},
        {"flavors": {}},
    ],
)
def test_what_is_unusual_is_left_to_mlflow(folder: Path, changes: dict[str, Any]) -> None:
    shutil.copy(folder / "model.pkl", folder.parent)
    describe(folder, **changes)
    assert mlflow_direct.load(folder) is None


def test_a_forbidden_pickle_is_left_to_mlflow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    assert mlflow_direct.load(folder) is None


def test_what_is_no_yaml_is_left_to_mlflow(folder: Path) -> None:
    (folder / "MLmodel").write_text("flavors: [")
    assert mlflow_direct.load(folder) is None


def test_a_skops_model_is_loaded_with_the_types_that_its_owner_trusted(folder: Path) -> None:
    skops_io = pytest.importorskip("skops.io")
    skops_io.dump(pickle.loads((folder / "model.pkl").read_bytes()), folder / "model.skops")
    describe(folder, python_function__model_path="model.skops", sklearn__serialization_format="skops")
    model = mlflow_direct.load(folder)
    assert model is not None
    assert model.predict(Payload(Shape.INPUTS, {"a": [0.9], "b": [0]}), None).tolist() == [1]


def test_params_are_checked_and_have_no_effect(
    folder: Path, serve_model: Callable[..., App], call: Callable[..., Any]
) -> None:
    params = json.dumps([{"name": "k", "type": "long", "default": 3, "shape": None}])
    describe(folder, signature={"inputs": json.dumps(INPUTS), "params": params})
    app = serve_model(mlflow_direct.load(folder))
    body: dict[str, Any] = {"inputs": {"a": [0.9], "b": [0]}}
    assert call(app, body={**body, "params": {"k": 1}}).content == {"predictions": [1]}
    assert call(app, body={**body, "params": {"k": "x"}}).status == 400


def test_mlflow_is_not_imported(folder: Path) -> None:
    code = (
        "import sys; from stackkit.serving import formats; formats.load(sys.argv[1]);"
        " sys.exit(any(name.partition('.')[0] == 'mlflow' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(folder)], check=False, timeout=60).returncode == 0


def test_without_a_signature_the_example_is_as_wide_as_the_fit(
    folder: Path, serve_model: Callable[..., App], call: Callable[..., Any]
) -> None:
    describe(folder, signature=None)
    app = serve_model(mlflow_direct.load(folder))
    document = call(app, "/openapi.json", method="GET").content
    example = document["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert example == {"dataframe_records": [{"a": 0.0, "b": 0.0}]}
    assert call(app, body=example).status == 200
