"""scikit-learn models in an MLflow folder, loaded without importing MLflow, which takes longer than all the rest.

MLflow's own wrapper does nothing between the cast by the signature and the estimator's method, so the answers are the
same. A folder that is unusual in any way is left to MLflow.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .. import inputs
from ..estimators import FrameCaller, is_rowwise
from ..models import PreparedInput
from ..payloads import CHAT_KEYS, Payload
from ..signature import Signature, SignatureError
from ..tables import Table

_METHODS = ("predict", "predict_proba", "predict_log_proba")
_FORMATS = {"pickle": "pickle", "cloudpickle": "cloudpickle", "skops": "skops"}
"""The library that each serialization format needs."""

_LARGEST_EXAMPLE = 256 * 1024


class SklearnModel:
    """Calls an estimator's method with its input cast by the signature. ``params`` are checked and have no effect."""

    chat_keys: frozenset[str] = frozenset()

    def __init__(self, name: str, estimator: Any, method: str, signature: Signature) -> None:
        self.name = name
        self.signature = signature
        self.is_rowwise = is_rowwise(estimator)
        self._predict: Callable[[Any], Any] = getattr(estimator, method)
        features = getattr(estimator, "feature_names_in_", None)
        self._caller = None if features is None else FrameCaller(estimator, list(map(str, features)), method)

    def prepare(self, data: Payload, params: Mapping[str, Any] | None) -> PreparedInput:
        return inputs.prepare(data, params, self.signature)

    def predict_prepared(self, prepared: Sequence[PreparedInput]) -> Any:
        values = [each.value[0] for each in prepared]
        if self._caller is not None and isinstance(values[0], Table):
            return self._caller.of_tables(values)
        value, _ = inputs.join(prepared)
        return self._predict(value)

    def predict(self, data: Payload, params: Mapping[str, Any] | None) -> Any:
        return self.predict_prepared([self.prepare(data, params)])


def load(folder: Path) -> SklearnModel | None:
    """The model in the folder; None when it is for MLflow to load. Raises what its pickle raises."""
    description = _description(folder)
    flavors = description.get("flavors")
    if not isinstance(flavors, Mapping) or not _is_usual(description, flavors):
        return None
    signature = _signature(description.get("signature"))
    path = (folder / flavors["python_function"]["model_path"]).resolve()
    if signature is None or not path.is_relative_to(folder.resolve()) or not path.is_file():
        return None
    estimator = _read(path, flavors["sklearn"])
    signature = replace(signature, example=read_example(folder))
    method = flavors["python_function"].get("predict_fn", "predict")
    return SklearnModel(folder.name, estimator, method, signature) if hasattr(estimator, method) else None


def read_example(folder: Path) -> Any:
    """The body of a scoring request that the model was saved with; None when there is none, or too large a one."""
    path = folder / "serving_input_example.json"
    try:
        return json.loads(path.read_bytes()) if path.stat().st_size <= _LARGEST_EXAMPLE else None
    except (OSError, ValueError):
        return None


def _description(folder: Path) -> Mapping[str, Any]:
    try:
        import yaml
    except ModuleNotFoundError:
        return {}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        description = yaml.load((folder / "MLmodel").read_bytes(), loader)  # noqa: S506 - both loaders are safe ones
    except (OSError, yaml.YAMLError):
        return {}
    return description if isinstance(description, dict) else {}


def _is_usual(description: Mapping[str, Any], flavors: Mapping[str, Any]) -> bool:
    pyfunc, sklearn = flavors.get("python_function"), flavors.get("sklearn")
    if not isinstance(pyfunc, dict) or not isinstance(sklearn, dict):
        return False
    library = _FORMATS.get(sklearn.get("serialization_format", "pickle"))
    return (
        pyfunc.get("loader_module") == "mlflow.sklearn"
        and pyfunc.get("predict_fn", "predict") in _METHODS
        and isinstance(pyfunc.get("model_path"), str)
        and not pyfunc.get("code")
        and not sklearn.get("code")
        and not description.get("is_signature_from_type_hint")
        and library is not None
        and find_spec(library) is not None
        # MLflow refuses to load a pickle then, and says how to allow it
        and os.environ.get("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true").lower() in ("true", "1")
    )


def _signature(values: Any) -> Signature | None:
    """None for one that MLflow has to cast by: nested columns, or a column that a chat request could be meant for."""
    if not values:
        return Signature()
    try:
        signature = Signature.from_mlflow(values)
    except SignatureError:
        return None
    return None if CHAT_KEYS.intersection(column.name or "" for column in signature.columns or ()) else signature


def _read(path: Path, flavor: Mapping[str, Any]) -> Any:
    if flavor.get("serialization_format") == "skops":
        import skops.io

        return skops.io.load(path, trusted=flavor.get("skops_trusted_types"))
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301 - its owner named it
