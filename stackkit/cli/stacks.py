"""``stackkit stack``: which components are used together, and which stack is active."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from .groups import Group
from .interaction import confirm_deletion, note, yes_option
from .output import Column, columns_of, output_option, print_details, print_list

if TYPE_CHECKING:
    from ..stack import ComponentType, Stack

_TYPES = ("model_deployer", "artifact_store", "orchestrator")
_FIELDS = ("name", "active", "id", *_TYPES, "created", "updated")
_COLUMNS = [Column("active", text=lambda active: "➜" if active else ""), *columns_of("name", "id", *_TYPES)]

artifact_store_option = click.option("-a", "--artifact-store", metavar="NAME", help="Its artifact store.")
orchestrator_option = click.option("-o", "--orchestrator", metavar="NAME", help="Its orchestrator.")


@click.group("stack", cls=Group)
def stack() -> None:
    """Combine components into stacks, and choose the active one.

    Pipelines and commands use the components of the active stack unless told otherwise.
    """


@stack.command("register")
@click.argument("name")
@click.option("-d", "--model-deployer", metavar="NAME", required=True, help="Its model deployer.")
@artifact_store_option
@orchestrator_option
@click.option("--set", "activate", is_flag=True, help="Make it the active stack.")
def register(name: str, activate: bool, **parts: str | None) -> None:
    """Register a stack; what is not named comes from the default stack."""
    from ..client import Client

    client = Client()
    client.stacks.register(name, _parts(parts))
    note(f"Registered the stack {name!r}.")
    if activate:
        client.stacks.activate(name)
        note(f"The active stack is {name!r}.")


@stack.command("list")
@output_option
def list_stacks(output: str) -> None:
    """List the stacks; ➜ marks the active one."""
    from ..client import Client

    client = Client()
    active = client.active_stack
    rows = [_as_dict(found, active) for found in client.stacks.list()]
    print_list(rows, output, columns=_COLUMNS, fields=_FIELDS, empty="There is no stack.")


@stack.command("describe")
@click.argument("name", required=False)
@output_option
def describe(name: str | None, output: str) -> None:
    """Show a stack and its components; without a NAME the active one."""
    from ..client import Client

    client = Client()
    active = client.active_stack
    print_details(_as_dict(client.stacks.get(name) if name else active, active), output)


@stack.command("get")
def get() -> None:
    """Print the name of the active stack."""
    from ..client import Client

    click.echo(Client().active_stack.name)


@stack.command("set")
@click.argument("name")
def set_active(name: str) -> None:
    """Make a stack the active one in this home."""
    from ..client import Client

    client = Client()
    chosen = client.stacks.activate(name)
    note(f"The active stack is {chosen.name!r}.")
    active = client.active_stack
    if active.id != chosen.id:
        note(f"But STACKKIT_STACK is set, so that {active.name!r} stays active in this shell.")


@stack.command("update")
@click.argument("name")
@click.option("-d", "--model-deployer", metavar="NAME", help="Its model deployer.")
@artifact_store_option
@orchestrator_option
@click.option(
    "--remove",
    multiple=True,
    type=click.Choice([kind.replace("_", "-") for kind in _TYPES]),
    help="Take out its component of this type.",
)
def update(name: str, remove: tuple[str, ...], **parts: str | None) -> None:
    """Replace components of a stack, or take them out."""
    from ..client import Client
    from ..stack import ComponentType

    chosen = _parts(parts)
    removed = frozenset(ComponentType(kind.replace("-", "_")) for kind in remove)
    if not chosen and not removed:
        raise click.UsageError("There is nothing to change: give -d, -a, -o or --remove.")
    if both := removed & chosen.keys():
        raise click.UsageError(f"The {min(both).label} is both given and removed.")
    Client().stacks.update(name, chosen, removed)
    note(f"Updated the stack {name!r}.")


@stack.command("rename")
@click.argument("name")
@click.argument("new_name")
def rename(name: str, new_name: str) -> None:
    """Give a stack another name."""
    from ..client import Client

    Client().stacks.rename(name, new_name)
    note(f"Renamed the stack {name!r} to {new_name!r}.")


@stack.command("delete")
@click.argument("name")
@yes_option
def delete(name: str, yes: bool) -> None:
    """Delete a stack; its components stay."""
    from ..client import Client

    client = Client()
    found = client.stacks.get(name)
    confirm_deletion(f"the stack {found.name!r}", yes)
    client.stacks.delete(found.name)
    note(f"Deleted the stack {found.name!r}.")


def _parts(given: Mapping[str, str | None]) -> dict[ComponentType, str]:
    from ..stack import ComponentType

    return {ComponentType(kind): name for kind, name in given.items() if name is not None}


def _as_dict(found: Stack, active: Stack) -> dict[str, Any]:
    names = {kind.value: record.name for kind, record in found.components.items()}
    return {
        "name": found.name,
        "active": found.id == active.id,
        "id": found.id,
        **{kind: names.get(kind) for kind in _TYPES},
        "created": found.created,
        "updated": found.updated,
    }
