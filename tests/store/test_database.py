"""The connection: opened late, private, shared by many processes, its errors told in one line."""

from __future__ import annotations

import dataclasses
import os
import socket
import sqlite3
import stat
import subprocess
import sys
import traceback
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import insert, make_url, select, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from stackkit.errors import SettingsError, StackkitError, StoreError
from stackkit.settings import Settings
from stackkit.store import Database, default_database, keepalive
from stackkit.store.tables import meta


def at(home: Path, url: str) -> Database:
    return Database(dataclasses.replace(Settings.load(), home=home, database_url=url))


def failure(database: Database) -> StackkitError:
    """What opening the database fails with, which has to be one line with a way out."""
    with pytest.raises(StackkitError) as caught, database.read():
        pass
    database.close()
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_nothing_is_opened_before_it_is_used(home: Path) -> None:
    database = Database(Settings.load())
    database.close()
    assert database.revision() is None
    assert not home.exists()


def test_a_sqlite_file_is_made_private_and_in_wal_mode(home: Path) -> None:
    database = Database(Settings.load())
    with database.write() as connection:
        connection.execute(insert(meta).values(key="a", value="b"))
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
        assert {path.name: mode(path) for path in home.iterdir()} == {
            "stackkit.db": 0o600,
            "stackkit.db-wal": 0o600,
            "stackkit.db-shm": 0o600,
        }
    assert mode(home) == 0o700
    assert database.revision() == database.newest_revision
    database.close()


@pytest.mark.parametrize("name", ["Größe & 100% mine", "what?", "50%25", "a#b"])
def test_the_home_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    home = tmp_path / name
    monkeypatch.setenv("STACKKIT_HOME", str(home))
    database = Database(Settings.load())
    with database.read():
        pass
    database.close()
    assert (home / "stackkit.db").exists()


def test_a_file_that_was_there_keeps_its_mode(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "team.db"
    for _ in range(2):
        database = at(home, f"sqlite:///{path}")
        with database.read():
            pass
        database.close()
        path.chmod(0o660)  # after the first: the team shares it
    assert mode(path) == 0o660


@pytest.mark.all_databases
def test_a_transaction_is_whole_or_nothing(database: Database) -> None:
    def write(fail: bool) -> None:
        with database.write() as connection:
            connection.execute(insert(meta).values(key="one", value="1"))
            if fail:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(fail=True)
    write(fail=False)
    with pytest.raises(IntegrityError):
        write(fail=False)
    with database.read() as connection:
        assert connection.execute(select(meta.c.value)).scalars().all() == ["1"]


@pytest.mark.all_databases
def test_a_reader_is_not_held_up_by_a_writer(database: Database) -> None:
    with database.write() as writer:
        writer.execute(insert(meta).values(key="one", value="1"))
        with database.read() as reader:
            assert reader.execute(select(meta)).all() == []


@pytest.mark.all_databases
def test_it_can_be_used_after_close(database: Database) -> None:
    for _ in range(2):
        with database.read() as connection:
            connection.execute(select(meta)).all()
        database.close()


_WRITER = """
import sys, uuid
from sqlalchemy import insert, select, func
from stackkit.settings import Settings
from stackkit.store import Database
from stackkit.store.tables import meta
database = Database(Settings.load())
for _ in range(50):
    with database.write() as connection:
        connection.execute(select(func.count()).select_from(meta)).scalar()
        connection.execute(insert(meta).values(key=str(uuid.uuid4()), value=""))
"""


def test_many_processes_write_to_a_file_that_is_not_there_yet(settings: Settings) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER], stderr=subprocess.PIPE, text=True)  # all at once
        for _ in range(8)
    ]
    errors = [writer.communicate()[1] for writer in writers]
    assert errors == [""] * 8
    database = Database(settings)
    with database.read() as connection:
        assert len(connection.execute(select(meta.c.key)).all()) == 400
    database.close()


def test_a_new_file_that_another_process_is_writing_is_waited_for(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(tmp_path / "new.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            other.execute("ROLLBACK")

        monkeypatch.setattr("stackkit.store.database.time.sleep", pause)
        database = at(home, f"sqlite:///{tmp_path}/new.db")
        with database.read() as connection:
            assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        database.close()
        assert len(pauses) == 1


def test_default_database_is_one_for_the_same_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    first = default_database()
    assert default_database() is first
    monkeypatch.setenv("STACKKIT_STACK", "other")
    assert default_database() is not first


# What goes wrong


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://ann:hunter2@127.0.0.1:1/db",
        "mysql+pymysql://ann:hunter2@127.0.0.1:1/db",
        "postgresql+psycopg://127.0.0.1:1/db?user=ann&password=hunter2",
    ],
)
def test_an_unreachable_server(home: Path, url: str) -> None:
    database = at(home, url)
    error = failure(database)
    assert isinstance(error, StoreError)
    assert "127.0.0.1:1/db" in error.message
    for told in (str(error), database.url, repr(database.settings), repr(database)):
        assert "hunter2" not in told


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other options")
@pytest.mark.parametrize(
    "database_url",
    [pytest.param("postgresql", marks=pytest.mark.postgresql), pytest.param("mysql", marks=pytest.mark.mysql)],
    indirect=True,
)
def test_a_server_that_vanishes_without_a_word_is_noticed(database: Database) -> None:
    with database.read() as connection:
        driver = connection.connection.dbapi_connection
        descriptor = driver.fileno() if hasattr(driver, "fileno") else driver._sock.fileno()
        with socket.socket(fileno=os.dup(descriptor)) as opened:
            assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            tcp = [
                opened.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            ]
    idle, interval, probes, user_timeout = tcp
    assert idle + interval * probes == keepalive.SILENT_SECONDS == user_timeout / 1000


