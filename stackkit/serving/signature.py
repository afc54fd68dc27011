"""A model's own description of its input, its output and its parameters, as MLflow writes it into MLmodel.

Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeVar

Part = TypeVar("Part")


class SignatureError(ValueError):
    """What was given is no signature, or one of a kind that this module does not know."""


class Casting(StrEnum):
    """How input is cast by an MLflow model's signature: without loss, or as MLflow's own server does it."""

    EXACT = "exact"
    MLFLOW = "mlflow"


class DataType(StrEnum):
    """The types of a column's values, and of parameters."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    STRING = "string"
    BINARY = "binary"
    DATETIME = "datetime"


@dataclass(frozen=True)
class Column:
    """One column of a table. ``name`` is None in a signature without names."""

    type: DataType
    name: str | None = None
    required: bool = True

    def __str__(self) -> str:
        kind = f"{self.type} ({'required' if self.required else 'optional'})"
        return kind if self.name is None else f"{self.name}: {kind}"


@dataclass(frozen=True)
class Tensor:
    """An array. ``dtype`` is numpy's name for it, and -1 in ``shape`` stands for any length."""

    dtype: str
    shape: tuple[int, ...]
    name: str | None = None

    def __str__(self) -> str:
        kind = f"{self.dtype} tensor of shape {self.shape}"
        return kind if self.name is None else f"{self.name}: {kind}"


@dataclass(frozen=True)
class Param:
    """A parameter of the model's predict: one value, or a list of them."""

    type: DataType
    name: str
    default: Any = None
    is_list: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({'list of ' if self.is_list else ''}{self.type})"


@dataclass(frozen=True)
class Signature:
    """Each part is None when the model does not say. Columns and tensors are never mixed. ``example`` is the body of a
    scoring request that the model was saved with.

    The rest is for the model's description alone, and changes no cast: whether it is known to refuse null among
    numbers that it requires, or input without rows, and whether it takes ``inputs`` alone, whose values its own type
    hints check. One that ``is_partial`` has inputs, and does not tell them.
    """

    inputs: tuple[Column, ...] | tuple[Tensor, ...] | None = None
    outputs: tuple[Column, ...] | tuple[Tensor, ...] | None = None
    params: tuple[Param, ...] | None = None
    example: Any = None
    takes_null: bool = True
    takes_no_rows: bool = True
    has_type_hints: bool = False
    is_partial: bool = False

    @classmethod
    def from_mlflow(cls, values: Mapping[str, Any]) -> Signature:
        """Read the ``signature`` of an MLmodel file, whose parts are JSON text.

        Raises SignatureError for what is malformed and for nested inputs or parameters (array, object, map, any):
        only MLflow itself can cast those. Nested outputs are left out.
        """
        outputs = _known(_fields, values.get("outputs"))
        return cls(_fields(values.get("inputs")), outputs, _params(values.get("params")))

    @classmethod
    def part_of_mlflow(cls, values: Mapping[str, Any]) -> Signature:
        """What can be told of a signature that ``from_mlflow`` refuses: all but its inputs, and what else is nested."""
        outputs, params = _known(_fields, values.get("outputs")), _known(_params, values.get("params"))
        return cls(None, outputs, params, is_partial=True)

    @cached_property
    def columns(self) -> tuple[Column, ...] | None:
        """The inputs, when they are columns."""
        return None if self.inputs is None else tuple(each for each in self.inputs if isinstance(each, Column)) or None

    @cached_property
    def tensors(self) -> tuple[Tensor, ...] | None:
        """The inputs, when they are tensors."""
        return None if self.inputs is None else tuple(each for each in self.inputs if isinstance(each, Tensor)) or None


def _known(read: Callable[[Any], Part], text: Any) -> Part | None:
    try:
        return read(text)
    except SignatureError:
        return None


def _fields(text: Any) -> tuple[Column, ...] | tuple[Tensor, ...] | None:
    if text is None:
        return None
    entries = _entries(text)
    if all(_is_tensor(entry) for entry in entries):
        return tuple(map(_tensor, entries)) or None
    return tuple(map(_column, entries))


def _params(text: Any) -> tuple[Param, ...] | None:
    return None if text is None else tuple(map(_param, _entries(text)))


def _entries(text: Any) -> Sequence[Mapping[str, Any]]:
    try:
        entries = json.loads(text)
    except (TypeError, ValueError):
        raise SignatureError("a part of the signature is not JSON") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SignatureError("a part of the signature is not a list of objects")
    return entries


def _is_tensor(entry: Mapping[str, Any]) -> bool:
    return entry.get("type") == "tensor"


def _column(entry: Mapping[str, Any]) -> Column:
    required = entry.get("required", not entry.get("optional", False))
    return Column(_type(entry), _name(entry), bool(required))


def _tensor(entry: Mapping[str, Any]) -> Tensor:
    spec = entry.get("tensor-spec")
    shape = spec.get("shape") if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise SignatureError("a tensor of the signature has no shape")
    return Tensor(str(spec.get("dtype")), tuple(shape), _name(entry))


def _param(entry: Mapping[str, Any]) -> Param:
    name, shape = _name(entry), entry.get("shape")
    if name is None or shape not in (None, [-1]):
        raise SignatureError("a parameter of the signature has no name, or a shape other than [-1]")
    return Param(_type(entry), name, entry.get("default"), shape is not None)


def _type(entry: Mapping[str, Any]) -> DataType:
    try:
        return DataType(entry.get("type", ""))
    except ValueError:
        raise SignatureError(f"the signature has the type {entry.get('type')!r}, which is none of a column's") from None


def _name(entry: Mapping[str, Any]) -> str | None:
    name = entry.get("name")
    return None if name is None else str(name)
