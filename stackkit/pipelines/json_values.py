"""Values as JSON, for the columns that hold them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pydantic_core import to_json


def json_value(value: Any, otherwise: Callable[[Any], Any]) -> Any:
    """``value`` in JSON's own types; ``otherwise`` turns what has no JSON form into something that has.

    NaN and the infinities become the texts "NaN", "Infinity" and "-Infinity": not every database takes them in JSON.
    Raises ValueError for a value that cannot be written.
    """
    return json.loads(to_json(value, inf_nan_mode="strings", bytes_mode="base64", fallback=otherwise))
