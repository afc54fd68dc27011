"""The database's connection breaks at each point of each operation: what is written down stays true.

On the in-memory platform, which has the points of the lifecycle and none of its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from databases import kill_connections
from memory_verbs import FLAVOR, VERBS, delete, split, truth

from stackkit import Client
from stackkit.errors import StoreError
from stackkit.model_deployers.memory import MemoryModelDeployer
from stackkit.settings import Settings
from stackkit.stack import ComponentType
from stackkit.store import Database, outages


@pytest.fixture(params=["restarts", "updates in place"])
def deployer(request: pytest.FixtureRequest, client: Client) -> MemoryModelDeployer:
    client.flavors.register(ComponentType.MODEL_DEPLOYER, FLAVOR)
    attributes = {"platform": f"memory-{uuid.uuid4()}", "updates_in_place": request.param == "updates in place"}
    client.register_component(ComponentType.MODEL_DEPLOYER, "memory", "memory", attributes)
    loaded = client.model_deployer("memory")
    assert isinstance(loaded, MemoryModelDeployer)
    return loaded


class Breaks:
    """Breaks the database at the point ``at``, counted from 1: around the statements of a transaction, or after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.passed = 0
        self.at = at
        read, write = Database.read, Database.write

        @contextmanager
        def around_read(database: Database) -> Iterator[Any]:
            with read(database) as connection:
                self.reach(database, connection)
                yield connection

        @contextmanager
        def around_write(database: Database) -> Iterator[Any]:
            with write(database) as connection:
                self.reach(database, connection)
                yield connection
                self.reach(database, connection)
            self.reach(database, None)

        monkeypatch.setattr(Database, "read", around_read)
        monkeypatch.setattr(Database, "write", around_write)

    def reach(self, database: Database, connection: Any) -> None:
        self.passed += 1
        if self.passed == self.at:
            self.strike(database, connection)

    def strike(self, database: Database, connection: Any) -> None:
        raise NotImplementedError


class KilledConnection(Breaks):
    """The server ends every connection; after a commit that is between two operations, and costs nothing."""

    def strike(self, database: Database, connection: Any) -> None:
        assert kill_connections(database.settings.database_url) or connection is None


class LostAnswer(Breaks):
    """The transaction is committed, and its answer never arrives; at other points nothing of it happens."""

    def strike(self, database: Database, connection: Any) -> None:
        raise StoreError("The connection broke.")


def every_event_is_written_once(client: Client) -> None:
    """Also the one whose transaction was committed, and done again because nobody said so."""
    for service in client.servers.find(refresh=False):
        events = [(each["action"], each["outcome"], each["message"]) for each in client.servers.history(service.id)]
        assert not any(one == other for one, other in pairwise(events)), events


@pytest.mark.faults
@pytest.mark.all_databases
@pytest.mark.parametrize("kind", [KilledConnection, LostAnswer])
@pytest.mark.parametrize("verb", VERBS)
def test_a_connection_that_breaks_at_each_point(
    verb: str,
    kind: type[Breaks],
    client: Client,
    settings: Settings,
    deployer: MemoryModelDeployer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if kind is KilledConnection and settings.database_url.startswith("sqlite"):
        pytest.skip("a SQLite file has no server that could end a connection")
    monkeypatch.setattr(outages, "_PAUSES", (0.001, 0.001))
    before, operation, finally_state = VERBS[verb]
    if split in (operation, *before) and not deployer.config.updates_in_place:
        pytest.skip("a canary runs beside a server that can be updated in place")
    at, refused = 0, 0
    while True:
        for each in before:
            each(deployer)
        at += 1
        with monkeypatch.context() as patched:
            breaks = kind(patched, at)
            try:
                operation(deployer)
            except StoreError:
                refused += 1
            if breaks.passed < at:
                break
        truth(client, deployer)
        every_event_is_written_once(client)
        operation(deployer)
        truth(client, deployer)
        services = list(deployer.find_model_server())
        assert not any(service.is_being_worked_on for service in services)
        assert [service.status.state for service in services] == ([] if finally_state is None else [finally_state])
        assert all(service.status.message == "" for service in services), f"broken at point {at}"
        delete(deployer)
        assert not deployer.platform.servers
    assert at > 10, "the points are in place"
    assert refused <= 3, "once an operation has begun it waits for the database; only its first reads may be refused"
