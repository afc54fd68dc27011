"""The connection to the database: opened late, checked once, its errors told in one line."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, NoSuchModuleError, OperationalError

from ..errors import SettingsError, StoreError
from ..settings import ENV_DATABASE_URL, Settings
from . import schema

_BUSY_SECONDS = 30
_DRIVERS = {"psycopg": "postgresql", "pymysql": "mysql"}


class Database:
    """The SQL database that holds everything stackkit knows. Safe to share between threads.

    Nothing is opened before the first ``read`` or ``write``, which also checks the schema once and, for a SQLite
    file, makes it. Both raise StoreError when the database cannot be reached or is not one.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._checked = False
        self._lock = threading.Lock()

    @cached_property
    def engine(self) -> Engine:
        return _make_engine(self.settings)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection to read with. It sees what was committed, waits for no writer and holds up none."""
        self._check()
        with _told(self.engine), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back on an exception."""
        self._check()
        with (
            _told(self.engine),
            self.engine.connect().execution_options(write=True) as connection,
            connection.begin(),
        ):
            yield connection

    def revision(self) -> str | None:
        """The schema's revision as it is, None for an empty database; upgrades nothing."""
        if self.settings.owns_database and not (self.settings.home / "stackkit.db").exists():
            return None
        with _told(self.engine), self.engine.connect() as connection:
            return schema.current(connection)

    @property
    def newest_revision(self) -> str:
        """The schema's revision that this code works with."""
        return schema.HEAD

    def upgrade(self) -> tuple[str | None, str]:
        """Bring the schema to the newest revision; returns the ones before and after."""
        self._prepare()
        with _told(self.engine):
            return schema.upgrade(self.engine)

    def close(self) -> None:
        """Give up the connections. The next use opens new ones."""
        if "engine" in self.__dict__:
            self.engine.dispose()

    @property
    def url(self) -> str:
        """The URL without its password."""
        return _parse(self.settings.database_url).render_as_string(hide_password=True)

    def _check(self) -> None:
        if self._checked:
            return
        with self._lock:
            if not self._checked:
                self._prepare()
                with _told(self.engine):
                    schema.check(self.engine)
                self._checked = True

    def _prepare(self) -> None:
        if self.settings.owns_database:
            self.settings.ensure_home()


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError as error:
        # the URL itself may hold a password, so it is not repeated
        raise SettingsError(
            f"{ENV_DATABASE_URL} is no database URL.",
            "Write it as sqlite:////folder/file.db, postgresql+psycopg://user:password@host/name or "
            "mysql+pymysql://user:password@host/name.",
        ) from error


def _make_engine(settings: Settings) -> Engine:
    url = _parse(settings.database_url)
    options: dict[str, Any] = {}
    if url.get_backend_name() == "sqlite":
        options["connect_args"] = {"timeout": _BUSY_SECONDS}
    else:
        options["pool_pre_ping"] = True
        options["isolation_level"] = "READ COMMITTED"
    try:
        engine = create_engine(url, **options)
    except ModuleNotFoundError as error:
        extra = _DRIVERS.get(error.name or "")
        install = f"stackkit[{extra}]" if extra else error.name
        raise StoreError(
            f"The database driver {error.name} is not installed.", f"Install it: pip install '{install}'."
        ) from error
    except NoSuchModuleError as error:
        raise SettingsError(
            f"{ENV_DATABASE_URL} names a database that SQLAlchemy does not know: {url.drivername}.",
            "Use sqlite, postgresql+psycopg or mysql+pymysql.",
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)
    return engine


def _on_sqlite_connect(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # transactions begin where SQLAlchemy says so, not where sqlite3 guesses
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    database = connection.execute("PRAGMA database_list").fetchone()[2]
    if database and (path := Path(database)).stat().st_mode & 0o077:
        path.chmod(0o600)


def _on_sqlite_begin(connection: Connection) -> None:
    # A deferred transaction that turns into a writing one fails at once when another writer was faster; an
    # immediate one waits its turn.
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def _told(engine: Engine) -> Iterator[None]:
    """Turn the drivers' errors about the database itself into StoreError; let those about a statement pass."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise _unreachable(engine, error) from error
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.DatabaseError) and type(error.orig) is sqlite3.DatabaseError:
            raise StoreError(
                f"The database {engine.url.database} is damaged or no database: {error.orig}.",
                "Move it away, or put a copy back that was saved beside it (*.bak).",
            ) from error
        raise


def _unreachable(engine: Engine, error: DBAPIError) -> StoreError:
    url = engine.url.render_as_string(hide_password=True)
    reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
    if "disk is full" in reason:
        return StoreError(f"The disk that holds the database {url} is full.", "Make room and try again.")
    return StoreError(
        f"The database {url} cannot be used: {reason}.",
        f"Check that it is there and that you may use it, or set {ENV_DATABASE_URL}.",
    )


_databases: dict[Settings, Database] = {}


def default_database() -> Database:
    """The database that the environment names now; the same object for the same settings."""
    settings = Settings.load()
    return _databases.setdefault(settings, Database(settings))
