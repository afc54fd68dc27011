"""The flavors whose models need nothing of MLflow to predict: how each is read, and how it is called.

Between the cast by the signature and the library MLflow's own wrappers do what is done here and no more, so the answers
are the same. A folder that asks for anything beyond that is not usual, and for MLflow to load.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import InvalidInputError
from ..estimators import FrameCaller, example_for, is_rowwise
from ..forests import quickened
from ..signature import Signature
from ..tables import Table

Entry = Mapping[str, Any]
"""What MLmodel says of one flavor."""

_METHODS = ("predict", "predict_proba", "predict_log_proba")
_LIBRARIES = {"pickle": "pickle", "cloudpickle": "cloudpickle", "skops": "skops"}
"""The library that each of scikit-learn's serialization formats needs."""
_CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class Predictor:
    """A loaded model. ``call`` takes what the signature makes of the input: a frame, an array, or arrays by name.

    ``of_tables`` answers the rows of several tables faster than ``call`` does those of the frame they make; None for a
    model to which a frame is as good. ``takes_null`` and ``takes_no_rows`` are as in Signature; ``example`` is a
    request that the model can answer though nothing describes one.
    """

    call: Callable[[Any], Any]
    is_rowwise: bool
    of_tables: Callable[[Sequence[Table]], Any] | None = None
    takes_null: bool = True
    takes_no_rows: bool = True
    example: Any = None


@dataclass(frozen=True)
class Flavor:
    """``name`` is the flavor's own key in MLmodel, ``path_key`` what names the model's file in python_function's,
    ``library`` the package that its models are made of.

    ``is_usual`` gets both entries and the signature, and runs nothing of the model's. ``read`` gets the path of that
    file as well, and raises what the model's library raises.
    """

    name: str
    path_key: str
    library: str
    is_usual: Callable[[Entry, Entry, Signature], bool]
    read: Callable[[Path, Entry, Entry, Signature], Predictor]


def _is_usual_sklearn(flavor: Entry, pyfunc: Entry, _: Signature) -> bool:
    return pyfunc.get("predict_fn", "predict") in _METHODS and _may_unpickle(_sklearn_format(flavor))


def _sklearn(path: Path, flavor: Entry, pyfunc: Entry, _: Signature) -> Predictor:
    method = pyfunc.get("predict_fn", "predict")
    estimator = _unpickle(path, _sklearn_format(flavor), flavor)
    features = getattr(estimator, "feature_names_in_", None)
    caller = None if features is None else FrameCaller(estimator, list(map(str, features)), method)
    return Predictor(
        getattr(quickened(estimator) if caller is None else estimator, method),
        is_rowwise(estimator),
        None if caller is None else caller.of_tables,
        takes_null=_takes_nan(estimator),
        takes_no_rows=False,
        example=example_for(estimator),
    )


def _sklearn_format(flavor: Entry) -> str:
    return str(flavor.get("serialization_format", "pickle"))


def _is_usual_xgboost(flavor: Entry, _: Entry, signature: Signature) -> bool:
    # MLflow hands params on to predict
    return _xgboost_class(flavor)[0] in ("xgboost.core", "xgboost.sklearn") and not signature.params


def _xgboost(path: Path, flavor: Entry, _: Entry, __: Signature) -> Predictor:
    import xgboost

    model = getattr(xgboost, _xgboost_class(flavor)[1])()
    model.load_model(path)
    if not isinstance(model, xgboost.Booster):
        return Predictor(model.predict, is_rowwise(model))
    return Predictor(lambda data: model.predict(xgboost.DMatrix(data)), is_rowwise(model))


def _xgboost_class(flavor: Entry) -> tuple[str, str]:
    module, _, name = str(flavor.get("model_class", "xgboost.core.Booster")).rpartition(".")
    return module, name


def _is_usual_lightgbm(flavor: Entry, _: Entry, __: Signature) -> bool:
    return _is_booster(flavor) or _may_unpickle(_lightgbm_format(flavor))


def _lightgbm(path: Path, flavor: Entry, _: Entry, __: Signature) -> Predictor:
    import lightgbm

    model: Any
    if _is_booster(flavor):
        model = lightgbm.Booster(model_file=path)
    else:
        model = _unpickle(path, _lightgbm_format(flavor), flavor)
    return Predictor(_refusing(model.predict, lightgbm.basic.LightGBMError), is_rowwise(model), takes_no_rows=False)


def _is_booster(flavor: Entry) -> bool:
    return bool(flavor.get("model_class", "lightgbm.basic.Booster") == "lightgbm.basic.Booster")


