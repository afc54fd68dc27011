"""The schema's revision: one cheap query on every day, Alembic only when there is something to upgrade.

A SQLite file is made and upgraded by itself, after a copy beside it. Any other database may be shared with people
whose code is older, so that only ``stackkit db upgrade`` changes it.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from ..errors import SchemaVersionError, StoreError
from ..settings import ENV_DATABASE_URL

HEAD = "0002"
"""The revision that this code works with: the newest in ``migrations/stackkit_migrations/versions``."""

VERSION_TABLE = "stackkit_schema"

_REVISION = text(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608

_LOCK = 7_482_113  # any number: what PostgreSQL's and MySQL's advisory locks are known by
_LOCK_SECONDS = 60


def current(connection: Connection) -> str | None:
    """The database's revision, or None for a database that holds nothing of stackkit's."""
    try:
        return connection.execute(_REVISION).scalar()
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
    _refuse_newer(found)
    if engine.dialect.name != "sqlite":
        if found is None:
            raise SchemaVersionError("The database has no tables of stackkit's yet.", "Make them: stackkit db upgrade.")
        raise SchemaVersionError(
            f"The database has schema {found}; this stackkit needs {HEAD}.",
            "Upgrade it, when all who share it are ready: stackkit db upgrade.",
        )
    upgrade(engine)


def upgrade(engine: Engine) -> tuple[str | None, str]:
    """Bring the database to HEAD and return the revisions before and after; a no-op when it is there.

    Two at once take turns. A SQLite file is copied to ``<file>.schema-<revision>.bak`` first.
    Raises SchemaVersionError for a newer schema, and StoreError for a database that holds somebody else's tables or
    that another process has been upgrading for a minute.
    """
    with engine.connect().execution_options(write=True) as connection:
        try:
            with connection.begin():
                _lock(connection)
                tables = set(inspect(connection).get_table_names())
                found = connection.execute(_REVISION).scalar() if VERSION_TABLE in tables else None
                if found == HEAD:
                    return found, HEAD
                _refuse_newer(found)
                if found is None:
                    _refuse_foreign(tables)
                elif engine.dialect.name == "sqlite" and engine.url.database:
                    _copy(Path(engine.url.database), found)
                _migrate(connection)
        finally:
            # after the commit: before it the next one in turn would see the tables, and no revision
            _unlock(connection)
    return found, HEAD


def _refuse_newer(found: str | None) -> None:
    if found is not None and found > HEAD:
        raise SchemaVersionError(
            f"The database has schema {found}, newer than this stackkit knows ({HEAD}).",
            "Upgrade stackkit: pip install --upgrade stackkit.",
        )


def _refuse_foreign(tables: set[str]) -> None:
    others = sorted(tables - {VERSION_TABLE})
    if others and VERSION_TABLE in tables:
        # MySQL takes nothing back of a schema that was being made when its process died
        raise StoreError("The database holds half a schema.", "Drop its tables, and upgrade again.")
    if others:
        raise StoreError(
            f"The database holds tables that are not stackkit's ({', '.join(others[:3])}).",
            f"Set {ENV_DATABASE_URL} to a database of stackkit's own.",
        )


def _copy(database: Path, revision: str) -> None:
    target = database.with_name(f"{database.name}.schema-{revision}.bak")
    handle, temporary = tempfile.mkstemp(dir=database.parent, prefix=f".{target.name}.")  # made 0600
    os.close(handle)
    try:
        # the backup API gives a consistent copy beside running processes, which copying the file does not
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(temporary)) as copy:
            source.backup(copy)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink()
        raise


def _lock(connection: Connection) -> None:
    # SQLite needs none: the transaction was begun IMMEDIATE
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    elif connection.dialect.name in ("mysql", "mariadb"):
        locked = connection.execute(text(f"SELECT GET_LOCK('stackkit-{_LOCK}', {_LOCK_SECONDS})")).scalar()
        if locked != 1:
            raise StoreError("Another process is upgrading the database.", "Wait until it is done, and try again.")


def _unlock(connection: Connection) -> None:
    # PostgreSQL's goes with the transaction
    if connection.dialect.name in ("mysql", "mariadb"):
        connection.execute(text(f"SELECT RELEASE_LOCK('stackkit-{_LOCK}')"))


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    import stackkit_migrations

    folder = Path(stackkit_migrations.__file__).parent
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
