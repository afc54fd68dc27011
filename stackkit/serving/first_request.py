"""The request that a model answers before anybody else's, when it is known to take one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from . import payloads
from .errors import BadRequestError
from .models import ExemplaryModel, Model
from .payloads import Payload


def first_request(model: Model) -> tuple[Payload, Mapping[str, Any] | None] | None:
    """The data and params of the request that the model was saved with, or of one made of the width it was fitted to.

    None for a model that knows none, for one that was fitted to named columns, of which nobody says that they hold
    numbers, and for one that is chatted with, whose answers may cost money.
    """
    if model.signature is not None:
        example = model.signature.example
    else:
        example = model.example if isinstance(model, ExemplaryModel) else None
    if example is None or _is_of_names_alone(example):
        return None
    try:
        data, params = payloads.decode_json(json.dumps(example).encode(), model.chat_keys)
    except BadRequestError:  # saved by a version that understood it otherwise
        return None
    return None if data.is_whole else (data, params)


def _is_of_names_alone(example: Any) -> bool:
    """Whether ``estimators.example_for`` has made it of names: no model is saved with one of that form."""
    return isinstance(example, Mapping) and "dataframe_records" in example
