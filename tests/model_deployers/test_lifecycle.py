"""The lifecycle on the in-memory platform: what is written, in which order, and what a failure leaves."""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from stackkit import Client
from stackkit.errors import (
    AlreadyExistsError,
    DeploymentError,
    DeploymentTimeoutError,
    InvalidConfigError,
    LeaseLostError,
    ModelError,
    NotFoundError,
    PlatformUnavailableError,
)
from stackkit.model_deployers import Operation, Service, ServiceState, Target, leases
from stackkit.model_deployers.memory import MemoryModelDeployer, MemoryServiceConfig
from stackkit.store import services as rows
from stackkit.store.tables import services

NAMES = {"pipeline_name": "training", "pipeline_step_name": "deployer", "model_name": "iris"}


def deploy(deployer: MemoryModelDeployer, **fields: Any) -> Service:
    replace = fields.pop("replace", False)
    timeout = fields.pop("timeout", 5)
    return deployer.deploy_model(replace=replace, timeout=timeout, **{**NAMES, "model_uri": "one", **fields})


def row_of(deployer: MemoryModelDeployer, service: Service) -> Any:
    with deployer.database.read() as connection:
        return rows.get(connection, service.id)


def steps(client: Client, service: Service) -> list[tuple[str, str]]:
    return [(event["action"], event["outcome"]) for event in client.servers.history(service.id)]


def test_the_history_tells_what_happened_and_outlives_the_service(
    client: Client, deployer: MemoryModelDeployer
) -> None:
    service = deploy(deployer)
    service.stop()
    service.start()
    deploy(deployer, model_uri="two", replace=True)
    service.delete()
    assert steps(client, service) == [
        ("deploy", "begun"),
        ("start", "done"),
        ("stop", "begun"),
        ("stop", "done"),
        ("start", "begun"),
        ("start", "done"),
        ("replace", "begun"),
        ("start", "done"),
        ("delete", "begun"),
        ("delete", "done"),
    ]
    events = client.servers.history(service.id)
    assert "model_uri 'one' → 'two'" in events[6]["message"]
    assert all(event["actor"] and event["at"] for event in events)


