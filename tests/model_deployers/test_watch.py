"""Watching: what died is started again, with pauses and an end to it; several watchers never double the work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from stackkit import Client
from stackkit.errors import DeploymentError, StoreError
from stackkit.model_deployers import Canary, Service, ServiceState, Target, leases, watch
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
        (Target.INACTIVE, S.SCALED_TO_ZERO, ago(), Act.STOP),
        (Target.INACTIVE, S.ERROR, ago(), Act.STOP),
        (Target.DELETED, S.INACTIVE, ago(), Act.DELETE),
        (Target.DELETED, S.ACTIVE, ago(), Act.DELETE),
    ],
)
def test_what_is_done(target: Target, state: S, attempts: Attempts, act: Act | None) -> None:
    assert decide(target, state, attempts, NOON) is act


@pytest.mark.parametrize(
    ("state", "share", "attempts", "act"),
    [
        (S.ACTIVE, 20, ago(), None),
        (S.ACTIVE, 100, ago(), Act.PROMOTE),
        (S.SCALED_TO_ZERO, 100, ago(), Act.PROMOTE),
        (S.ACTIVE, 0, ago(), Act.ABORT),
        (S.ACTIVE, 0, ago(0.5), None),
        (S.ACTIVE, 0, ago(50, 40, 30, 20, 10), None),
        (S.ACTIVE, 0, ago(9999, 9998, 30, 20, 10), Act.ABORT),
        (S.PENDING_STARTUP, 100, ago(), None),
        (S.ERROR, 100, ago(), Act.RESTART),
    ],
)
def test_what_is_done_about_a_canary(state: S, share: int, attempts: Attempts, act: Act | None) -> None:
    assert decide(Target.ACTIVE, state, attempts, NOON, canary=Canary(2, share)) is act


def events(*steps: tuple[str, str]) -> list[dict[str, Any]]:
    return [
        {"action": action, "outcome": outcome, "at": NOON + timedelta(seconds=number)}
        for number, (action, outcome) in enumerate(steps)
    ]


def test_restarts_count_until_a_person_touches_it() -> None:
    by_watcher = [("watch", "begun"), ("start", "begun"), ("start", "failed")]
    assert len(Attempts.of(events(("deploy", "begun"), ("start", "done"), *by_watcher, *by_watcher)).times) == 2
    assert not Attempts.of(events(*by_watcher, ("start", "begun"))).times
    seen_meanwhile = [("watch", "begun"), ("observe", "done"), *by_watcher[1:]]
    assert len(Attempts.of(events(*by_watcher, *seen_meanwhile)).times) == 2
    in_vain = [("watch", "begun"), ("promote", "begun"), ("abort", "begun"), ("abort", "failed")]
    assert len(Attempts.of(events(*in_vain, *in_vain)).times) == 2
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


@pytest.mark.all_databases
def test_several_watchers_pause_together_for_what_does_not_start(
    client: Client,
    deployer: MemoryModelDeployer,
    service: Service,
    look: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise DeploymentError("no room")

    monkeypatch.setattr(MemoryModelDeployer, "do_start", refuse)
    deployer.platform.servers[service.id].running = False
    deployer.get_model_server(service)
    look(watchers=4)
    tried = [each["at"] for each in client.servers.history(service.id) if each["action"] == "watch"]
    assert tried
    assert all(later - earlier >= timedelta(seconds=1) for earlier, later in pairwise(tried))


class LaterPool(ThreadPoolExecutor):
    """Does nothing before ``go_on``: as one whose threads are all at work."""

    def __init__(self) -> None:
        super().__init__(1)
        self._waiting: list[Callable[[], Any]] = []

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
        self._waiting.append(lambda: call(*arguments, **options))

    def go_on(self) -> None:
        assert self._waiting, "something was due"
        for each in self._waiting:
            each()


def leave_interrupted(client: Client, service: Service, target: Target) -> None:
    lease = leases.take(client.database, service.id, time.monotonic())
    assert lease is not None
    with lease:
        lease.write({"target": target})


@pytest.mark.parametrize(
    ("before", "meanwhile", "state"),
    [
        ("died", "stop", S.INACTIVE),
        ("died", "start", S.ACTIVE),
        ("stop", "start", S.ACTIVE),
        ("delete", "deploy", S.ACTIVE),
    ],
)
def test_what_somebody_has_asked_for_meanwhile_stays(
    client: Client, deployer: MemoryModelDeployer, service: Service, before: str, meanwhile: str, state: S
) -> None:
    if before == "died":
        deployer.platform.servers[service.id].running = False
    else:
        leave_interrupted(client, service, Target.INACTIVE if before == "stop" else Target.DELETED)
    said: list[str] = []
    with LaterPool() as pool:
        Watcher(client.database, interval=0, report=said.append).look(pool)
        if meanwhile == "deploy":
            deployer.deploy_model(model_name="iris", model_uri="one", timeout=5)
        else:
            getattr(service, meanwhile)()
        pool.go_on()
    seen = deployer.get_model_server(service)
    assert (seen.status.state, seen.status.target.value) == (state, state.value)


def test_a_crash_loop_is_not_told_of_what_somebody_has_started_meanwhile(
    client: Client, deployer: MemoryModelDeployer, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MOST_RESTARTS", 0)
    deployer.platform.servers[service.id].running = False
    with LaterPool() as pool:
        Watcher(client.database, interval=0, report=lambda line: None).look(pool)
        service.start()
        pool.go_on()
    assert deployer.get_model_server(service, refresh=False).is_running


def test_a_flavors_mistake_is_reported(
    deployer: MemoryModelDeployer, service: Service, look: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployer.platform.servers[service.id].running = False
    deployer.get_model_server(service)
    check = MemoryModelDeployer.do_check
    questions = iter([check])  # the look's own is answered

    def mistaken(*arguments: Any) -> Any:
        return next(questions, lambda *_: {}[service.id])(*arguments)

    monkeypatch.setattr(MemoryModelDeployer, "do_check", mistaken)
    assert look()[-1] == f"iris: KeyError('{service.id}')"


def test_what_was_stopped_stays_stopped(
    deployer: MemoryModelDeployer, service: Service, look: Callable[..., list[str]]
) -> None:
    service.stop()
    assert look() == []
    assert not deployer.platform.servers[service.id].running


def test_an_interrupted_deletion_is_finished(
    client: Client, deployer: MemoryModelDeployer, service: Service, look: Callable[..., list[str]]
) -> None:
    leave_interrupted(client, service, Target.DELETED)
    look()
    assert not deployer.find_model_server()
    assert service.id not in deployer.platform.servers


@pytest.mark.parametrize(("share", "act", "left"), [(100, "promote", 2), (0, "abort", 1)], ids=["promotion", "abort"])
def test_an_interrupted_end_of_a_canary_is_finished(
    client: Client,
    splitting: MemoryModelDeployer,
    look: Callable[..., list[str]],
    share: int,
    act: str,
    left: int,
) -> None:
    service = splitting.deploy_model(model_name="iris", model_uri="one", timeout=5)
    splitting.update_model_server(service, canary=20, model_uri="two", timeout=5)
    assert look() == [], "a canary on probation is left alone"
    lease = leases.take(client.database, service.id, time.monotonic())
    assert lease is not None
    with lease:
        lease.write({"canary_percent": share})
    assert look() == [f"{act}: iris ({service.id})"]
    seen = splitting.get_model_server(service)
    assert (seen.revision, seen.canary, seen.is_running) == (left, None, True)
    assert look() == []


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
