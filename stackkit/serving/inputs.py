"""One request's input built by a signature, and the inputs of several requests made one for the model."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from .casting import cast_payload
from .models import PreparedInput
from .parameters import cast_params
from .payloads import Payload
from .signature import Signature
from .tables import Table, to_frame


def prepare(data: Payload, params: Any, signature: Signature) -> PreparedInput:
    """The input and its params as the signature has them. Raises RequestError for what does not fit."""
    value = cast_payload(data, signature)
    cast = cast_params(params, signature.params)
    key = _key(value)
    return PreparedInput((value, cast), _rows(value), None if key is None else (key, repr(cast)))


def unchanged(value: Any, params: Mapping[str, Any] | None) -> PreparedInput:
    """An input that is for the model alone to understand."""
    return PreparedInput((value, params), 1, None)


def join(inputs: Sequence[PreparedInput]) -> tuple[Any, Mapping[str, Any] | None]:
    """One input with the rows of all, as the model takes it, and the params that they have in common."""
    value, params = inputs[0].value
    values = [each.value[0] for each in inputs]
    if isinstance(value, Table):
        return to_frame(values), params
    if len(values) == 1:
        return value, params
    import numpy as np

    return np.concatenate(values), params


def _key(value: Any) -> Hashable:
    if isinstance(value, Table):
        return value.key
    shape = getattr(value, "shape", None)
    # a frame has a shape too, and no dtype
    return (value.dtype.str, shape[1:]) if shape and hasattr(value, "dtype") else None


def _rows(value: Any) -> int:
    if isinstance(value, Table):
        return value.rows
    shape = getattr(value, "shape", None)
    return int(shape[0]) if shape else 1
