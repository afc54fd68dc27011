"""What all tests share: a home of their own, the databases, and how a missing real part is told."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from local_wheels import write_wheels
from real_parts import require
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import ProgrammingError

from stackkit import Client
from stackkit.settings import Settings
from stackkit.store import Database
from stackkit.store import database as database_room
from stackkit.store.tables import metadata

SERVERS = {
    "postgresql": ("STACKKIT_TEST_POSTGRESQL_URL", "postgresql+psycopg://stackkit:stackkit@127.0.0.1:55432/stackkit"),
    "mysql": ("STACKKIT_TEST_MYSQL_URL", "mysql+pymysql://stackkit:stackkit@127.0.0.1:53306/stackkit"),
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of this test's own, in place of the developer's; what was opened by default is closed at the end."""
    for name in [name for name in os.environ if name.startswith("STACKKIT_") and "_TEST_" not in name]:
        monkeypatch.delenv(name)
    folder = tmp_path / "home"
    monkeypatch.setenv("STACKKIT_HOME", str(folder))
    opened: list[Engine] = []

    def open_and_note(settings: Settings) -> Engine:
        opened.append(make_engine(settings))
        return opened[-1]

    make_engine = database_room._make_engine
    monkeypatch.setattr(database_room, "_make_engine", open_and_note)
    monkeypatch.setattr(database_room, "_databases", {})
    yield folder
    for engine in opened:
        engine.dispose()


@pytest.fixture(scope="session")
def server_url() -> Iterator[Callable[[str], str]]:
    """Makes an empty database on the server of a kind and gives its URL; all of them are dropped at the end."""
    made: list[tuple[Engine, str, str]] = []

    def make(kind: str) -> str:
        variable, usual = SERVERS[kind]
        server = create_engine(os.environ.get(variable, usual), isolation_level="AUTOCOMMIT")
        name = f"stackkit_test_{uuid.uuid4().hex}"
        try:
            with server.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {name}"))
        except Exception as error:
            server.dispose()
            require(kind, f"no {kind} server answers ({type(error).__name__}); set {variable}")
        made.append((server, kind, name))
        return server.url.set(database=name).render_as_string(hide_password=False)

    yield make
    for server, kind, name in made:
        with server.connect() as connection:
            try:
                connection.execute(text(f"DROP DATABASE {name}{' WITH (FORCE)' if kind == 'postgresql' else ''}"))
            except ProgrammingError:  # PostgreSQL's own vacuum is there, which nobody but it may end: it does so now
                connection.execute(text(f"DROP DATABASE {name}"))
        server.dispose()


@pytest.fixture(scope="session")
def emptied_url(server_url: Callable[[str], str]) -> Callable[[str], str]:
    """Gives the URL of a database that has the schema and no rows: one for all tests, emptied each time."""
    urls: dict[str, str] = {}

    def empty(kind: str) -> str:
        if kind not in urls:
            urls[kind] = server_url(kind)
            return urls[kind]
        engine = create_engine(urls[kind])
        with engine.begin() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
        engine.dispose()
        return urls[kind]

    return empty


@pytest.fixture
def database_url(request: pytest.FixtureRequest, home: Path) -> str:
    """The URL of an empty database; the marker ``all_databases`` gives each kind in turn."""
    kind = getattr(request, "param", "sqlite")
    if kind == "sqlite":
        return f"sqlite:///{home / 'stackkit.db'}"
    # making the schema anew takes a server a second: only those who look at that themselves wait for it
    shared = "database" in request.fixturenames and not request.node.get_closest_marker("own_database")
    source = "emptied_url" if shared else "server_url"
    url: str = request.getfixturevalue(source)(kind)
    return url


@pytest.fixture
def settings(database_url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings on ``database_url``, which the environment names too."""
    if not database_url.startswith("sqlite"):
        monkeypatch.setenv("STACKKIT_DATABASE_URL", database_url)
        monkeypatch.setenv("STACKKIT_SECRET_KEY", "c3RhY2traXQgdGVzdHMgb25seSBzdGFja2tpdCB0ZXM=")
    return Settings.load()


@pytest.fixture(name="database")
def _database(settings: Settings) -> Iterator[Database]:
    """An empty database with the schema in it."""
    opened = Database(settings)
    opened.upgrade()
    yield opened
    opened.close()


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


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The options that make pip and uv install from wheels made here, and from nowhere else."""
    return tuple(write_wheels(tmp_path_factory.mktemp("wheels")))


@pytest.fixture
def asks_for(wheels: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write a requirements.txt into a folder, of lines that those wheels fulfil."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)

    def write(folder: Path, *lines: str) -> Path:
        file = folder / "requirements.txt"
        file.write_text("".join(f"{line}\n" for line in (*wheels, *lines)), encoding="utf-8")
        return file

    return write


@pytest.fixture
def requires() -> Callable[[str, str], None]:
    """``require``, for tests that look for their real part themselves."""
    return require
