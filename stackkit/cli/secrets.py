"""``stackkit secret``: values that are kept encrypted and referred to as ``{{name.key}}``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from .attributes import key_values
from .groups import Group
from .interaction import confirm_deletion, note, yes_option
from .output import Section, columns_of, output_option, print_details, print_list

_FIELDS = ("name", "keys", "created", "updated")
_MASK = "********"


@click.group("secret", cls=Group)
def secret() -> None:
    """Keep passwords and keys encrypted.

    An attribute or a field refers to a secret as {{name.key}}. A value is given as KEY=VALUE; KEY=- asks for it
    without showing it, or reads it from standard input, and KEY=@FILE reads a file. Both stay out of the shell's
    history.
    """


@secret.command("create")
@click.argument("name")
@click.argument("values", metavar="KEY=VALUE...", nargs=-1, required=True, callback=key_values)
def create(name: str, values: dict[str, str]) -> None:
    """Keep a new secret."""
    from ..client import Client

    Client().secrets.create(name, _read(values))
    note(f"Created the secret {name!r}.")


@secret.command("list")
@output_option
def list_secrets(output: str) -> None:
    """List the secrets and their keys, never their values."""
    from ..client import Client

    rows = [asdict(found) for found in Client().secrets.list()]
    empty = "There is no secret yet. Create one: stackkit secret create NAME KEY=-"
    print_list(rows, output, columns=columns_of(*_FIELDS), fields=_FIELDS, empty=empty)


@secret.command("get")
@click.argument("name")
@click.option("--show-values", is_flag=True, help="Print the values in clear.")
@output_option
def get(name: str, show_values: bool, output: str) -> None:
    """Show the keys of a secret; its values stay masked unless asked for."""
    from ..client import Client

    store = Client().secrets
    found = store.get(name)
    values = store.values(name) if show_values else dict.fromkeys(found.keys, _MASK)
    rows = [{"key": key, "value": value} for key, value in values.items()]
    print_details(
        {"name": name, "values": values},
        output,
        properties={"NAME": name},
        sections=[Section("Values", columns_of("key", "value"), rows)],
    )


@secret.command("update")
@click.argument("name")
@click.argument("values", metavar="[KEY=VALUE]...", nargs=-1, callback=key_values)
@click.option("--remove", metavar="KEY", multiple=True, help="Drop this key.")
def update(name: str, values: dict[str, str], remove: tuple[str, ...]) -> None:
    """Add, replace or drop keys of a secret."""
    from ..client import Client

    if not values and not remove:
        raise click.UsageError("There is nothing to change: give KEY=VALUE or --remove KEY.")
    Client().secrets.update(name, _read(values), remove)
    note(f"Updated the secret {name!r}.")


@secret.command("delete")
@click.argument("name")
@yes_option
def delete(name: str, yes: bool) -> None:
    """Delete a secret that nothing refers to."""
    from ..client import Client

    store = Client().secrets
    store.get(name)
    confirm_deletion(f"the secret {name!r}", yes)
    store.delete(name)
    note(f"Deleted the secret {name!r}.")


def _read(given: dict[str, str]) -> dict[str, str]:
    """The values, those read in place that are given as ``-`` or ``@FILE``."""
    if list(given.values()).count("-") > 1 and not sys.stdin.isatty():
        raise click.UsageError("Only one value can be read from standard input.")
    return {key: _read_value(key, text) for key, text in given.items()}


def _read_value(key: str, text: str) -> str:
    if text == "-":
        if sys.stdin.isatty():
            value: str = click.prompt(key, hide_input=True, err=True)
            return value
        return sys.stdin.read().removesuffix("\n")
    if text.startswith("@"):
        try:
            return Path(text[1:]).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
            raise click.UsageError(f"The file of the value {key!r} cannot be read: {reason}.") from None
    return text
