"""The connection to the database: opened late, checked once, its errors told in one line."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError

from ..errors import SettingsError, StoreError
from ..settings import ENV_DATABASE_URL, Settings
from . import keepalive, schema

_BUSY_SECONDS = 30
_CONNECT_SECONDS = 10
_BACKENDS = {
    "sqlite": "sqlite",
    "postgresql+psycopg": "postgresql",
    "mysql+pymysql": "mysql",
    "mariadb+pymysql": "mysql",
}
"""The drivers that stackkit is tested with, and the extra that installs each."""

_QUOTING = "in a user or password %40 stands for @, %3A for : and %2F for /"


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
        """The schema's revision as it is, None for an empty database; makes and upgrades nothing."""
        if self.engine.dialect.name == "sqlite" and not Path(self.engine.url.database or "").exists():
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
        """The URL as it may be shown, without its password."""
        return _shown(_url_of(self.settings))

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


def _url_of(settings: Settings) -> URL:
    if settings.owns_database:  # what a folder's name may hold, a URL would read as something else
        return URL.create("sqlite", database=str(settings.home / "stackkit.db"))
    # the URL may hold a password, so neither it nor what was made of it is repeated
    try:
        url = make_url(settings.database_url)
    except (ArgumentError, ValueError):
        raise SettingsError(
            f"{ENV_DATABASE_URL} is no database URL.",
            "Write it as sqlite:////folder/file.db, postgresql+psycopg://user:password@host/name or "
            f"mysql+pymysql://user:password@host/name; {_QUOTING}.",
        ) from None
    if "@" in (url.host or ""):
        raise SettingsError(f"{ENV_DATABASE_URL} has more than one @ before its host.", f"Write it so: {_QUOTING}.")
    return url


def _shown(url: URL) -> str:
    return url.set(query={}).render_as_string(hide_password=True)  # a query may hold a password too


def _make_engine(settings: Settings) -> Engine:
    url = _url_of(settings)
    if url.drivername not in _BACKENDS:
        raise SettingsError(
            f"{ENV_DATABASE_URL} begins with {url.drivername}://, which stackkit cannot use.",
            f"Begin it with one of {', '.join(f'{name}://' for name in _BACKENDS)}.",
        )
    options: dict[str, Any] = {}
    if url.drivername == "sqlite":
        options["connect_args"] = {"timeout": _BUSY_SECONDS}
    else:
        options["pool_pre_ping"] = True
        options["isolation_level"] = "READ COMMITTED"
        wanted = {"connect_timeout": _CONNECT_SECONDS}
        if _BACKENDS[url.drivername] == "postgresql":
            wanted |= keepalive.POSTGRESQL_OPTIONS
        options["connect_args"] = {name: value for name, value in wanted.items() if name not in url.query}
    try:
        engine = create_engine(url, **options)
    except ImportError as error:  # psycopg raises it too where the C library is missing
        raise StoreError(
            f"The database driver of {url.drivername}:// is not installed: {str(error).splitlines()[0]}.",
            f"Install it: pip install 'stackkit[{_BACKENDS[url.drivername]}]'.",
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)
        event.listen(engine, "handle_error", _on_sqlite_error)
    if engine.dialect.driver == "pymysql":
        event.listen(engine, "connect", keepalive.on_mysql_connect)
    return engine


def _on_sqlite_connect(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # transactions begin where SQLAlchemy says so, not where sqlite3 guesses
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    database = connection.execute("PRAGMA database_list").fetchone()[2]
    # A file that was there before is left as its owner wants it: it may even turn out to be somebody else's.
    if database and (status := Path(database).stat()).st_size == 0 and status.st_uid == os.geteuid():
        Path(database).chmod(0o600)
        _switch_to_wal(connection)


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Let readers and a writer work side by side in this file from now on, whoever opens it."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            # this one statement does not wait for others that switch the same new file
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
        time.sleep(0.01)


def _on_sqlite_begin(connection: Connection) -> None:
    # A deferred transaction that turns into a writing one fails at once when another writer was faster; an
    # immediate one waits its turn.
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _on_sqlite_error(context: ExceptionContext) -> None:
    # a connection that was opened while its disk was read-only stays so, and so do all that share its memory with it
    code = getattr(context.original_exception, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_READONLY and context.engine is not None:
        context.is_disconnect = True
        context.engine.dispose()


@contextmanager
def _told(engine: Engine) -> Iterator[None]:
    """Turn the drivers' errors about the database itself into StoreError; let those about a statement pass."""
    try:
        yield
    except DBAPIError as error:
        told = _tell(engine, error)
        if told is None:
            raise
        raise told from error


_MYSQL_STATEMENT = (1054, 1364)  # no such column, no default: these too are OperationalErrors
_MYSQL_BUSY = (1205, 1213)
_POSTGRESQL_BUSY = ("40001", "40P01", "55P03")
_POSTGRESQL_REFUSED = ("25006", "42501")  # a read-only server, a missing privilege


def _tell(engine: Engine, error: DBAPIError) -> StoreError | None:
    """What a driver's error means for a person; None for a mistake in a statement, which is ours."""
    cause = error.orig
    arguments = cause.args if cause is not None else ()
    sqlite_code = getattr(cause, "sqlite_errorcode", 0) & 0xFF  # without what extends it
    mysql_code = arguments[0] if len(arguments) > 1 else None
    postgresql_code = getattr(cause, "sqlstate", None)
    reason = next(iter(str(arguments[-1] if arguments else "").strip().splitlines()), type(cause).__name__).rstrip(".")
    url = _shown(engine.url)
    if sqlite_code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return StoreError(
            f"The database {url} is damaged or no database: {reason}.",
            "Move it away, or put a copy back that was saved beside it (*.bak).",
        )
    if sqlite_code == sqlite3.SQLITE_FULL:
        return StoreError(f"The disk that holds the database {url} is full.", "Make room, and try again.")
    if (
        sqlite_code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        or mysql_code in _MYSQL_BUSY
        or postgresql_code in _POSTGRESQL_BUSY
    ):
        return StoreError(f"The database {url} is busy: {reason}.", "Try again.")
    about_statement = sqlite_code == sqlite3.SQLITE_ERROR or mysql_code in _MYSQL_STATEMENT
    unusable = isinstance(error, OperationalError | InterfaceError) and not about_statement
    if unusable or postgresql_code in _POSTGRESQL_REFUSED:
        return StoreError(
            f"The database {url} cannot be used: {reason}.",
            f"Check that it is there and that you may use it, or set {ENV_DATABASE_URL}.",
        )
    return None


_databases: dict[Settings, Database] = {}


def default_database(settings: Settings | None = None) -> Database:
    """The database that the environment names, now or when ``settings`` were loaded; one object for the same ones."""
    settings = Settings.load() if settings is None else settings
    return _databases.setdefault(settings, Database(settings))
