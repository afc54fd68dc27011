"""Leases between processes: waited for, taken over from the dead, and fenced, on every database."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, update

from stackkit.errors import DeploymentTimeoutError, LeaseLostError, StoreError
from stackkit.model_deployers import Operation, leases
from stackkit.model_deployers.memory import MemoryModelDeployer
from stackkit.processes import ProcessIdentity
from stackkit.store import Database, outages
from stackkit.store import services as rows
from stackkit.store.tables import services

pytestmark = pytest.mark.all_databases


@pytest.fixture
def service_id(deployer: MemoryModelDeployer) -> str:
    return deployer.deploy_model(model_name="iris", model_uri="one", timeout=5).id


def take(database: Database, service_id: str, seconds: float = 0) -> leases.Lease:
    lease = leases.take(database, service_id, time.monotonic() + seconds)
    assert lease is not None
    return lease


def set_owner(database: Database, owner: str, expires: int) -> None:
    with database.write() as connection:
        connection.execute(update(services).values(lease_owner=owner, lease_expires=rows.now(expires)))


def owner_of(identity: ProcessIdentity) -> str:
    return json.dumps({"process": identity.as_dict(), "id": "x"})


def ended_process() -> ProcessIdentity:
    code = "from stackkit.model_deployers.leases import new_owner; print(new_owner())"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    identity = ProcessIdentity.parse(printed)
    assert identity is not None
    return identity


def test_one_that_is_held_is_waited_for_and_then_given_up(database: Database, service_id: str) -> None:
    with take(database, service_id), pytest.raises(DeploymentTimeoutError, match="another process"):
        take(database, service_id, seconds=0.1)
    with take(database, service_id):
        pass


def test_one_whose_owner_is_dead_is_taken_over_at_once(database: Database, service_id: str) -> None:
    set_owner(database, owner_of(ended_process()), expires=30)
    with take(database, service_id) as lease:
        lease.write({"message": "taken over"})


def test_one_that_this_process_could_not_give_back_is_taken_over_at_once(
    database: Database, service_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_RELEASE_SECONDS", 0.0)

    def fail(*_: object) -> None:
        raise StoreError("The database is away.")

    with monkeypatch.context() as patched, take(database, service_id):
        patched.setattr(rows, "release_lease", fail)
    with database.read() as connection:
        row = rows.get(connection, service_id)
    assert row is not None
    assert row["leased"]
    with take(database, service_id) as lease:
        lease.write({"message": "taken over"})
        with pytest.raises(DeploymentTimeoutError):
            take(database, service_id)


def test_one_from_another_machine_is_respected_until_it_expires(database: Database, service_id: str) -> None:
    elsewhere = ProcessIdentity("another-machine", "boot", "ns", 1, "1")
    set_owner(database, owner_of(elsewhere), expires=30)
    with pytest.raises(DeploymentTimeoutError):
        take(database, service_id)
    set_owner(database, owner_of(elsewhere), expires=-1)
    with take(database, service_id):
        pass


def test_who_slept_through_the_expiry_is_fenced(database: Database, service_id: str) -> None:
    sleeper = take(database, service_id)
    set_owner(database, owner_of(ProcessIdentity("another-machine", "boot", "ns", 1, "1")), expires=-1)
    with take(database, service_id) as successor:
        assert successor.epoch == sleeper.epoch + 1
        with pytest.raises(LeaseLostError):
            sleeper.write({"message": "too late"})
        with pytest.raises(LeaseLostError):
            sleeper.check()
        with pytest.raises(LeaseLostError):
            sleeper.read()
        assert successor.read()["message"] == ""


def test_a_sleepers_farewell_does_not_free_its_successors_lease(database: Database, service_id: str) -> None:
    with take(database, service_id):
        set_owner(database, "somebody", expires=-1)
        successor = take(database, service_id)
    with successor, pytest.raises(DeploymentTimeoutError):
        take(database, service_id)


def test_it_renews_itself(database: Database, service_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_RENEW_SECONDS", 0.01)
    with take(database, service_id):
        with database.write() as connection:
            connection.execute(update(services).values(lease_expires=rows.now(-1)))
        deadline = time.monotonic() + 10
        while True:
            with database.read() as connection:
                row = rows.get(connection, service_id)
            assert row is not None
            if row["leased"]:
                break
            assert time.monotonic() < deadline, "the lease was not renewed"


def test_a_service_that_is_gone_has_none(database: Database) -> None:
    assert leases.take(database, "00000000-0000-0000-0000-000000000000", time.monotonic()) is None


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Have the database be away from the next write on, for a while."""

    def begin(seconds: float) -> None:
        back = time.monotonic() + seconds
        write = Database.write

        @contextmanager
        def away(database: Database) -> Iterator[Connection]:
            if time.monotonic() < back:
                raise StoreError("The database is away.")
            with write(database) as connection:
                yield connection

        monkeypatch.setattr(Database, "write", away)

    return begin


def test_what_has_begun_is_written_down_when_the_database_is_back(
    deployer: MemoryModelDeployer, outage: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = deployer.do_start

    def lose_the_database(operation: Operation) -> None:
        outage(0.3)
        start(operation)

    monkeypatch.setattr(deployer, "do_start", lose_the_database)
    service = deployer.deploy_model(model_name="iris", model_uri="one", timeout=5)
    assert service.is_running
    assert deployer.platform.starts == 1


def test_a_database_that_stays_away_is_told(
    database: Database, service_id: str, outage: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "OUTAGE_SECONDS", 0.2)
    lease = take(database, service_id)
    outage(60)
    with pytest.raises(StoreError, match="away"):
        lease.write({"message": "never"})


def test_an_event_is_written_once_although_its_commit_was_not_answered(
    database: Database, service_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "_PAUSES", (0.001, 0.001))
    write, unanswered = Database.write, []

    @contextmanager
    def lose_the_first_answer(database: Database) -> Iterator[Connection]:
        with write(database) as connection:
            yield connection
        if not unanswered:
            unanswered.append("committed")
            raise StoreError("The connection broke.")

    with take(database, service_id) as lease, monkeypatch.context() as patched:
        patched.setattr(Database, "write", lose_the_first_answer)
        lease.write({"message": "seen"}, {"action": "test", "outcome": "done"})
        lease.write({"message": "seen"}, {"action": "test", "outcome": "done"})
    assert unanswered
    with database.read() as connection:
        written = [event for event in rows.events(connection, service_id) if event["action"] == "test"]
    assert len(written) == 2, "once for each time that it happened"
