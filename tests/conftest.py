"""What all tests share: a home of their own, the databases, and how a missing real part is told."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from stackkit import Client
from stackkit.settings import Settings
from stackkit.store import Database

SERVERS = {
    "postgresql": ("STACKKIT_TEST_POSTGRESQL_URL", "postgresql+psycopg://stackkit:stackkit@127.0.0.1:55432/stackkit"),
    "mysql": ("STACKKIT_TEST_MYSQL_URL", "mysql+pymysql://stackkit:stackkit@127.0.0.1:53306/stackkit"),
}


def require(part: str, reason: str) -> None:
    """Skip for want of a real part, or fail where STACKKIT_TEST_REQUIRE says that it has to be there."""
    if part in os.environ.get("STACKKIT_TEST_REQUIRE", "").replace(" ", "").split(","):
        pytest.fail(f"STACKKIT_TEST_REQUIRE names {part}: {reason}")
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of this test's own, in place of the developer's."""
    for name in [name for name in os.environ if name.startswith("STACKKIT_") and "_TEST_" not in name]:
        monkeypatch.delenv(name)
    folder = tmp_path / "home"
    monkeypatch.setenv("STACKKIT_HOME", str(folder))
    return folder


@pytest.fixture
def database_url(request: pytest.FixtureRequest, home: Path) -> Iterator[str]:
    """The URL of an empty database; parametrised by ``database`` over the kinds."""
    kind = getattr(request, "param", "sqlite")
    if kind == "sqlite":
        yield f"sqlite:///{home / 'stackkit.db'}"
        return
    variable, usual = SERVERS[kind]
    server = create_engine(os.environ.get(variable, usual), isolation_level="AUTOCOMMIT")
    name = f"stackkit_test_{uuid.uuid4().hex}"
    try:
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
    except Exception as error:
        server.dispose()
        require(kind, f"no {kind} server answers ({type(error).__name__}); set {variable}")
    try:
        yield server.url.set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            if kind == "postgresql":
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
            else:
                connection.execute(text(f"DROP DATABASE {name}"))
        server.dispose()


@pytest.fixture
def settings(database_url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings on ``database_url``, which the environment names too."""
    if not database_url.startswith("sqlite"):
        monkeypatch.setenv("STACKKIT_DATABASE_URL", database_url)
        monkeypatch.setenv("STACKKIT_SECRET_KEY", "c3RhY2traXQgdGVzdHMgb25seSBzdGFja2tpdCB0ZXM=")
    return Settings.load()


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """An empty database with the schema in it."""
    database = Database(settings)
    database.upgrade()
    yield database
    database.close()


@pytest.fixture
def client(database: Database, settings: Settings) -> Iterator[Client]:
    """A client on ``database``."""
    client = Client(settings)
    yield client
    client.database.close()


ALL_DATABASES = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgresql", id="postgresql", marks=pytest.mark.postgresql),
    pytest.param("mysql", id="mysql", marks=pytest.mark.mysql),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that is marked ``all_databases`` once on each kind of database."""
    if metafunc.definition.get_closest_marker("all_databases"):
        metafunc.parametrize("database_url", ALL_DATABASES, indirect=True)


@pytest.fixture
def requires() -> Callable[[str, str], None]:
    """``require``, for tests that look for their real part themselves."""
    return require
