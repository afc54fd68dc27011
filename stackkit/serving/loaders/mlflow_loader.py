"""MLflow models, called through pyfunc: whatever their flavor, with everything that MLflow does around a call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import inputs
from ..errors import InvalidInputError, MissingLibraryError, RequestError
from ..models import Model, PreparedInput
from ..payloads import CHAT_KEYS, Payload, Shape
from ..signature import Casting, Signature, SignatureError
from . import mlflow_direct
from .mlflow_casting import cast_as_mlflow, described


class MlflowModel:
    """A pyfunc model. Its signature says how input is cast; a model with type hints validates its input itself.

    ``is_rowwise`` is never known of one: its predict is anybody's code.
    """

    is_rowwise = False

    def __init__(self, folder: Path, model: Any, casting: Casting) -> None:
        metadata = model.metadata
        self._model = model
        self._schema = metadata.get_input_schema()
        self._params_schema = metadata.get_params_schema()
        self._has_type_hints = metadata._is_signature_from_type_hint()
        self.signature = _signature(metadata, mlflow_direct.read_example(folder), self._has_type_hints)
        is_exact = casting is Casting.EXACT and not self._has_type_hints and not self.signature.is_partial
        self._exact = self.signature if is_exact else None
        self.name = folder.name
        self.chat_keys = _chat_keys(self._schema)
        self.can_stream = bool(metadata.flavors.get("python_function", {}).get("streamable"))

    def prepare(self, data: Payload, params: Mapping[str, Any] | None) -> PreparedInput:
        if data.shape is Shape.WHOLE:
            value, params = self._split(data.value)
        elif self._has_type_hints:
            value = self._unparsed(data)
        elif self._exact is not None:
            return inputs.prepare(data, params, self._exact)
        else:
            value = cast_as_mlflow(data, self._schema)
        self._check_params(params)
        return inputs.unchanged(value, params)

    def predict_prepared(self, prepared: Sequence[PreparedInput]) -> Any:
        value, params = inputs.join(prepared)
        with self._refusals(value):
            return self._model.predict(value, params=params)

    def stream(self, data: Payload, params: Mapping[str, Any] | None) -> Iterator[Any]:
        """MLflow streams the answer to one row; it refuses more."""
        value, params = inputs.join([self.prepare(data, params)])
        with self._refusals(value):
            yield from self._model.predict_stream(value, params=params)

    def predict(self, data: Payload, params: Mapping[str, Any] | None) -> Any:
        return self.predict_prepared([self.prepare(data, params)])

    @contextmanager
    def _refusals(self, value: Any) -> Iterator[None]:
        """Around a call with ``value``: turns MLflow's errors into ours."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            if "Failed to enforce schema" in error.message:
                raise InvalidInputError(self._misfit(value)) from error
            raise _refusal(error) from error

    def _split(self, content: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """A chat request's data, and those of its keys that are the model's parameters."""
        names = {param.name for param in self._params_schema.params} if self._params_schema else set()
        data = {key: value for key, value in content.items() if key not in names}
        return data, {key: value for key, value in content.items() if key in names}

    def _unparsed(self, data: Payload) -> Any:
        """What a model with type hints is given, which checks it itself: the JSON as it came, or a file's frame."""
        if data.is_file:
            return cast_as_mlflow(data, self._schema)
        if data.shape is not Shape.INPUTS:
            raise InvalidInputError("This model takes its input under inputs alone.")
        return data.value

    def _check_params(self, params: Any) -> None:
        from mlflow.exceptions import MlflowException
        from mlflow.models.utils import _enforce_params_schema

        if self._params_schema is None or not params:
            return
        try:
            _enforce_params_schema(params, self._params_schema)
        except MlflowException as error:
            declared = ", ".join(f"{param.name} ({param.dtype.name})" for param in self._params_schema.params)
            raise InvalidInputError(f"params do not fit the model's signature: {declared}.") from error

    def _misfit(self, value: Any) -> str:
        """What the model wants, in words that hold nothing of what it was given."""
        expected = described(self._schema)
        lacking = ""
        names = getattr(value, "columns", value if isinstance(value, Mapping) else None)
        if names is not None and self._schema.has_input_names():
            missing = [str(name) for name in self._schema.required_input_names() if name not in names]
            lacking = f" It lacks {', '.join(missing)}." if missing else ""
        return f"The input does not fit the model's signature: {expected}.{lacking}"


def load(reference: str, format_name: str, casting: Casting) -> Model:
    if casting is Casting.EXACT and (direct := mlflow_direct.load(Path(reference))) is not None:
        return direct
    try:
        import mlflow.pyfunc
    except ModuleNotFoundError as error:
        if error.name != "mlflow":
            raise
        raise MissingLibraryError("mlflow", format_name, "mlflow") from error
    return MlflowModel(Path(reference), mlflow.pyfunc.load_model(reference), casting)


def _refusal(error: Any) -> RequestError:
    return RequestError(int(error.get_http_status_code()), error.error_code, error.message)


def _signature(metadata: Any, example: Any, has_type_hints: bool) -> Signature:
    """An empty one for a model without."""
    values = {} if metadata.signature is None else metadata.signature.to_dict()
    try:
        signature = Signature.from_mlflow(values)
    except SignatureError:
        signature = Signature.part_of_mlflow(values)
    return replace(signature, example=example, has_type_hints=has_type_hints)


def _chat_keys(schema: Any) -> frozenset[str]:
    """A model with columns is a table's, unless a chat request's key is one of them."""
    if schema is None:
        return CHAT_KEYS
    return CHAT_KEYS.intersection(schema.input_names()) if schema.has_input_names() else frozenset()
