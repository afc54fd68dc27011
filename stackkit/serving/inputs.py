"""One request's input built by a signature, and the inputs of several requests made one for the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import batching
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
    rows, key = (value.rows, value.key) if isinstance(value, Table) else batching.rows_and_key(value)
    return PreparedInput((value, cast), rows, None if key is None else (key, repr(cast)))


def unchanged(value: Any, params: Mapping[str, Any] | None) -> PreparedInput:
    """An input that is for the model alone to understand."""
    return PreparedInput((value, params), 1, None)


def join(inputs: Sequence[PreparedInput]) -> tuple[Any, Mapping[str, Any] | None]:
    """One input with the rows of all, as the model takes it, and the params that they have in common."""
    _, params = inputs[0].value
    values = [each.value[0] for each in inputs]
    return to_frame(values) if isinstance(values[0], Table) else batching.join(values), params
