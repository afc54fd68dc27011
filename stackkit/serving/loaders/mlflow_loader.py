"""MLflow models, called through pyfunc with the input cast as MLflow's own server casts it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ..errors import BadRequestError, InvalidInputError, MissingLibraryError, RequestError
from ..payloads import CHAT_KEYS, Payload, Shape, to_frame

logger = logging.getLogger("stackkit.serving.mlflow")


class MlflowModel:
    """A pyfunc model. Its signature says how input is cast; a model with type hints validates its input itself.

    Messages about input that does not fit name columns and types, never values: MLflow's own words repeat the data.
    """

    def __init__(self, model: Any) -> None:
        metadata = model.metadata
        self._model = model
        self._schema = metadata.get_input_schema()
        self._params_schema = metadata.get_params_schema()
        self._has_type_hints = metadata._is_signature_from_type_hint()
        self.signature = metadata.signature
        self.name = str(metadata.run_id or metadata.model_uuid or "mlflow")
        self.chat_keys = _chat_keys(self._schema)

    def predict(self, data: Payload, params: Mapping[str, Any] | None) -> Any:
        from mlflow.exceptions import MlflowException

        if data.shape is Shape.WHOLE:
            value, params = self._split(data.value)
        else:
            value = self._input(data)
        self._check_params(params)
        try:
            return self._model.predict(value, params=params)
        except MlflowException as error:
            if "Failed to enforce schema" in error.message:
                raise InvalidInputError(self._misfit(value)) from error
            raise RequestError(_status(error), error.error_code, error.message) from error

    def _split(self, content: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """A chat request's data, and those of its keys that are the model's parameters."""
        names = {param.name for param in self._params_schema.params} if self._params_schema else set()
        data = {key: value for key, value in content.items() if key not in names}
        return data, {key: value for key, value in content.items() if key in names}

    def _input(self, data: Payload) -> Any:
        from mlflow.exceptions import MlflowException
        from mlflow.utils import proto_json_utils

        casting: Any = proto_json_utils  # in part untyped
        if self._has_type_hints:
            if data.shape is not Shape.INPUTS:
                raise InvalidInputError("This model takes its input under inputs alone.")
            return data.value
        if data.shape is Shape.CSV:
            return to_frame(data, self._csv_dtypes())
        if data.shape is Shape.PARQUET:
            return to_frame(data)
        try:
            if data.is_tabular:
                orient = data.shape.removeprefix("dataframe_")
                return casting.dataframe_from_parsed_json(data.value, pandas_orient=orient, schema=self._schema)
            return casting.parse_tf_serving_input({str(data.shape): data.value}, schema=self._schema)
        except MlflowException as error:
            logger.debug("the input cannot be cast", exc_info=error)
            raise BadRequestError(self._misfit(data)) from error

    def _csv_dtypes(self) -> dict[str, Any] | None:
        if self._schema is None or not self._schema.has_input_names():
            return None
        return dict(zip(self._schema.input_names(), self._schema.pandas_types(), strict=True))

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
        """What the model wants, in words that hold nothing of what it was given but names of missing columns."""
        if self._schema is None:
            return "The input is not a rectangular array or table."
        if not self._schema.has_input_names():
            return f"The input does not fit the model's signature: {self._schema.inputs}."
        columns = ", ".join(map(str, self._schema.inputs))
        given = _names(value)
        missing = [name for name in self._schema.required_input_names() if given is not None and name not in given]
        lacking = f" It lacks {', '.join(map(str, missing))}." if missing else ""
        return f"The input does not fit the model's signature: {columns}.{lacking}"


def load(reference: str, format_name: str) -> MlflowModel:
    try:
        import mlflow.pyfunc
    except ModuleNotFoundError as error:
        if error.name != "mlflow":
            raise
        raise MissingLibraryError("mlflow", format_name, "mlflow") from error
    return MlflowModel(mlflow.pyfunc.load_model(reference))


def _chat_keys(schema: Any) -> frozenset[str]:
    """A model with columns is a table's, unless a chat request's key is one of them."""
    if schema is None:
        return CHAT_KEYS
    return CHAT_KEYS.intersection(schema.input_names()) if schema.has_input_names() else frozenset()


def _status(error: Any) -> int:
    return int(error.get_http_status_code())


def _names(value: Any) -> list[str] | None:
    if isinstance(value, Payload):
        value = value.value.get("columns") if value.shape is Shape.SPLIT else value.value
        return value if isinstance(value, list) and all(isinstance(name, str) for name in value) else None
    columns = getattr(value, "columns", value if isinstance(value, Mapping) else None)
    return None if columns is None else [str(name) for name in columns]
