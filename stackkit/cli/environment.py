"""``stackkit environment``: the models' own Python environments on this machine."""

from __future__ import annotations

from typing import Any

import click

from .groups import Group
from .interaction import confirm_deletion, note, waiting, yes_option
from .output import Column, columns_of, output_option, print_list

manager_option = click.option(
    "--env-manager",
    type=click.Choice(["local", "uv", "virtualenv", "conda"]),
    help="What makes the model's own environment; local runs it in this one.  [default: local when the model asks for"
    " nothing that differs from what is here, else uv]",
)

_FIELDS = ("name", "manager", "python", "packages", "size", "created", "used_by", "interpreter")


@click.group("environment", cls=Group)
def environment() -> None:
    """Look at the models' own Python environments."""


@environment.command("list")
@output_option
def list_environments(output: str) -> None:
    """List the environments that were built here, the newest first."""
    from ..client import Client

    print_list(
        (each.as_dict() for each in Client().environments.find_all()),
        output,
        columns=[
            *columns_of("name", "manager", "python"),
            Column("size", text=_size),
            *columns_of("created", "used_by"),
        ],
        fields=_FIELDS,
        empty="There is no environment yet. One is built for a model that asks for what is not here: stackkit serve,"
        " or ahead: stackkit model prepare-env MODEL_URI",
    )


@environment.command("prune")
@yes_option
def prune(yes: bool) -> None:
    """Remove the environments that no service uses."""
    from ..client import Client

    environments = Client().environments
    unused = [each for each in environments.find_all() if not each.used_by]
    if not unused:
        environments.remove([])  # what builds that were killed have left behind
        note("There is nothing to prune.")
        return
    for each in unused:
        note(f"{each.built.name}  {each.built.made_of['manager']:10}  {_size(each.size)}")
    confirm_deletion(f"these {len(unused)} environments", yes)
    with waiting("removing them"):
        removed = environments.remove([each.built.name for each in unused])
    for name in removed:
        click.echo(name)
    if len(removed) < len(unused):
        note(f"In use, and left alone: {len(unused) - len(removed)}.")


def told(differences: tuple[str, ...], manager: str) -> None:
    """Say on stderr what a model asks for and is not so here, and where it runs for that; a no-op without any."""
    if not differences:
        return
    note(f"The model asks for what is not here: {'; '.join(differences)}.")
    note("It runs here all the same." if manager == "local" else f"It runs in an environment of its own ({manager}).")


def _size(value: Any) -> str:
    from ..environments.files import format_size

    return format_size(value)