def _lightgbm_format(flavor: Entry) -> str:
    return str(flavor.get("serialization_format", "cloudpickle"))


def _is_usual_onnx(flavor: Entry, _: Entry, __: Signature) -> bool:
    return not flavor.get("onnx_session_options") and all(isinstance(each, str) for each in _providers(flavor))


def _onnx(path: Path, flavor: Entry, _: Entry, signature: Signature) -> Predictor:
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

    available = onnxruntime.get_available_providers()
    providers = [provider for provider in _providers(flavor) if provider in available] or [_CPU]
    session = onnxruntime.InferenceSession(path, providers=providers)
    return Predictor(
        _refusing(_OnnxGraph(session), InvalidArgument), _has_free_rows(session, as_table=signature.tensors is None)
    )


def _providers(flavor: Entry) -> Sequence[Any]:
    declared = flavor.get("providers")
    return declared if isinstance(declared, list) and declared else [_CPU]


class _OnnxGraph:
    """Feeds a graph and names its outputs, as MLflow does it: a frame is answered by a frame, of flattened outputs."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs = {declared.name: declared.type for declared in session.get_inputs()}
        self._outputs = [output.name for output in session.get_outputs()]

    def __call__(self, data: Any) -> Any:
        outputs = self._session.run(self._outputs, self._feed(data))
        answers = zip(self._outputs, outputs, strict=True)
        if not hasattr(data, "columns"):
            return dict(answers)
        import numpy as np
        import pandas as pd

        return pd.DataFrame({name: np.asarray(values).reshape(-1) for name, values in answers})

    def _feed(self, data: Any) -> dict[str, Any]:
        if hasattr(data, "columns"):
            several = len(self._inputs) > 1
            feed = {name: data[name].values if several else data.values for name in self._inputs}
        elif isinstance(data, Mapping):
            feed = dict(data)
        elif len(self._inputs) == 1 and hasattr(data, "dtype"):
            feed = dict.fromkeys(self._inputs, data)
        else:
            raise InvalidInputError(f"The input must be named: {', '.join(self._inputs)}.")
        doubles = [name for name, values in feed.items() if getattr(values, "dtype", None) == "float64"]
        singles = [name for name in doubles if self._inputs.get(name) == "tensor(float)"]
        return feed | {name: feed[name].astype("float32") for name in singles}


def _refusing(call: Callable[[Any], Any], refusal: type[Exception]) -> Callable[[Any], Any]:
    """``call``, whose library says by ``refusal`` that an input has the wrong shape or type: the caller's mistake."""

    def refuse_or_call(data: Any) -> Any:
        try:
            return call(data)
        except refusal as error:
            raise InvalidInputError(f"The model refused the input: {error}") from error

    return refuse_or_call


def _has_free_rows(session: Any, *, as_table: bool) -> bool:
    """Whether the graph takes any number of rows and returns as many. A table's outputs are flattened, so that one
    which is wider than a column has more than that.
    """
    if any(not each.shape or isinstance(each.shape[0], int) for each in session.get_inputs()):
        return False
    tensors = [each for each in session.get_outputs() if each.type.startswith("tensor")]
    if any(not each.shape or isinstance(each.shape[0], int) for each in tensors):
        return False
    return not as_table or all(set(each.shape[1:]) <= {1} for each in tensors)


def _takes_nan(estimator: Any) -> bool:
    """What the estimator says of itself; versions before 1.6 do not."""
    tags = getattr(estimator, "__sklearn_tags__", None)
    return tags is None or bool(tags().input_tags.allow_nan)


def _may_unpickle(serialization: str) -> bool:
    """Whether the library is here, and MLflow would load it: it refuses what may run code, and says how to allow it."""
    library = _LIBRARIES.get(serialization)
    allowed = os.environ.get("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true").lower() in ("true", "1")
    return library is not None and find_spec(library) is not None and allowed


def _unpickle(path: Path, serialization: str, flavor: Entry) -> Any:
    if serialization == "skops":
        import skops.io

        return skops.io.load(path, trusted=flavor.get("skops_trusted_types"))
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301 - its owner named it


FLAVORS = {
    "mlflow.sklearn": Flavor("sklearn", "model_path", "sklearn", _is_usual_sklearn, _sklearn),
    "mlflow.xgboost": Flavor("xgboost", "data", "xgboost", _is_usual_xgboost, _xgboost),
    "mlflow.lightgbm": Flavor("lightgbm", "data", "lightgbm", _is_usual_lightgbm, _lightgbm),
    "mlflow.onnx": Flavor("onnx", "data", "onnxruntime", _is_usual_onnx, _onnx),
}
"""By the module that python_function names as their loader."""
