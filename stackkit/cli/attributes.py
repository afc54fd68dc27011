"""Attributes on the command line: options that only the chosen flavor knows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, get_args

import click

if TYPE_CHECKING:
    from pydantic import BaseModel


class AttributeCommand(click.Command):
    """A command that takes every unknown option, ``--key=value`` or ``--key value``, as an attribute.

    Its function is given them as ``attributes``: texts by name, the dashes of a name turned into underscores, and
    None for an option that stands alone.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:  # a line that is being completed is not wrong yet
            return super().parse_args(ctx, args)
        rest, attributes = self._split(ctx, args)
        remaining = super().parse_args(ctx, rest)
        ctx.params["attributes"] = attributes
        return remaining

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[--ATTRIBUTE=VALUE]..."]

    def _split(self, ctx: click.Context, args: list[str]) -> tuple[list[str], dict[str, str | None]]:
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        known = {name: option for option in options for name in (*option.opts, *option.secondary_opts)}
        rest: list[str] = []
        attributes: dict[str, str | None] = {}
        words = deque(args)
        while words:
            word = words.popleft()
            name, has_value, value = word.partition("=")
            if word == "--":
                rest += [word, *words]
                break
            if name in known or not word.startswith("--"):
                rest.append(word)
                if name in known and not has_value and not known[name].is_flag and words:
                    rest.append(words.popleft())
                continue
            alone = not has_value and (not words or words[0].startswith("--"))
            if not has_value and not alone:
                value = words.popleft()
            field = _field(name.removeprefix("--"))
            if field in attributes:
                raise click.UsageError(f"The attribute {name} is given twice.", ctx)
            attributes[field] = None if alone else value
        return rest, attributes


def key_values(ctx: click.Context, parameter: click.Parameter, given: Iterable[str]) -> dict[str, str]:
    """The callback of an option or argument that is given as KEY=VALUE, any number of times."""
    found: dict[str, str] = {}
    for text in given:
        key, separator, value = text.partition("=")
        if not key or not separator:
            # what was given may be a secret, so it is not repeated
            raise click.BadParameter("write it as KEY=VALUE.", ctx, parameter)
        if key in found:
            raise click.BadParameter(f"{key} is given twice.", ctx, parameter)
        found[key] = value
    return found


def typed(
    model: type[BaseModel], texts: Mapping[str, str | None], current: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Read texts of the command line as values for the fields of ``model``; None turns on a field that is a switch.

    ``field.key`` fills one key of a nested field, whose other keys stay as they are in ``current``.
    Raises UsageError for another field that has no text.
    """
    from ..stack.configs import parse_text

    values: dict[str, Any] = {}
    nested: dict[str, dict[str, str]] = {}
    for name, given in texts.items():
        field, dot, key = name.partition(".")
        text = given if given is not None else _switched_on(model, name)
        if dot:
            nested.setdefault(field, {})[key] = text
        else:
            values[field] = parse_text(model, field, text)
    for field, parts in nested.items():
        inner = _nested_model(model, field)
        filled = dict(parts) if inner is None else typed(inner, parts)
        base = values.get(field, (current or {}).get(field)) or {}
        values[field] = {**base, **filled} if isinstance(base, dict) else base
    return values


def _switched_on(model: type[BaseModel], name: str) -> str:
    """What an option that stands alone means."""
    info = model.model_fields.get(name)
    is_unknown = info is None and "." not in name  # which is told with what there is
    if not is_unknown and (info is None or info.annotation is not bool):
        raise click.UsageError(f"The attribute --{name} needs a value: --{name}=VALUE.")
    return "true"


def _nested_model(model: type[BaseModel], field: str) -> type[BaseModel] | None:
    """The model that a field holds, or None where it is a mapping, whose keys may have dots of their own."""
    from pydantic import BaseModel

    info = model.model_fields.get(field)
    if info is None:
        return None
    options = (info.annotation, *get_args(info.annotation))
    return next((option for option in options if isinstance(option, type) and issubclass(option, BaseModel)), None)


def _field(name: str) -> str:
    field, dot, key = name.partition(".")
    return field.replace("-", "_") + dot + key
