"""The schema: what Alembic makes is what the code uses; upgrades are safe, refused where they are not ours to do."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import JSON, Connection, inspect, text

import stackkit_migrations
from stackkit import Client
from stackkit.errors import SchemaVersionError, StoreError
from stackkit.settings import Settings
from stackkit.stack import ComponentType
from stackkit.store import Database, schema
from stackkit.store import services as rows
from stackkit.store.tables import metadata

pytestmark = pytest.mark.own_database

SAVED = Path(__file__).parent / "saved"
SAVED_KEY = "c2F2ZWQgZGF0YWJhc2VzIGFyZSB0ZXN0ZWQgMDAwMSE="


def set_revision(database: Database, revision: str) -> None:
    with database.engine.begin() as connection:
        connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '{revision}'"))


@pytest.fixture
def older(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A database one step behind: the next schema is the present one with a table more."""
    monkeypatch.setattr(schema, "HEAD", "0003")

    def migrate(connection) -> None:
        connection.execute(text("CREATE TABLE added (id INTEGER)"))
        connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '0003'"))

    monkeypatch.setattr(schema, "_migrate", migrate)
    fresh = Database(database.settings)
    yield fresh
    fresh.close()


@pytest.mark.all_databases
def test_migrations_make_the_tables_that_the_code_uses(database: Database) -> None:
    with database.read() as connection:
        options = {"version_table": schema.VERSION_TABLE, "compare_type": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_head_is_the_newest_script() -> None:
    scripts = ScriptDirectory(str(Path(stackkit_migrations.__file__).parent))
    assert scripts.get_heads() == [schema.HEAD]


@pytest.mark.all_databases
def test_upgrade_is_a_no_op_when_there_is_nothing_to_do(database: Database) -> None:
    assert database.upgrade() == (schema.HEAD, schema.HEAD)


def test_an_everyday_command_imports_no_alembic(database: Database) -> None:
    code = "import sys; from stackkit import Client; Client().stacks.list(); print('alembic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.all_databases
def test_a_newer_schema_is_refused(database: Database) -> None:
    set_revision(database, "9999")
    fresh = Database(database.settings)
    with pytest.raises(SchemaVersionError, match="newer") as caught, fresh.read():
        pass
    assert "pip install --upgrade stackkit" in str(caught.value.hint)
    with pytest.raises(SchemaVersionError, match="newer"):
        fresh.upgrade()
    assert fresh.revision() == "9999"
    fresh.close()


@pytest.mark.all_databases
def test_somebody_elses_database_is_refused(settings: Settings) -> None:
    database = Database(settings)
    settings.ensure_home()
    with database.engine.begin() as connection:
        connection.execute(text("CREATE TABLE customers (id INTEGER)"))
    with pytest.raises(StoreError, match="customers"):
        database.upgrade()
    with pytest.raises(StoreError), database.read():
        pass
    assert inspect(database.engine).get_table_names() == ["customers"]
    database.close()


def test_somebody_elses_sqlite_file_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE customers (id INTEGER)")
    path.chmod(0o644)
    before = path.read_bytes()
    monkeypatch.setenv("STACKKIT_DATABASE_URL", f"sqlite:///{path}")
    database = Database(Settings.load())
    with pytest.raises(StoreError, match="customers"), database.read():
        pass
    database.close()
    assert path.read_bytes() == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.all_databases
def test_half_a_schema_is_told_as_such(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(text(f"DELETE FROM {schema.VERSION_TABLE}"))
    with pytest.raises(StoreError, match="half a schema"):
        database.upgrade()


def test_an_older_file_is_upgraded_after_a_copy_beside_it(older: Database, home: Path) -> None:
    with older.read() as connection:
        assert inspect(connection).has_table("added")
    copy = home / "stackkit.db.schema-0002.bak"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute(f"SELECT version_num FROM {schema.VERSION_TABLE}").fetchall() == [("0002",)]
        assert not connection.execute("SELECT * FROM sqlite_master WHERE name = 'added'").fetchall()
    assert [path.name for path in home.glob("*.bak*")] == [copy.name]


def test_an_upgrade_that_fails_changes_nothing(older: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def migrate(connection) -> None:
        connection.execute(text("CREATE TABLE added (id INTEGER)"))
        raise ZeroDivisionError

    monkeypatch.setattr(schema, "_migrate", migrate)
    with pytest.raises(ZeroDivisionError), older.read():
        pass
    assert older.revision() == "0002"
    assert not inspect(older.engine).has_table("added")


_UNDO_0002 = (
    "{drop_index}",
    "ALTER TABLE service_event DROP COLUMN idempotency_key",
    "ALTER TABLE service DROP COLUMN canary_percent",
    "ALTER TABLE service DROP COLUMN canary_revision",
)


@pytest.mark.all_databases
@pytest.mark.parametrize("missing", range(len(_UNDO_0002) + 1))
def test_an_upgrade_that_was_cut_off_is_gone_on_with(database: Database, missing: int) -> None:
    on = " ON service_event" if database.engine.dialect.name == "mysql" else ""
    with database.engine.begin() as connection:
        for statement in _UNDO_0002[:missing]:
            drop_index = f"DROP INDEX ix_service_event_idempotency_key{on}"
            connection.execute(text(statement.format(drop_index=drop_index)))
    set_revision(database, "0001")
    assert database.upgrade() == ("0001", schema.HEAD)
    with database.read() as connection:
        options = {"version_table": schema.VERSION_TABLE, "compare_type": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_a_second_upgrade_leaves_the_first_ones_copy_alone(older: Database, home: Path) -> None:
    copy = home / "stackkit.db.schema-0002.bak"
    assert older.upgrade() == ("0002", "0003")
    before = copy.read_bytes()
    assert older.upgrade() == ("0003", "0003")
    assert copy.read_bytes() == before


@pytest.mark.parametrize(
    "database_url",
    [
        pytest.param("postgresql", marks=pytest.mark.postgresql),
        pytest.param("mysql", marks=pytest.mark.mysql),
    ],
    indirect=True,
)
def test_an_older_server_is_upgraded_only_when_told(older: Database) -> None:
    with pytest.raises(SchemaVersionError, match="0002") as caught, older.read():
        pass
    assert "stackkit db upgrade" in str(caught.value.hint)
    assert older.revision() == "0002"
    assert older.upgrade() == ("0002", "0003")
    with older.read() as connection:
        assert inspect(connection).has_table("added")


_UPGRADER = """
from stackkit.settings import Settings
from stackkit.store import Database
Database(Settings.load()).upgrade()
"""


@pytest.mark.all_databases
def test_processes_that_upgrade_at_once_take_turns(settings: Settings) -> None:
    upgraders = [
        subprocess.Popen([sys.executable, "-c", _UPGRADER], stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [upgrader.communicate()[1] for upgrader in upgraders] == [""] * 3
    database = Database(settings)
    assert database.revision() == schema.HEAD
    database.close()


@pytest.fixture
def saved(request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client on a database as a released schema left it."""
    with closing(sqlite3.connect(settings.ensure_home() / "stackkit.db")) as connection:
        connection.executescript((SAVED / f"{request.param}.sql").read_text(encoding="utf-8"))
    monkeypatch.setenv("STACKKIT_SECRET_KEY", SAVED_KEY)
    client = Client(Settings.load())
    yield client
    client.database.close()


REVISIONS = sorted(path.stem for path in SAVED.glob("*.sql"))


@pytest.mark.parametrize("saved", REVISIONS, indirect=True)
def test_a_saved_database_is_opened_and_used(saved: Client) -> None:
    use(saved)


@pytest.mark.parametrize(
    "database_url",
    [
        pytest.param("postgresql", marks=pytest.mark.postgresql),
        pytest.param("mysql", marks=pytest.mark.mysql),
    ],
    indirect=True,
)
@pytest.mark.parametrize("revision", REVISIONS)
def test_what_a_released_schema_holds_outlives_the_upgrade_of_a_server(
    revision: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Database(settings)
    with monkeypatch.context() as patched:
        patched.setattr(schema, "HEAD", revision)
        old.upgrade()
    with old.engine.begin() as connection:
        copy_saved(connection, revision)
    old.close()
    monkeypatch.setenv("STACKKIT_SECRET_KEY", SAVED_KEY)
    client = Client(Settings.load())
    assert client.database.upgrade() == (revision, schema.HEAD)
    use(client)
    client.database.close()


def copy_saved(connection: Connection, revision: str) -> None:
    """Put every row of a saved database into one that has the same schema and none."""
    quote = connection.dialect.identifier_preparer.quote
    with closing(sqlite3.connect(":memory:")) as kept:
        kept.row_factory = sqlite3.Row
        kept.executescript((SAVED / f"{revision}.sql").read_text(encoding="utf-8"))
        for table in metadata.sorted_tables:
            for row in kept.execute(f'SELECT * FROM "{table.name}"'):
                values = {name: row[name] for name in row.keys() if name != "running"}  # noqa: SIM118 - no mapping
                for name in values.keys() & {column.name for column in table.columns if isinstance(column.type, JSON)}:
                    values[name] = str(values[name])  # which SQLite has read as a number where it is one
                columns, given = ", ".join(map(quote, values)), ", ".join(f":{name}" for name in values)
                connection.execute(text(f"INSERT INTO {quote(table.name)} ({columns}) VALUES ({given})"), values)


def use(saved: Client) -> None:
    """See that what was kept is there, and can be used."""
    deployer = saved.components.get(ComponentType.MODEL_DEPLOYER, "kept")
    assert deployer.flavor == "remote"
    with saved.database.read() as connection:
        assert saved.secrets.reveal(connection, deployer.config)["token"] == "the kept token"
        (service,) = rows.page(connection, {"model_name": "iris"}, limit=10)
        assert [row["number"] for row in rows.revisions(connection, service["id"])] == [1, 2]
        assert [row["action"] for row in rows.events(connection, service["id"])] == ["deploy", "replace"]
    assert saved.secrets.values("kept-secret") == {"password": "hunter2"}
    assert set(saved.stacks.get("kept-stack").components) == set(ComponentType)
    assert saved.get_pipeline_run("kept-run").status == "completed"
    found = saved.servers.get("kept-service")
    assert (found.name, found.revision) == ("kept-service", 2)
    assert found.status.state == "unknown"  # the flavor is not installed here
