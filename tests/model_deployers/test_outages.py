"""The database goes away in the middle of an operation: it is waited for, and what was begun is written down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from databases import Proxy, away
from sqlalchemy import make_url

from stackkit import Client
from stackkit.errors import StoreError
from stackkit.model_deployers import Operation, Service, ServiceState
from stackkit.model_deployers.memory import MemoryModelDeployer
from stackkit.settings import Settings
from stackkit.store import outages

SERVERS = [
    pytest.param("postgresql", marks=pytest.mark.postgresql),
    pytest.param("mysql", marks=pytest.mark.mysql),
]

Verb = Callable[[MemoryModelDeployer, Service], Any]


def deploy(deployer: MemoryModelDeployer, name: str, model: str = "one", **options: Any) -> Service:
    return deployer.deploy_model(model_name=name, model_uri=model, timeout=90, **options)


# what is done before, what the database goes away from, at which act of the flavor, and what is so at the end
VERBS: dict[str, tuple[Verb, Verb, str, ServiceState | None]] = {
    "deploy": (
        lambda deployer, service: service.delete(),
        lambda deployer, service: deploy(deployer, service.name),
        "do_start",
        ServiceState.ACTIVE,
    ),
    "start": (
        lambda deployer, service: service.stop(),
        lambda deployer, service: service.start(timeout=90),
        "do_start",
        ServiceState.ACTIVE,
    ),
    "stop": (
        lambda deployer, service: None,
        lambda deployer, service: service.stop(timeout=90),
        "do_stop",
        ServiceState.INACTIVE,
    ),
    "update": (
        lambda deployer, service: None,
        lambda deployer, service: deployer.update_model_server(service, model_uri="two", timeout=90),
        "do_start",
        ServiceState.ACTIVE,
    ),
    "rollback": (
        lambda deployer, service: deploy(deployer, service.name, "two", replace=True),
        lambda deployer, service: deployer.rollback_model_server(service, timeout=90),
        "do_start",
        ServiceState.ACTIVE,
    ),
    "delete": (
        lambda deployer, service: None,
        lambda deployer, service: service.delete(timeout=90),
        "do_delete",
        None,
    ),
}


@pytest.fixture
def proxy(settings: Settings) -> Iterator[Proxy]:
    """The way to the database of ``settings``."""
    url = make_url(settings.database_url)
    with Proxy(url.host or "", url.port or 0) as proxy:
        yield proxy


@pytest.fixture
def through(deployer: MemoryModelDeployer, settings: Settings, proxy: Proxy) -> Iterator[MemoryModelDeployer]:
    """The deployer as it is reached through the proxy."""
    url = make_url(settings.database_url).set(host="127.0.0.1", port=proxy.port)
    client = Client(replace(settings, database_url=url.render_as_string(hide_password=False)))
    loaded = client.model_deployer("memory")
    assert isinstance(loaded, MemoryModelDeployer)
    yield loaded
    client.database.close()


def check(deployer: MemoryModelDeployer, name: str, finally_state: ServiceState | None) -> None:
    found = list(deployer.find_model_server(model_name=name))
    assert [service.status.state for service in found] == ([] if finally_state is None else [finally_state])
    for service in found:
        assert service.status.message == ""
        assert deployer.platform.servers[service.id].running == service.is_running
        assert not service.is_being_worked_on


@pytest.mark.parametrize("database_url", SERVERS, indirect=True)
@pytest.mark.parametrize("verb", VERBS)
def test_an_outage_in_the_middle(
    verb: str,
    deployer: MemoryModelDeployer,
    through: MemoryModelDeployer,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outages, "_PAUSES", (0.02, 0.02))
    before, operation, act, finally_state = VERBS[verb]
    service = deploy(through, "iris")
    before(through, service)
    original, breaks = getattr(through, act), []

    def lose_the_database(operation: Operation) -> None:
        original(operation)
        if not breaks:
            breaks.append(away(proxy, 0.3))
            breaks[0].__enter__()

    monkeypatch.setattr(through, act, lose_the_database)
    operation(through, service)
    assert breaks
    breaks[0].__exit__(None, None, None)
    check(deployer, "iris", finally_state)


@pytest.mark.parametrize("database_url", SERVERS, indirect=True)
def test_an_outage_that_does_not_end_is_told_and_nothing_is_left_running(
    deployer: MemoryModelDeployer,
    through: MemoryModelDeployer,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outages, "_PAUSES", (0.02, 0.02))
    monkeypatch.setattr(outages, "OUTAGE_SECONDS", 0.2)
    start = through.do_start

    def lose_the_database(operation: Operation) -> None:
        start(operation)
        proxy.leave()

    monkeypatch.setattr(through, "do_start", lose_the_database)
    with pytest.raises(StoreError, match="cannot be used"):
        deploy(through, "iris")
    (server,) = through.platform.servers.values()
    assert not server.running
    proxy.come_back()
    monkeypatch.setattr(through, "do_start", start)
    assert deploy(through, "iris").is_running
    check(deployer, "iris", ServiceState.ACTIVE)


@pytest.mark.faults
@pytest.mark.parametrize("database_url", SERVERS, indirect=True)
def test_half_a_minute_in_the_middle_of_every_operation(
    deployer: MemoryModelDeployer,
    through: MemoryModelDeployer,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    services = {verb: deploy(through, verb) for verb in VERBS}
    for verb, (before, *_) in VERBS.items():
        before(through, services[verb])
    in_the_middle = threading.Barrier(len(VERBS) + 1)
    waiting = set(VERBS)

    def wait_for_the_outage(original: Callable[[Operation], None], act: str) -> Callable[[Operation], None]:
        def wait(operation: Operation) -> None:
            original(operation)
            name = operation.service.name
            if name in waiting and VERBS[name][2] == act:
                waiting.remove(name)
                in_the_middle.wait(60)
                in_the_middle.wait(60)

        return wait

    for act in ("do_start", "do_stop", "do_delete"):
        monkeypatch.setattr(through, act, wait_for_the_outage(getattr(through, act), act))
    with ThreadPoolExecutor(len(VERBS)) as pool:
        running = [pool.submit(operation, through, services[verb]) for verb, (_, operation, *_) in VERBS.items()]
        in_the_middle.wait(60)
        with away(proxy, 30):
            in_the_middle.wait(60)
        for each in running:
            each.result()
    for verb, (*_, finally_state) in VERBS.items():
        check(deployer, verb, finally_state)
