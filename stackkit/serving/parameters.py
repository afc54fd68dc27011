"""The parameters of a request beside its data, cast by the model's signature."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from .errors import InvalidInputError
from .signature import DataType, Param

_TYPES = {
    DataType.BOOLEAN: (bool,),
    DataType.INTEGER: (int,),
    DataType.LONG: (int,),
    DataType.FLOAT: (int, float),
    DataType.DOUBLE: (int, float),
    DataType.STRING: (str,),
    DataType.BINARY: (str,),
    DataType.DATETIME: (str,),
}


class _UnfitError(Exception):
    """A parameter is not of its declared type."""


def cast_params(given: Any, declared: Sequence[Param] | None) -> dict[str, Any] | None:
    """The given parameters, each of its declared type, then the defaults of the others.

    Unknown ones are dropped. A model that declares none takes none, whatever is given: it gets None where nothing is,
    and none of what is, as from MLflow. Raises InvalidInputError.
    """
    if declared is None:
        return None if given is None else {}
    by_name = {param.name: param for param in declared}
    expected = ", ".join(map(str, declared))
    if not isinstance(given, Mapping | None):
        raise InvalidInputError(f"params must be an object with some of {expected}.")
    try:
        result = {name: _cast(value, by_name[name]) for name, value in (given or {}).items() if name in by_name}
    except _UnfitError:
        raise InvalidInputError(f"params do not fit the model's signature: {expected}.") from None
    return result | {param.name: param.default for param in declared if param.name not in result}


def _cast(value: Any, param: Param) -> Any:
    if not param.is_list:
        return _cast_one(value, param.type)
    if not isinstance(value, list):
        raise _UnfitError
    return [_cast_one(each, param.type) for each in value]


def _cast_one(value: Any, kind: DataType) -> Any:
    """An integer is taken for a float, and text for dates and bytes; nothing else is converted."""
    if value is None:
        return None
    if type(value) not in _TYPES[kind]:
        raise _UnfitError
    try:
        if kind is DataType.BINARY:
            return base64.b64decode(value, validate=True)
        if kind is DataType.DATETIME:
            return _moment(value)
        return float(value) if kind in (DataType.FLOAT, DataType.DOUBLE) else value
    except (ValueError, OverflowError):
        raise _UnfitError from None


def _moment(text: str) -> date:
    """A datetime in UTC that names no zone; a date where the text says no time, as MLflow has it."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
