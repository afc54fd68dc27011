"""Python code that its owner named: ``file.py:attribute`` or ``module:attribute``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

from ..batching import join, rows_and_key
from ..errors import InvalidInputError, ModelLoadError
from ..formats import python_reference
from ..models import PreparedInput
from ..payloads import CHAT_KEYS, Payload, Shape, to_frame
from ..signature import Casting


class PythonModel:
    """Calls a function with what JSON held, or with a data frame where the caller sent a table.

    A chat request reaches it whole. ``params`` are not passed on: a function that wants them names them in its input.
    ``stream`` takes the same and yields chunks; None for a model that cannot.
    """

    signature = None
    chat_keys = CHAT_KEYS
    is_rowwise = False

    def __init__(
        self, name: str, function: Callable[[Any], Any], stream: Callable[[Any], Iterable[Any]] | None = None
    ) -> None:
        self.name = name
        self.can_stream = stream is not None
        self._function = function
        self._stream = stream

    def predict(self, data: Payload, params: Mapping[str, Any] | None) -> Any:
        return self.predict_prepared([self.prepare(data, params)])

    def prepare(self, data: Payload, params: Mapping[str, Any] | None) -> PreparedInput:
        if data.shape is Shape.WHOLE:
            return PreparedInput(data.value, 1, None)
        value = data.value if data.shape in (Shape.INPUTS, Shape.INSTANCES) else to_frame(data)
        return PreparedInput(value, *rows_and_key(value))

    def predict_prepared(self, inputs: Sequence[PreparedInput]) -> Any:
        return self._function(join([each.value for each in inputs]))

    def stream(self, data: Payload, params: Mapping[str, Any] | None) -> Iterable[Any]:
        if self._stream is None:
            raise InvalidInputError("This model answers at once alone.")
        return self._stream(self.prepare(data, params).value)


def load(reference: str, _: str, _casting: Casting) -> PythonModel:
    parts = python_reference(reference)
    if parts is None:
        raise ModelLoadError(f"{reference} names no Python attribute: write file.py:attribute or module:attribute")
    source, attribute = parts
    module = _import_file(Path(source)) if source.endswith(".py") else _import_module(source)
    try:
        target = reduce(getattr, attribute.split("."), module)
    except AttributeError as error:
        raise ModelLoadError(f"{source} has no attribute {attribute}") from error
    if isinstance(target, type):
        target = target()
    predict = getattr(target, "predict", target)
    if not callable(predict):
        raise ModelLoadError(f"{reference} can be neither called nor asked to predict")
    stream = getattr(target, "predict_stream", None)
    return PythonModel(attribute, predict, stream if callable(stream) else None)


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ModelLoadError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    # what the file defines is looked up by its module's name when it is pickled; a library of that name keeps it
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # it is there, and lacks something of its own
        raise ModelLoadError(f"there is no module {name}; for a file write ./{name}.py:attribute") from error
