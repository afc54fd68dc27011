"""XGBoost, LightGBM and ONNX in MLflow folders: loaded without MLflow, answered to the byte as through it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stackkit.serving import batching
from stackkit.serving.app import App
from stackkit.serving.loaders import mlflow_direct
from stackkit.serving.loaders.mlflow_loader import MlflowModel
from stackkit.serving.models import PreparingModel
from stackkit.serving.payloads import Payload, Shape
from stackkit.serving.signature import Casting

# what the libraries and MLflow warn about while models are made and loaded is none of ours
pytestmark = pytest.mark.filterwarnings("ignore")

RANDOM = np.random.default_rng(7)
FRAME = pd.DataFrame({"a": RANDOM.normal(size=80), "b": RANDOM.normal(size=80), "n": RANDOM.integers(0, 9, 80)})
TARGET = (FRAME["a"] + FRAME["b"] * FRAME["n"] > 0).astype(int)
SINGLES = FRAME.to_numpy(dtype="float32")


def save_xgboost(folder: Path) -> None:
    import mlflow
    import xgboost

    classifier = xgboost.XGBClassifier(n_estimators=5, max_depth=3).fit(FRAME, TARGET)
    save(mlflow.xgboost, classifier, folder / "classifier", FRAME, classifier.predict(FRAME))
    save(mlflow.xgboost, classifier, folder / "unsigned")
    booster = xgboost.train({"max_depth": 3}, xgboost.DMatrix(FRAME, TARGET), 5)
    save(mlflow.xgboost, booster, folder / "booster", FRAME, booster.predict(xgboost.DMatrix(FRAME)))
    ranker = xgboost.XGBRanker(n_estimators=5).fit(SINGLES, TARGET, group=[40, 40])
    save(mlflow.xgboost, ranker, folder / "tensor", SINGLES, ranker.predict(SINGLES))


def save_lightgbm(folder: Path) -> None:
    import lightgbm
    import mlflow

    classifier = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(FRAME, TARGET)
    save(mlflow.lightgbm, classifier, folder / "classifier", FRAME, classifier.predict(FRAME))
    save(mlflow.lightgbm, classifier, folder / "unsigned")
    save(mlflow.lightgbm, classifier.booster_, folder / "booster", FRAME, classifier.booster_.predict(FRAME))
    regressor = lightgbm.LGBMRegressor(n_estimators=5, verbose=-1).fit(SINGLES, TARGET)
    save(mlflow.lightgbm, regressor, folder / "tensor", SINGLES, regressor.predict(SINGLES))


def save_onnx(folder: Path) -> None:
    import mlflow
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LinearRegression

    forest = RandomForestClassifier(5, random_state=0).fit(SINGLES, TARGET)
    graph = to_onnx(forest, SINGLES[:1], options={"zipmap": False})
    save(mlflow.onnx, graph, folder / "tensor", SINGLES, forest.predict_proba(SINGLES))
    save(mlflow.onnx, graph, folder / "unsigned")
    line = LinearRegression().fit(SINGLES, TARGET)
    save(mlflow.onnx, to_onnx(line, SINGLES[:1]), folder / "line", FRAME.astype("float64"), line.predict(SINGLES))


def save(module: Any, model: Any, folder: Path, given: Any = None, returned: Any = None) -> None:
    from mlflow.models import infer_signature

    signature = None if given is None else infer_signature(given, returned)
    module.save_model(model, folder, signature=signature, pip_requirements=["numpy"])


SAVERS = {"xgboost": save_xgboost, "lightgbm": save_lightgbm, "onnx": save_onnx}
LIBRARIES = {"xgboost": "xgboost", "lightgbm": "lightgbm", "onnx": "onnxruntime"}
MODELS = [
    *((flavor, name) for flavor in ("xgboost", "lightgbm") for name in ("classifier", "unsigned", "booster", "tensor")),
    *(("onnx", name) for name in ("tensor", "unsigned", "line")),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """The folder of a model, saved by MLflow with the real library."""
    pytest.importorskip("mlflow")
    root = tmp_path_factory.mktemp("flavors")

    def folder_of(flavor: str, name: str) -> Path:
        pytest.importorskip(LIBRARIES[flavor])
        if not (root / flavor).exists():
            (root / flavor).mkdir()
            with warnings.catch_warnings(record=True), pytest.MonkeyPatch.context() as patch:
                patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'tracking.db'}")
                patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
                SAVERS[flavor](root / flavor)
        return root / flavor / name

    return folder_of


def direct(folder: Path) -> Any:
    model = mlflow_direct.load(folder)
    assert model is not None
    return model


ROWS = [[0.5, -1.25, 3], [1e-3, 0.1, 8], [-2.0, 7.5, 0]]
RECORDS = [dict(zip(FRAME, row, strict=True)) for row in ROWS]
REQUESTS: dict[str, tuple[str, bytes]] = {
    name: ("application/json", json.dumps(body).encode())
    for name, body in {
        "records": {"dataframe_records": RECORDS},
        "split": {"dataframe_split": {"columns": list(FRAME), "data": ROWS}},
        "one row": {"dataframe_records": RECORDS[:1]},
        "rows": {"instances": RECORDS},
        "columns": {"inputs": {name: [row[place] for row in ROWS] for place, name in enumerate(FRAME)}},
        "array": {"inputs": ROWS},
        "null": {"dataframe_records": [{**RECORDS[0], "a": None}]},
        "params": {"inputs": ROWS, "params": {"k": 1}},
        "missing column": {"dataframe_records": [{"a": 1.0}]},
        "text": {"dataframe_records": [{**RECORDS[0], "a": "x"}]},
        "narrow": {"inputs": [[1.0]]},
        "nothing": {"inputs": []},
    }.items()
}
REQUESTS["csv"] = ("text/csv", FRAME.head(5).to_csv(index=False).encode())


@pytest.mark.parametrize(("flavor", "name"), MODELS)
def test_it_answers_to_the_byte_as_through_mlflow(
    flavor: str,
    name: str,
    saved: Callable[[str, str], Path],
    serve_model: Callable[..., App],
    call: Callable[..., Any],
) -> None:
    import mlflow.pyfunc

    folder = saved(flavor, name)
    ours = serve_model(direct(folder))
    theirs = serve_model(MlflowModel(folder, mlflow.pyfunc.load_model(str(folder)), Casting.EXACT))
    answered = 0
    for kind, (media_type, body) in REQUESTS.items():
        one, other = (call(app, body=body, headers={"content-type": media_type}) for app in (ours, theirs))
        if other.status == 200:
            answered += 1
            assert (one.status, one.body) == (200, other.body), kind
        else:  # MLflow hands on what a library says of a wrong shape, which is the caller's mistake
            assert one.status == 400, kind
            assert other.status in (400, 500), kind
    assert answered >= 2


@pytest.mark.parametrize(("flavor", "name"), [model for model in MODELS if model[1] in ("classifier", "line")])
def test_mlflow_is_not_imported(flavor: str, name: str, saved: Callable[[str, str], Path]) -> None:
    code = (
        "import sys; from stackkit.serving import formats; formats.load(sys.argv[1]);"
        " sys.exit(any(name.partition('.')[0] == 'mlflow' for name in sys.modules))"
    )
    folder = saved(flavor, name)
    assert subprocess.run([sys.executable, "-c", code, str(folder)], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("flavor", "name", "changes"),
    [
        ("xgboost", "classifier", {"model_class": "somebody.Else"}),
        ("lightgbm", "classifier", {"serialization_format": "dill"}),
        ("onnx", "line", {"onnx_session_options": {"intra_op_num_threads": 1}}),
        ("onnx", "line", {"providers": [["CUDAExecutionProvider", {}]]}),
    ],
)
def test_what_is_unusual_is_left_to_mlflow(
    flavor: str, name: str, changes: dict[str, Any], saved: Callable[[str, str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved(flavor, name), folder)
    assert mlflow_direct.is_direct(folder)
    description = yaml.safe_load((folder / "MLmodel").read_text())
    description["flavors"][flavor] |= changes
    (folder / "MLmodel").write_text(yaml.safe_dump(description))
    assert not mlflow_direct.is_direct(folder)
    assert mlflow_direct.load(folder) is None


def test_params_that_reach_xgboost_are_left_to_mlflow(saved: Callable[[str, str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved("xgboost", "classifier"), folder)
    description = yaml.safe_load((folder / "MLmodel").read_text())
    params = [{"name": "output_margin", "type": "boolean", "default": False, "shape": None}]
    description["signature"]["params"] = json.dumps(params)
    (folder / "MLmodel").write_text(yaml.safe_dump(description))
    assert mlflow_direct.load(folder) is None


NUMBERS = st.floats(-10, 10, width=32)
GIVEN = st.lists(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=3), min_size=2, max_size=6)


@pytest.mark.parametrize(("flavor", "name"), MODELS)
@given(requests=GIVEN)
@settings(max_examples=8, deadline=None)
def test_a_batch_answers_as_each_request_alone(
    flavor: str, name: str, saved: Callable[[str, str], Path], requests: list[list[tuple[float, ...]]]
) -> None:
    model = loaded(saved(flavor, name))
    assert model.is_rowwise == ((flavor, name) != ("onnx", "unsigned"))  # as a table its probabilities have more rows
    is_array = name in ("tensor", "unsigned")
    inputs = [
        Payload(Shape.INPUTS, [list(row) for row in rows])
        if is_array
        else Payload(Shape.RECORDS, [{"a": a, "b": b, "n": int(n)} for a, b, n in rows])
        for rows in requests
    ]
    prepared = [model.prepare(each, None) for each in inputs]
    assert len({each.key for each in prepared}) == 1
    parts = batching.split(model.predict_prepared(prepared), [each.rows for each in prepared])
    for each, part in zip(prepared, parts, strict=True):
        alone = model.predict_prepared([each])
        for one, other in zip(values_of(alone), values_of(part), strict=True):
            # of single precision the last bit is the seventh digit's
            places = 1e-6 if one.dtype == "float32" else 1e-9
            np.testing.assert_allclose(one, other, rtol=places, atol=places)


_LOADED: dict[Path, PreparingModel] = {}


def loaded(folder: Path) -> PreparingModel:
    """Loaded once for all the examples."""
    if folder not in _LOADED:
        _LOADED[folder] = direct(folder)
    return _LOADED[folder]


def values_of(predictions: Any) -> list[Any]:
    if hasattr(predictions, "to_dict"):
        return [predictions.to_numpy()]
    return list(predictions.values()) if isinstance(predictions, dict) else [predictions]