def test_the_intent_is_written_before_anything_happens(
    deployer: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    start = deployer.do_start

    def look_then_start(operation: Operation) -> None:
        seen.append(row_of(deployer, operation.service))
        start(operation)

    monkeypatch.setattr(deployer, "do_start", look_then_start)
    deploy(deployer)
    (row,) = seen
    assert row["target"] == Target.ACTIVE
    assert row["state"] == ServiceState.PENDING_STARTUP
    assert row["leased"]


def test_the_lease_is_given_back(deployer: MemoryModelDeployer) -> None:
    service = deploy(deployer)
    assert not row_of(deployer, service)["leased"]
    with pytest.raises(DeploymentError):
        deploy(deployer, model_name="other", behaviour="fail")
    for each in deployer.find_model_server():
        assert not row_of(deployer, each)["leased"]


def test_a_typed_configuration_does_the_same(deployer: MemoryModelDeployer) -> None:
    service = deployer.deploy_model(MemoryServiceConfig(**NAMES, model_uri="one", replicas=3), timeout=5)
    assert service.config["replicas"] == service.config.replicas == 3
    assert deploy(deployer, replicas=3).uuid == service.uuid
    with pytest.raises(InvalidConfigError, match="beside it"):
        deployer.deploy_model(MemoryServiceConfig(**NAMES), model_uri="two")


def test_a_refusal_names_the_service_the_difference_and_both_ways_out(deployer: MemoryModelDeployer) -> None:
    service = deploy(deployer)
    with pytest.raises(AlreadyExistsError) as raised:
        deploy(deployer, model_uri="two", replicas=2)
    assert service.id in raised.value.message
    assert "model_uri 'one' → 'two'" in raised.value.message
    assert "replicas 1 → 2" in raised.value.message
    assert "replace=True" in str(raised.value.hint)
    assert "service_name" in str(raised.value.hint)


def test_a_service_name_makes_another_service(deployer: MemoryModelDeployer) -> None:
    first = deploy(deployer)
    second = deploy(deployer, model_uri="two", service_name="canary")
    assert second.uuid != first.uuid
    assert second.name == "canary"
    assert deployer.get_model_server("canary").uuid == second.uuid


@pytest.mark.parametrize("field", ["model_name", "service_name", "model_version", "pipeline_name", "run_name"])
@pytest.mark.parametrize("name", ["two\nlines", "\x1b]0;pwned\x07", "no\x00thing", "\x9b31m"])
def test_a_name_holds_no_control_characters(deployer: MemoryModelDeployer, field: str, name: str) -> None:
    with pytest.raises(InvalidConfigError, match=rf"'{field}' .* control character"):
        deployer.deploy_model(**{"model_name": "iris", "model_uri": "one", field: name})
    assert not deployer.find_model_server()


@pytest.mark.all_databases
def test_a_name_of_any_script_and_of_the_greatest_length(deployer: MemoryModelDeployer) -> None:
    for name in ("Ærøskøbing 🙂 模型", "模" * 255):
        service = deployer.deploy_model(model_name=name, pipeline_name=name, model_uri="one", timeout=5)
        assert deployer.get_model_server(service.name).id == service.id
        assert [found.id for found in deployer.find_model_server(model_name=name)] == [service.id]


@pytest.mark.all_databases
def test_a_failure_is_written_down_whatever_the_platform_says(
    client: Client, deployer: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(operation: Operation) -> None:
        raise DeploymentError(f"no room \x00 \udcff {'🙂' * 2_000_000} at all")

    with monkeypatch.context() as patched:
        patched.setattr(deployer, "do_start", fail)
        with pytest.raises(DeploymentError, match="no room"):
            deployer.deploy_model(model_name="iris", model_uri="one", timeout=5)
    (service,) = deployer.find_model_server()
    assert service.status.state is ServiceState.ERROR
    assert service.status.message.startswith("no room � � 🙂")
    assert client.servers.history(service.id)[-1]["message"].endswith("🙂 at all")
    assert deployer.deploy_model(model_name="iris", model_uri="one", timeout=5).is_running


@pytest.mark.all_databases
def test_a_platform_that_says_too_much_does_not_fail_the_list(
    client: Client, deployer: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployer.deploy_model(model_name="iris", model_uri="one", timeout=5)

    def fail(*_: object) -> None:
        raise PlatformUnavailableError(f"<html>\x00{'x' * 100_000}</html>")

    monkeypatch.setattr(MemoryModelDeployer, "do_check", fail)
    (service,) = client.servers.find()
    assert service.status.state is ServiceState.UNKNOWN
    assert service.status.message.startswith("<html>�xxx")


def test_a_new_run_name_alone_makes_no_revision(deployer: MemoryModelDeployer) -> None:
    deploy(deployer, run_name="monday")
    service = deploy(deployer, run_name="tuesday")
    assert service.revision == 1
    assert service.config["run_name"] == "tuesday"
    assert deployer.platform.starts == 1
    assert deployer.find_model_server(run_name="tuesday")
    assert not deployer.find_model_server(run_name="monday")


def test_a_model_that_is_missing_changes_nothing(deployer: MemoryModelDeployer) -> None:
    with pytest.raises(ModelError):
        deploy(deployer, model_uri="missing")
    assert not deployer.find_model_server()
    service = deploy(deployer)
    with pytest.raises(ModelError):
        deploy(deployer, model_uri="missing", replace=True)
    assert deployer.get_model_server(service).is_running
    assert deployer.get_model_server(service).revision == 1


def test_a_replacement_that_cannot_be_prepared_leaves_the_old_one_serving(
    deployer: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = deploy(deployer)

    def refuse(operation: Operation) -> None:
        raise ModelError("The image cannot be built.")

    monkeypatch.setattr(deployer, "do_prepare", refuse)
    with pytest.raises(ModelError, match="image"):
        deploy(deployer, model_uri="two", replace=True)
    seen = deployer.get_model_server(service)
    assert (seen.is_running, seen.revision, seen.config["model_uri"]) == (True, 1, "one")
    assert deployer.platform.starts == 1


def test_a_failed_start_leaves_one_row_that_explains_and_nothing_running(deployer: MemoryModelDeployer) -> None:
    for _ in range(2):
        with pytest.raises(DeploymentError, match="it crashed") as raised:
            deploy(deployer, behaviour="crash")
    (service,) = deployer.find_model_server()
    assert service.status.state is ServiceState.ERROR
    assert "it crashed" in service.status.message
    assert "started revision 1" in raised.value.message  # the end of its log
    assert service.prediction_url is None
    assert not deployer.platform.servers[service.id].running
    assert deployer.platform.starts == 2


def test_what_lacks_a_piece_is_mended_while_it_runs(
    deployer: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = deploy(deployer)
    server = deployer.platform.servers[service.id]
    server.torn = True
    assert service.refresh().status.message == "it is torn"
    with monkeypatch.context() as changed:

        def refuse(operation: Operation) -> None:
            raise DeploymentError("The platform refuses.")

        changed.setattr(deployer, "do_start", refuse)
        with pytest.raises(DeploymentError, match="refuses"):
            service.start(timeout=5)
        assert row_of(deployer, service)["message"] == "The platform refuses."
    monkeypatch.setattr(deployer, "do_stop", lambda operation: pytest.fail("it was stopped"))
    service.start(timeout=5)
    assert service.refresh().is_running
    assert deployer.platform.servers[service.id] is server
    assert (server.running, server.torn, deployer.platform.starts) == (True, False, 1)


def test_what_lacks_a_piece_beside_a_canary_is_started_anew(splitting: MemoryModelDeployer) -> None:
    service = deploy(splitting)
    splitting.update_model_server(service, canary=20, model_uri="two", timeout=5)
    splitting.platform.servers[service.id].torn = True
    service.refresh().start(timeout=5)
    seen = splitting.get_model_server(service)
    assert (seen.is_running, seen.canary) == (True, None)


def test_a_timeout_says_what_it_was_waiting_for(deployer: MemoryModelDeployer) -> None:
    with pytest.raises(DeploymentTimeoutError, match="loading for ever"):
        deploy(deployer, behaviour="hang", timeout=0.1)
    (service,) = deployer.find_model_server()
    assert service.status.state is ServiceState.ERROR
    assert "loading for ever" in service.status.message
    assert not deployer.platform.servers[service.id].running


def test_with_a_timeout_of_zero_it_does_not_wait(deployer: MemoryModelDeployer) -> None:
    service = deploy(deployer, timeout=0)
    assert service.status.state is ServiceState.PENDING_STARTUP
    assert service.refresh().is_running


def test_a_cancelled_start_is_undone_and_told(deployer: MemoryModelDeployer) -> None:
    def interrupt(text: str) -> None:
        if text.startswith("waiting"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deployer.deploy_model(**NAMES, model_uri="one", behaviour="hang", progress=interrupt)
    (service,) = deployer.find_model_server()
    assert service.status.state is ServiceState.ERROR
    assert "cancelled" in service.status.message
    assert not deployer.platform.servers[service.id].running


def test_a_cancelled_stop_is_told(
    client: Client, deployer: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = deploy(deployer, behaviour="never_stop")

    def interrupt(text: str) -> None:
        if text.startswith("waiting"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deployer.stop_model_server(service, progress=interrupt)
    assert row_of(deployer, service)["message"] == "Its stop was cancelled."
    assert client.servers.history(service.id)[-1]["message"] == "Its stop was cancelled."
    assert deployer.get_model_server(service).status.state is ServiceState.ACTIVE
    deployer.platform.servers[service.id].behaviour = "run"
    service.stop(timeout=5)


def test_a_flavors_own_mistake_is_told_and_cleaned_up(
    deployer: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = deployer.do_start

    def stumble(operation: Operation) -> None:
        start(operation)
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(deployer, "do_start", stumble)
    with pytest.raises(DeploymentError, match="a bug"):
        deploy(deployer)
    (service,) = deployer.find_model_server()
    assert service.status.state is ServiceState.ERROR
    assert not deployer.platform.servers[service.id].running


def test_a_server_that_does_not_stop_is_told_and_still_active(client: Client, deployer: MemoryModelDeployer) -> None:
    service = deploy(deployer, behaviour="never_stop")
    with pytest.raises(DeploymentTimeoutError):
        service.stop(timeout=0)
    seen = deployer.get_model_server(service)
    assert seen.status.state is ServiceState.ACTIVE
    assert "stop was interrupted" in seen.status.message
    with pytest.raises(DeploymentTimeoutError):
        seen.delete(timeout=0)
    assert deployer.get_model_server(service).id == service.id
    assert ("stop", "failed") in steps(client, service)
    deployer.platform.servers[service.id].behaviour = "run"
    seen.delete()


def test_a_stop_is_asked_for_again_while_it_does_not_happen(
    deployer: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stackkit.model_deployers.waiting._REPEAT_SECONDS", 0.01)
    service = deploy(deployer, behaviour="never_stop")
    stop, asked = deployer.do_stop, []

    def give_in_at_the_third(operation: Operation) -> None:
        asked.append(operation)
        if len(asked) == 3:
            deployer.platform.servers[service.id].behaviour = "run"
        stop(operation)

    monkeypatch.setattr(deployer, "do_stop", give_in_at_the_third)
    service.stop(timeout=5)
    assert len(asked) == 3


def test_a_platform_that_cannot_be_asked_makes_it_unknown_and_loses_nothing(deployer: MemoryModelDeployer) -> None:
    service = deploy(deployer)
    deployer.platform.reachable = False
    first = deployer.get_model_server(service)
    assert first.status.state is ServiceState.UNKNOWN
    assert "does not answer" in first.status.message
    second = deployer.get_model_server(service)
    assert second.status.since == first.status.since
    assert not deployer.find_model_server(running=True)
    with pytest.raises(PlatformUnavailableError):
        service.stop()
    with pytest.raises(PlatformUnavailableError):
        service.delete()
    deployer.platform.reachable = True
    seen = deployer.get_model_server(service)
    assert seen.status.state is ServiceState.ACTIVE
    assert "deletion was interrupted" in seen.status.message
    assert deployer.platform.servers[service.id].running


@pytest.mark.parametrize("platform", ["has it", "has it stopped", "lost it", "does not answer"])
def test_a_list_changes_nothing_outside(
    client: Client, deployer: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    service = deploy(deployer)
    servers = deployer.platform.servers
    if platform == "lost it":
        servers.clear()
    else:
        servers[service.id].running = platform == "has it"
        deployer.platform.reachable = platform != "does not answer"
    before = copy.deepcopy(servers)
    acts = [name for name in dir(deployer) if name.startswith("do_") and name not in ("do_identify", "do_check")]
    for name in acts:
        monkeypatch.setattr(MemoryModelDeployer, name, lambda *_, name=name: pytest.fail(f"{name} was called"))
    for target, state in itertools.product(Target, ServiceState):
        lease = leases.take(deployer.database, service.id, deadline=0)
        assert lease is not None
        with lease:  # as an operation that died half-way has left it
            lease.write({"target": target, "state": state, "prediction_url": None})
        assert [each.id for each in client.servers.find()] == [service.id]
        client.servers.get(service.id)
        client.servers.stale(timedelta(0))
        assert servers == before
        assert row_of(deployer, service)["target"] == target


def test_forget_drops_the_row_and_asks_nothing(client: Client, deployer: MemoryModelDeployer) -> None:
    service = deploy(deployer)
    deployer.platform.reachable = False
    deployer.delete_model_server(service, forget=True)
    with pytest.raises(NotFoundError):
        deployer.get_model_server(service, refresh=False)
    assert ("forget", "done") in steps(client, service)
    assert deployer.platform.servers[service.id].running


def test_readers_leave_a_service_alone_that_somebody_works_on(deployer: MemoryModelDeployer) -> None:
    service = deploy(deployer)
    lease = leases.take(deployer.database, service.id, deadline=0)
    assert lease is not None
    with lease:
        deployer.platform.servers[service.id].running = False
        before = row_of(deployer, service)
        assert deployer.find_model_server()[0].status.state is ServiceState.ACTIVE
        assert row_of(deployer, service) == before
    assert deployer.find_model_server()[0].status.state is ServiceState.ERROR


def test_a_reader_is_too_late_when_somebody_has_worked_meanwhile(
    deployer: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = deploy(deployer)
    check = deployer.do_check

    def look_then_be_overtaken(found: list[Service]) -> Any:
        monkeypatch.setattr(deployer, "do_check", check)
        seen = check(found)
        deployer.stop_model_server(service)
        return seen

    deployer.platform.servers[service.id].running = True
    with deployer.database.write() as connection:
        connection.execute(update(services).values(state=ServiceState.PENDING_STARTUP))
    monkeypatch.setattr(deployer, "do_check", look_then_be_overtaken)
    deployer.find_model_server(model_name="iris")[0]
    assert row_of(deployer, service)["state"] == ServiceState.INACTIVE


def test_who_is_overtaken_stops_at_the_next_checkpoint(
    deployer: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = deployer.do_prepare

    def sleep_through_the_expiry(operation: Operation) -> None:
        prepare(operation)
        with deployer.database.write() as connection:
            connection.execute(update(services).values(lease_expires=None, lease_owner=None))
        monkeypatch.setattr(deployer, "do_prepare", prepare)
        deployer.start_model_server(operation.service.id, timeout=5)

    monkeypatch.setattr(deployer, "do_prepare", sleep_through_the_expiry)
    with pytest.raises(LeaseLostError):
        deploy(deployer)
    (service,) = deployer.find_model_server()
    assert service.is_running
    assert deployer.platform.servers[service.id].running


def test_a_delete_in_between_makes_the_deploy_begin_anew(
    deployer: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = deploy(deployer)
    first.stop()
    take = leases.take

    def delete_then_take(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(leases, "take", take)
        first.delete()
        return take(*arguments, **options)

    monkeypatch.setattr(leases, "take", delete_then_take)
    second = deploy(deployer)
    assert second.uuid != first.uuid
    assert second.is_running


def test_start_and_stop_at_once_take_turns(client: Client, deployer: MemoryModelDeployer) -> None:
    service = deploy(deployer)
    ready = threading.Barrier(8)

    def act(verb: Callable[..., Service]) -> None:
        ready.wait()
        verb(service.id, timeout=20)

    verbs = [deployer.start_model_server, deployer.stop_model_server] * 4
    threads = [threading.Thread(target=act, args=(verb,)) for verb in verbs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = deployer.get_model_server(service)
    running = deployer.platform.servers[service.id].running
    assert seen.status.state is (ServiceState.ACTIVE if running else ServiceState.INACTIVE)
    assert seen.status.message == ""
    done = [action for action, outcome in steps(client, service) if outcome == "done"]
    assert done[-1] == ("start" if running else "stop")


def test_a_stop_outlives_a_platform_that_is_away_for_a_moment(
    deployer: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stackkit.model_deployers.waiting._REPEAT_SECONDS", 0.01)
    service = deploy(deployer, behaviour="never_stop")
    stop, asked = deployer.do_stop, []

    def away_at_the_second(operation: Operation) -> None:
        asked.append(operation)
        if len(asked) == 2:
            raise PlatformUnavailableError("It does not answer.")
        if len(asked) == 3:
            deployer.platform.servers[service.id].behaviour = "run"
        stop(operation)

    monkeypatch.setattr(deployer, "do_stop", away_at_the_second)
    service.stop(timeout=5)
    assert len(asked) == 3
