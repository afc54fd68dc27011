"""Models of the flavors most used in an MLflow folder, loaded without importing MLflow, which takes longer than all the
rest. A folder that is unusual in any way is left to MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import inputs
from ..models import PreparedInput
from ..payloads import CHAT_KEYS, Payload
from ..signature import Signature, SignatureError
from ..tables import Table
from .mlflow_flavors import FLAVORS, Entry, Flavor, Predictor

_LARGEST_EXAMPLE = 256 * 1024


class DirectModel:
    """Calls a model with its input cast by the signature. ``params`` are checked and have no effect."""

    chat_keys: frozenset[str] = frozenset()

    def __init__(self, name: str, predictor: Predictor, signature: Signature) -> None:
        self.name = name
        self.signature = signature
        self.is_rowwise = predictor.is_rowwise
        self._call = predictor.call
        self._of_tables = predictor.of_tables

    def prepare(self, data: Payload, params: Mapping[str, Any] | None) -> PreparedInput:
        return inputs.prepare(data, params, self.signature)

    def predict_prepared(self, prepared: Sequence[PreparedInput]) -> Any:
        values = [each.value[0] for each in prepared]
        if self._of_tables is not None and isinstance(values[0], Table):
            return self._of_tables(values)
        value, _ = inputs.join(prepared)
        return self._call(value)

    def predict(self, data: Payload, params: Mapping[str, Any] | None) -> Any:
        return self.predict_prepared([self.prepare(data, params)])


def load(folder: Path) -> DirectModel | None:
    """The model in the folder; None when it is for MLflow to load. Raises what its library raises."""
    found = _find(folder)
    if found is None:
        return None
    flavor, path, entry, pyfunc, signature = found
    predictor = flavor.read(path, entry, pyfunc, signature)
    example = read_example(folder)
    if example is None and signature.inputs is None:
        example = predictor.example
    signature = replace(
        signature,
        example=example,
        takes_null=predictor.takes_null,
        takes_no_rows=predictor.takes_no_rows,
    )
    return DirectModel(folder.name, predictor, signature)


def is_direct(folder: Path) -> bool:
    """Whether the model in the folder is of a kind that is loaded without MLflow. Runs none of its code."""
    return _find(folder) is not None


def library(folder: Path) -> str | None:
    """The library that the model in the folder is made of; None when it is for MLflow to load. Runs none of its
    code.
    """
    found = _find(folder)
    return None if found is None else found[0].library


def _find(folder: Path) -> tuple[Flavor, Path, Entry, Entry, Signature] | None:
    """What the folder's flavor needs to read it: the flavor, the model's file, both entries and the signature."""
    description = _description(folder)
    flavors = description.get("flavors")
    pyfunc = flavors.get("python_function") if isinstance(flavors, dict) else None
    if not isinstance(flavors, dict) or not isinstance(pyfunc, dict):
        return None
    flavor = FLAVORS.get(str(pyfunc.get("loader_module")))
    entry = flavors.get(flavor.name) if flavor is not None else None
    signature = _signature(description.get("signature"))
    if flavor is None or not isinstance(entry, dict) or signature is None:
        return None
    if pyfunc.get("code") or entry.get("code") or description.get("is_signature_from_type_hint"):
        return None
    if not flavor.is_usual(entry, pyfunc, signature):
        return None
    path = (folder / str(pyfunc.get(flavor.path_key))).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        return None
    return flavor, path, entry, pyfunc, signature


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


def _signature(values: Any) -> Signature | None:
    """None for one that MLflow has to cast by: nested columns, or a column that a chat request could be meant for."""
    if not values:
        return Signature()
    try:
        signature = Signature.from_mlflow(values)
    except SignatureError:
        return None
    return None if CHAT_KEYS.intersection(column.name or "" for column in signature.columns or ()) else signature
