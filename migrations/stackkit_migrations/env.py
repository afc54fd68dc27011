"""What Alembic runs: on the connection that stackkit hands over, within stackkit's own transaction."""

from __future__ import annotations

from alembic import context

from stackkit.store.schema import VERSION_TABLE
from stackkit.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
context.run_migrations()
