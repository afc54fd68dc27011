"""The fields of a configuration, as help and descriptions tell them."""

from __future__ import annotations

import types
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo


def describe_fields(model: type[BaseModel]) -> list[dict[str, Any]]:
    """Name, type, whether it is required, default and description of each field, in their order."""
    return [
        {
            "name": name,
            "type": type_name(info.annotation),
            "required": info.is_required(),
            "default": _default(info),
            "description": info.description or "",
        }
        for name, info in model.model_fields.items()
    ]


def _default(info: FieldInfo) -> Any:
    from pydantic import SecretStr
    from pydantic_core import to_jsonable_python

    if info.is_required():
        return None
    value = info.get_default(call_default_factory=True, validated_data={})
    return None if isinstance(value, SecretStr) else to_jsonable_python(value, fallback=str)


def type_name(annotation: Any) -> str:
    """A type as a person writes it: ``int | none``, ``one of 'a', 'b'``, ``secret text``."""
    from pydantic import SecretStr

    simple = {None: "none", type(None): "none", str: "text", SecretStr: "secret text", Path: "path", Any: "anything"}
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_name(parts[0])
    if origin is Literal:
        return f"one of {', '.join(map(repr, parts))}"
    if origin in (Union, types.UnionType):
        return " | ".join(type_name(part) for part in parts)
    if origin is not None:
        return f"{getattr(origin, '__name__', origin)}[{', '.join('…' if p is ... else type_name(p) for p in parts)}]"
    return str(simple.get(annotation) or getattr(annotation, "__name__", annotation))
