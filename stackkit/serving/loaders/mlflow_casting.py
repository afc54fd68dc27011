"""Input cast by MLflow's own functions: for ``--casting mlflow``, and for signatures with nested columns (arrays,
objects, maps), whose rules are MLflow's alone.
"""

from __future__ import annotations

import logging
from typing import Any

from ..errors import BadRequestError
from ..payloads import Payload, Shape, to_frame

logger = logging.getLogger("stackkit.serving.mlflow")


def cast_as_mlflow(payload: Payload, schema: Any) -> Any:
    """What MLflow's server makes of the payload; ``schema`` is MLflow's, None for a model without.

    Raises BadRequestError, whose message holds nothing of the input: MLflow's own words repeat it.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.utils import proto_json_utils

    casting: Any = proto_json_utils  # in part untyped
    if payload.shape is Shape.CSV:
        return to_frame(payload, _csv_dtypes(schema))
    if payload.shape is Shape.PARQUET:
        return to_frame(payload)
    try:
        if payload.is_tabular:
            orient = payload.shape.removeprefix("dataframe_")
            return casting.dataframe_from_parsed_json(payload.value, pandas_orient=orient, schema=schema)
        return casting.parse_tf_serving_input({str(payload.shape): payload.value}, schema=schema)
    except MlflowException as error:
        logger.debug("the input cannot be cast", exc_info=error)
        if schema is None:
            raise BadRequestError("The input is not a rectangular array or table.") from error
        raise BadRequestError(f"The input does not fit the model's signature: {described(schema)}.") from error


def described(schema: Any) -> str:
    """The inputs of one of MLflow's schemas, in words for the caller."""
    return ", ".join(str(field).removeprefix("'").replace("': ", ": ", 1) for field in schema.inputs)


def _csv_dtypes(schema: Any) -> dict[str | int, Any] | None:
    """By name, or by place in a schema without names, which pandas takes as well. Raises BadRequestError for a schema
    with columns that CSV has no form for.
    """
    from mlflow.types.schema import DataType

    if schema is None or schema.is_tensor_spec():
        return None
    if not all(isinstance(kind, DataType) for kind in schema.input_types()):
        raise BadRequestError(f"Not all of the model's columns can be sent as CSV: {described(schema)}.")
    return dict(zip(schema.input_names(), schema.pandas_types(), strict=True))
