"""Watching: what died is started again, with pauses and an end to it; several watchers never double the work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stackkit import Client
from stackkit.errors import StoreError
from stackkit.model_deployers import Service, ServiceState, Target, leases, watch
from stackkit.model_deployers.memory import MemoryModelDeployer
from stackkit.model_deployers.watch import Act, Attempts, Watcher, decide

S = ServiceState
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def ago(*seconds: float) -> Attempts:
    return Attempts([NOON - timedelta(seconds=each) for each in seconds], gave_up=False)


@pytest.mark.parametrize(
    ("target", "state", "attempts", "act"),
    [
        (Target.ACTIVE, S.ACTIVE, ago(), None),
        (Target.ACTIVE, S.PENDING_STARTUP, ago(), None),
        (Target.ACTIVE, S.SCALED_TO_ZERO, ago(), None),
        (Target.ACTIVE, S.ERROR, ago(), Act.RESTART),
        (Target.ACTIVE, S.INACTIVE, ago(), Act.RESTART),
        (Target.ACTIVE, S.ERROR, ago(0.5), None),
        (Target.ACTIVE, S.ERROR, ago(1.5), Act.RESTART),
        (Target.ACTIVE, S.ERROR, ago(20, 3), Act.RESTART),
        (Target.ACTIVE, S.ERROR, ago(20, 1.5), None),
        (Target.ACTIVE, S.ERROR, ago(50, 40, 30, 20, 10), Act.GIVE_UP),
        (Target.ACTIVE, S.ERROR, ago(9999, 9998, 30, 20, 10), Act.RESTART),
        (Target.ACTIVE, S.ERROR, Attempts([], gave_up=True), None),
        (Target.INACTIVE, S.INACTIVE, ago(), None),
        (Target.INACTIVE, S.ACTIVE, ago(), Act.STOP),
        (Target.DELETED, S.INACTIVE, ago(), Act.DELETE),
        (Target.DELETED, S.ACTIVE, ago(), Act.DELETE),
    ],
)
def test_what_is_done(target: Target, state: S, attempts: Attempts, act: Act | None) -> None:
    assert decide(target, state, attempts, NOON) is act


def events(*steps: tuple[str, str]) -> list[dict[str, Any]]:
    return [
        {"action": action, "outcome": outcome, "at": NOON + timedelta(seconds=number)}
        for number, (action, outcome) in enumerate(steps)
    ]


def test_restarts_count_until_a_person_touches_it() -> None:
    by_watcher = [("watch", "begun"), ("start", "begun"), ("start", "failed")]
    assert len(Attempts.of(events(("deploy", "begun"), ("start", "done"), *by_watcher, *by_watcher)).times) == 2
    assert not Attempts.of(events(*by_watcher, ("start", "begun"))).times
    assert Attempts.of(events(*by_watcher, ("watch", "gave up"))).gave_up
    assert not Attempts.of(events(*by_watcher, ("watch", "gave up"), ("replace", "begun"))).gave_up


@pytest.fixture
def service(deployer: MemoryModelDeployer) -> Service:
    return deployer.deploy_model(model_name="iris", model_uri="one", timeout=5)


@pytest.fixture
def look(client: Client) -> Callable[..., list[str]]:
    def look(watchers: int = 1) -> list[str]:
        """One round of some watchers at once, and what they reported."""
        said: list[str] = []
        ready = threading.Barrier(watchers)

        def round_of_one() -> None:
            watcher = Watcher(client.database, interval=0, report=said.append)
            ready.wait()
            with ThreadPoolExecutor(4) as pool:
                watcher.look(pool)

        threads = [threading.Thread(target=round_of_one) for _ in range(watchers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return said

    return look


def test_what_died_is_started_again(
    deployer: MemoryModelDeployer, service: Service, look: Callable[..., list[str]]
) -> None:
    assert look() == []
    deployer.platform.servers[service.id].running = False
    assert look() == [f"restart: iris ({service.id})"]
    assert deployer.get_model_server(service).is_running
    assert look() == []


@pytest.mark.all_databases
def test_several_watchers_start_it_once(
    deployer: MemoryModelDeployer, service: Service, look: Callable[..., list[str]]
) -> None:
    deployer.platform.servers[service.id].running = False
    look(watchers=4)
    assert deployer.get_model_server(service).is_running
    assert deployer.platform.starts == 2


def test_what_was_stopped_stays_stopped(
    deployer: MemoryModelDeployer, service: Service, look: Callable[..., list[str]]
) -> None:
    service.stop()
    assert look() == []
    assert not deployer.platform.servers[service.id].running


def test_an_interrupted_deletion_is_finished(
    client: Client, deployer: MemoryModelDeployer, service: Service, look: Callable[..., list[str]]
) -> None:
    lease = leases.take(client.database, service.id, time.monotonic())
    assert lease is not None
    with lease:
        lease.write({"target": Target.DELETED})
    look()
    assert not deployer.find_model_server()
    assert service.id not in deployer.platform.servers


def test_a_service_that_somebody_works_on_is_left_to_them(
    client: Client, deployer: MemoryModelDeployer, service: Service, look: Callable[..., list[str]]
) -> None:
    deployer.platform.servers[service.id].running = False
    deployer.get_model_server(service)
    lease = leases.take(client.database, service.id, time.monotonic())
    assert lease is not None
    with lease:
        assert look() == []


def test_a_crash_loop_ends_and_is_told_until_somebody_starts_it(
    deployer: MemoryModelDeployer,
    service: Service,
    look: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "LONGEST_PAUSE", timedelta(0))
    for number in range(watch.MOST_RESTARTS):
        deployer.platform.servers[service.id].running = False
        assert look() == [f"restart: iris ({service.id})"], f"round {number}"
    deployer.platform.servers[service.id].running = False
    assert look() == [f"give up: iris ({service.id})"]
    assert look() == []
    seen = deployer.get_model_server(service)
    assert seen.status.state is ServiceState.ERROR
    assert seen.status.message.startswith(watch.CRASH_LOOP)
    seen.start()
    deployer.platform.servers[service.id].running = False
    assert look() == [f"restart: iris ({service.id})"]


def test_it_waits_for_a_database_that_went_away(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    stop = threading.Event()
    rounds = iter([StoreError("The database is away."), None])

    def look(self: Watcher, pool: ThreadPoolExecutor) -> None:
        error = next(rounds)
        if error is not None:
            raise error
        stop.set()

    monkeypatch.setattr(Watcher, "look", look)
    Watcher(client.database, interval=0, report=said.append).run(stop)
    assert said == ["The database is away."]
