"""``stackkit db``: the database's schema."""

from __future__ import annotations

import click

from .groups import Group
from .interaction import note
from .output import output_option, print_details


@click.group("db", cls=Group)
def db() -> None:
    """Look at the database's schema, and upgrade it."""


@db.command("current")
@output_option
def current(output: str) -> None:
    """Show which schema the database has, and which one this stackkit needs. Changes nothing."""
    from ..client import Client

    database = Client().database
    values = {"database": database.url, "revision": database.revision(), "newest": database.newest_revision}
    print_details(values, output)


@db.command("upgrade")
def upgrade() -> None:
    """Bring the database to the schema that this stackkit needs; a no-op when it has it.

    Everyone who shares the database needs a stackkit that knows the new schema.
    """
    from ..client import Client

    before, after = Client().database.upgrade()
    note(f"The schema is {after} already." if before == after else f"Upgraded the schema: {before or 'none'} → {after}")
