"""Configurations: validated with words a person understands, and kept without a secret in clear.

A field typed ``SecretStr`` is secret. Its value never enters a configuration's stored form: that holds a reference
``{{secret_name.key}}``, either the user's own or one to a private secret made for the component or service.
Any other text field may be given as such a reference too.
"""

from __future__ import annotations

import difflib
import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr, ValidationError
from pydantic_core import to_jsonable_python

from ..errors import InvalidConfigError

# The key of a private secret is a quoted path, hence '%' and '~'.
_REFERENCE = re.compile(r"\{\{\s*([A-Za-z0-9_-]+)\.([A-Za-z0-9_.%~-]+)\s*\}\}")

MASK = "********"

PRIVATE = "stackkit-private-"
"""How the names of the secrets begin that stackkit makes for a component or service."""


class Config(BaseModel):
    """The base of every configuration: unknown fields are refused, values answer as attributes and by key."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), hide_input_in_errors=True)

    def __getitem__(self, field: str) -> Any:
        if field not in type(self).model_fields:
            raise KeyError(field)
        return getattr(self, field)


ConfigT = TypeVar("ConfigT", bound=Config)


def _absolute(folder: str) -> str:
    return folder if is_reference(folder) else str(Path(folder).expanduser().absolute())


Folder = Annotated[str, AfterValidator(_absolute)]
"""A folder of this machine, made absolute when it is given: whoever reads it later works in another one."""


def parse(model: type[ConfigT], values: Mapping[str, Any], what: str) -> ConfigT:
    """Validate ``values`` as a ``model``.

    Raises InvalidConfigError that names each wrong field of ``what`` (such as "the local model deployer"), and
    the nearest valid one for a name that does not exist.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise _explain(model, what, error) from None


def parse_text(model: type[BaseModel], field: str, text: str) -> Any:
    """Read ``text`` from a command line for ``field``: as JSON where the field is no text, else as it stands."""
    info = model.model_fields.get(field)
    if info is None or _accepts_text(info.annotation):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text  # pydantic reads "8080" or "true", and names what is wrong with the rest


def _accepts_text(annotation: Any) -> bool:
    if annotation in (str, SecretStr) or (isinstance(annotation, type) and issubclass(annotation, PurePath)):
        return True
    if typing.get_origin(annotation) is typing.Annotated:
        return _accepts_text(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return any(_accepts_text(option) for option in typing.get_args(annotation))
    return False


def _explain(model: type[BaseModel], what: str, error: ValidationError) -> InvalidConfigError:
    lines, hints = [], []
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        field = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = _fields_beside(model, problem["loc"])
            nearest = difflib.get_close_matches(field, known, n=1)
            lines.append(f"{field!r} is no field of {what}")
            if known:
                hints.append(f"Did you mean {nearest[0]!r}?" if nearest else f"Its fields: {', '.join(known)}.")
        elif problem["type"] == "missing":
            lines.append(f"{what} needs the field {field!r}")
            hints.append(f"Give it: {field}=….")
        else:
            text = problem["msg"].removeprefix("Value error, ")
            lines.append(f"the field {field!r} of {what} is wrong: {text}" if field else f"{what}: {text}")
    message = "; ".join(dict.fromkeys(lines))
    return InvalidConfigError(message[0].upper() + message[1:] + ".", " ".join(dict.fromkeys(hints)) or None)


def _fields_beside(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The fields that could have stood in the place of the one at ``path``; none where that cannot be told."""
    *outer, _ = path
    for part in outer:
        info = model.model_fields.get(str(part))
        if info is None or not (isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)):
            return []
        model = info.annotation
    return [".".join([*map(str, outer), name]) for name in model.model_fields]


def plain(config: BaseModel) -> dict[str, Any]:
    """The configuration as JSON values, its secrets still ``SecretStr``."""
    return {name: _plain(getattr(config, name)) for name in type(config).model_fields}


def clear(config: BaseModel) -> dict[str, Any]:
    """The configuration as JSON values with its secrets in clear: to compare or to hand on, never to keep."""
    return dict(_mapped(plain(config), lambda value, path: _text(value)))


def _text(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return plain(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool | SecretStr):
        return value
    return to_jsonable_python(value)


_Path = tuple[str, ...]


def _mapped(value: Any, leaf: Callable[[Any, _Path], Any], path: _Path = ()) -> Any:
    """``value`` with each leaf of its dicts and lists replaced by what ``leaf(value, path)`` gives."""
    if isinstance(value, dict):
        return {key: _mapped(item, leaf, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_mapped(item, leaf, (*path, str(i))) for i, item in enumerate(value)]
    return leaf(value, path)


def conceal(value: Any, secret_name: str, found: dict[str, str]) -> Any:
    """``value`` with each secret text replaced by a reference; the texts are added to ``found`` under their keys.

    A secret that is itself a reference stays as it is.
    """

    def replaced(leaf: Any, path: _Path) -> Any:
        if not isinstance(leaf, SecretStr):
            return leaf
        text = leaf.get_secret_value()
        if is_reference(text):
            return text
        # quoted, because the keys of a mapping may be any text
        key = ".".join(quote(part, safe="").replace(".", "%2E") for part in path)
        found[key] = text
        return reference(secret_name, key)

    return _mapped(value, replaced)


def reveal(value: Any, look_up: Callable[[str, str], Any]) -> Any:
    """``value`` with each reference replaced by what ``look_up(secret, key)`` gives."""

    def replaced(leaf: Any, path: _Path) -> Any:
        text = _text(leaf)
        match = _REFERENCE.fullmatch(text) if isinstance(text, str) else None
        return look_up(match[1], match[2]) if match else leaf

    return _mapped(value, replaced)


def masked_private(value: Any) -> Any:
    """``value`` as it may be shown: references to private secrets hidden, the user's own references as they are."""
    return reveal(value, lambda secret, key: MASK if secret.startswith(PRIVATE) else reference(secret, key))


def reference(secret: str, key: str) -> str:
    """How a configuration refers to a key of a secret."""
    return f"{{{{{secret}.{key}}}}}"


def is_reference(text: str) -> bool:
    return _REFERENCE.fullmatch(text) is not None


def references(value: Any) -> set[tuple[str, str]]:
    """The ``(secret, key)`` pairs that ``value`` refers to."""
    found: set[tuple[str, str]] = set()
    reveal(value, lambda secret, key: found.add((secret, key)))
    return found
