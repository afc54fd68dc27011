"""The schema's revision: one cheap query on every day, Alembic only when there is something to upgrade.

A SQLite file is made and upgraded by itself, after a copy beside it. Any other database may be shared with people
whose code is older, so that only ``stackkit db upgrade`` changes it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from ..errors import SchemaVersionError, StoreError

HEAD = "0001"
"""The revision that this code works with: the newest in ``migrations/stackkit_migrations/versions``."""

VERSION_TABLE = "stackkit_schema"

_LOCK = 7_482_113  # any number: what PostgreSQL's and MySQL's advisory locks are known by


def current(connection: Connection) -> str | None:
    """The database's revision, or None for a database that holds nothing of stackkit's."""
    try:
        return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    except (OperationalError, ProgrammingError):
        connection.rollback()
        if inspect(connection).has_table(VERSION_TABLE):
            raise
        return None


def check(engine: Engine) -> None:
    """Make sure that the database has the schema this code works with; upgrade a SQLite file that is older.

    Raises SchemaVersionError for a newer one, and for an older one that is not SQLite.
    """
    with engine.connect() as connection:
        found = current(connection)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise SchemaVersionError(
            f"The database has schema {found}, newer than this stackkit knows ({HEAD}).",
            "Upgrade stackkit: pip install --upgrade stackkit.",
        )
    if engine.dialect.name != "sqlite":
        raise SchemaVersionError(
            f"The database has schema {found or 'none'}; this stackkit needs {HEAD}.",
            "Upgrade it, when all who share it are ready: stackkit db upgrade.",
        )
    upgrade(engine)


def upgrade(engine: Engine) -> tuple[str | None, str]:
    """Bring the database to HEAD and return the revisions before and after; a no-op when it is there.

    Two at once take turns. A SQLite file is copied to ``<file>.schema-<revision>.bak`` first.
    Raises SchemaVersionError for a newer schema and StoreError for a file that holds somebody else's tables.
    """
    with engine.connect() as connection:
        found = current(connection)
        connection.rollback()
        if found == HEAD:
            return found, HEAD
        if found is not None and found > HEAD:
            raise SchemaVersionError(
                f"The database has schema {found}, newer than this stackkit knows ({HEAD}).",
                "Upgrade stackkit: pip install --upgrade stackkit.",
            )
        if found is None and (foreign := inspect(connection).get_table_names()):
            raise StoreError(
                f"The database holds tables that are not stackkit's ({', '.join(sorted(foreign)[:3])}).",
                "Set STACKKIT_DATABASE_URL to a database of stackkit's own.",
            )
        connection.rollback()
    if found is not None and engine.dialect.name == "sqlite" and engine.url.database:
        _copy(Path(engine.url.database), found)
    with engine.connect().execution_options(write=True) as connection, connection.begin():
        _lock(connection)
        try:
            if current_within(connection) != HEAD:
                _migrate(connection)
        finally:
            _unlock(connection)
    return found, HEAD


def current_within(connection: Connection) -> str | None:
    """As ``current``, within a transaction that must not be broken by a missing table."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608


def _copy(database: Path, revision: str) -> None:
    target = database.with_name(f"{database.name}.schema-{revision}.bak")
    # the backup API gives a consistent copy beside running writers, which copying the file does not
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
    target.chmod(0o600)


def _lock(connection: Connection) -> None:
    # SQLite needs none: the transaction was begun IMMEDIATE
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    elif connection.dialect.name in ("mysql", "mariadb"):
        connection.execute(text(f"SELECT GET_LOCK('stackkit-{_LOCK}', 60)"))


def _unlock(connection: Connection) -> None:
    if connection.dialect.name in ("mysql", "mariadb"):
        connection.execute(text(f"SELECT RELEASE_LOCK('stackkit-{_LOCK}')"))


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    import stackkit_migrations

    config = Config()
    config.set_main_option("script_location", str(Path(stackkit_migrations.__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