@pytest.mark.parametrize(
    "database_url",
    [pytest.param("postgresql", marks=pytest.mark.postgresql), pytest.param("mysql", marks=pytest.mark.mysql)],
    indirect=True,
)
def test_a_database_that_the_server_does_not_have(settings: Settings, home: Path) -> None:
    missing = make_url(settings.database_url).set(database="nowhere_at_all")
    error = failure(at(home, missing.render_as_string(hide_password=False)))
    assert isinstance(error, StoreError)
    assert "nowhere_at_all" in error.message
    assert f":{missing.password}@" not in error.message


@pytest.mark.parametrize(
    "url", ["postgresql://ann:hunter2@h/db", "mysql://h/db", "nosuch://h/db", "sqlite+aiosqlite:///x", "oracle://h/db"]
)
def test_a_driver_that_is_not_ours(home: Path, url: str) -> None:
    error = failure(at(home, url))
    assert isinstance(error, SettingsError)
    assert f"{url.partition(':')[0]}://" in error.message
    assert "postgresql+psycopg://" in str(error.hint)
    assert "hunter2" not in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "hunter2 is my password",
        "postgresql+psycopg://ann:my@password:hunter2@h/db",
        "postgresql+psycopg://ann:my@hunter2@h/db",
    ],
)
def test_no_url_at_all(home: Path, url: str) -> None:
    error = failure(at(home, url))
    assert isinstance(error, SettingsError)
    assert "STACKKIT_DATABASE_URL" in error.message
    assert "%40" in str(error.hint)
    told = "".join(traceback.format_exception(error))
    assert "hunter2" not in f"{error}{told}"


@pytest.mark.parametrize(
    ("module", "url", "extra"),
    [
        ("psycopg", "postgresql+psycopg://h/db", "stackkit[postgresql]"),
        ("pymysql", "mysql+pymysql://h/db", "stackkit[mysql]"),
    ],
)
def test_a_driver_that_is_not_installed(
    home: Path, monkeypatch: pytest.MonkeyPatch, module: str, url: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    error = failure(at(home, url))
    assert isinstance(error, StoreError)
    assert f"pip install '{extra}'" in str(error.hint)


def test_a_file_that_is_no_database(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, and they are longer than the header of a database file is\n" * 20)
    before = path.read_bytes()
    error = failure(at(home, f"sqlite:///{path}"))
    assert isinstance(error, StoreError)
    assert "no database" in error.message
    assert path.read_bytes() == before


def test_a_folder_in_its_place(tmp_path: Path, home: Path) -> None:
    assert isinstance(failure(at(home, f"sqlite:///{tmp_path}")), StoreError)


def test_a_folder_that_is_not_there(tmp_path: Path, home: Path) -> None:
    assert isinstance(failure(at(home, f"sqlite:///{tmp_path}/missing/file.db")), StoreError)


def test_a_home_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("STACKKIT_HOME", str(tmp_path / "file" / "home"))
    error = failure(Database(Settings.load()))
    assert isinstance(error, SettingsError)
    assert "STACKKIT_HOME" in str(error.hint)


def test_a_home_that_cannot_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir()
    monkeypatch.setattr("os.access", lambda *args, **options: False)  # the mode does not stop a superuser
    error = failure(Database(Settings.load()))
    assert isinstance(error, SettingsError)
    assert "cannot be written" in error.message


def test_a_full_disk(database: Database) -> None:
    with database.read() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
    with pytest.raises(StoreError, match="is full") as caught, database.write() as connection:
        connection.execute(text(f"PRAGMA max_page_count = {pages}"))
        connection.execute(insert(meta).values(key="big", value="x" * 1_000_000))
    assert "\n" not in caught.value.message


def test_a_connection_that_became_read_only_is_not_used_again(database: Database) -> None:
    with database.read() as connection:
        connection.execute(text("PRAGMA query_only = ON"))  # as is one that was opened while its disk was
    with pytest.raises(StoreError, match="readonly"), database.write() as connection:
        connection.execute(insert(meta).values(key="a", value="1"))
    with database.write() as connection:
        connection.execute(insert(meta).values(key="a", value="1"))


def test_a_writer_that_does_not_end(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackkit.store.database._BUSY_SECONDS", 0.05)
    second = Database(database.settings)
    with (
        database.write() as connection,
        pytest.raises(StoreError, match="is busy") as caught,
    ):
        connection.execute(insert(meta).values(key="one", value="1"))
        with second.write():
            pass
    second.close()
    assert caught.value.hint == "Try again."


@pytest.mark.all_databases
@pytest.mark.parametrize("statement", ["SELEKT 1", "SELECT nothing FROM meta", "SELECT 1 FROM nowhere"])
def test_a_mistake_in_a_statement_is_not_blamed_on_the_database(database: Database, statement: str) -> None:
    with pytest.raises(SQLAlchemyError), database.read() as connection:
        connection.execute(text(statement))


def test_a_damaged_file(settings: Settings, home: Path) -> None:
    with closing(sqlite3.connect(settings.ensure_home() / "stackkit.db")) as connection:
        connection.execute("CREATE TABLE stackkit_schema (version_num TEXT)")
        connection.execute("INSERT INTO stackkit_schema VALUES ('0001')")
        connection.commit()
    path = home / "stackkit.db"
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 4096)
    error = failure(Database(settings))
    assert isinstance(error, StoreError)
    assert "damaged" in error.message
