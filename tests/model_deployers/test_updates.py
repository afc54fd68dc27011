"""Updates and rollbacks: every configuration that served is a revision, and a failed one leaves the old serving."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from stackkit import Client
from stackkit.errors import DeploymentError, DeploymentTimeoutError, InvalidConfigError, ModelError, NotFoundError
from stackkit.model_deployers import (
    Observation,
    Operation,
    Service,
    ServiceState,
)
from stackkit.model_deployers.memory import MemoryModelDeployer
from stackkit.stack import ComponentType

Overtake = Callable[[MemoryModelDeployer, Callable[[], object]], None]


@pytest.fixture
def service(deployer: MemoryModelDeployer) -> Service:
    return deployer.deploy_model(model_name="iris", model_uri="one", replicas=2, timeout=5)


def test_an_update_merges_with_what_is_stored(client: Client, deployer: MemoryModelDeployer, service: Service) -> None:
    updated = deployer.update_model_server(service, model_uri="two", model_version="7", timeout=5)
    assert (updated.uuid, updated.revision, updated.is_running) == (service.uuid, 2, True)
    assert (updated.config["model_uri"], updated.config["replicas"]) == ("two", 2)
    assert [(each["number"], each["model_uri"]) for each in client.servers.revisions(service.id)] == [
        (1, "one"),
        (2, "two"),
    ]
    assert deployer.find_model_server(model_version="7")


@pytest.mark.all_databases
def test_two_updates_at_once_both_count(
    client: Client, deployer: MemoryModelDeployer, service: Service, overtake: Overtake
) -> None:
    other = client.model_deployer("memory")
    overtake(deployer, lambda: other.update_model_server(service, model_version="7", timeout=5))
    updated = deployer.update_model_server(service, replicas=3, timeout=5)
    assert (updated.revision, updated.config["model_version"], updated.config["replicas"]) == (3, "7", 3)


def test_an_update_that_changes_nothing_makes_no_revision(deployer: MemoryModelDeployer, service: Service) -> None:
    assert deployer.update_model_server(service, replicas=2, timeout=5).revision == 1
    assert deployer.platform.starts == 1


def test_an_update_cannot_rename(deployer: MemoryModelDeployer, service: Service) -> None:
    with pytest.raises(InvalidConfigError, match="another name"):
        deployer.update_model_server(service, model_name="other")
    with pytest.raises(InvalidConfigError, match="'replica'"):
        deployer.update_model_server(service, replica=3)
    assert deployer.get_model_server(service).revision == 1


@pytest.mark.all_databases
@pytest.mark.parametrize("behaviour", ["fail", "crash"])
def test_a_failed_update_leaves_the_old_one_serving_and_says_why(
    client: Client, deployer: MemoryModelDeployer, service: Service, behaviour: str
) -> None:
    with pytest.raises(DeploymentError, match=r"broken|crashed"):
        deployer.update_model_server(service, behaviour=behaviour, timeout=5)
    seen = deployer.get_model_server(service)
    assert (seen.is_running, seen.revision, seen.config["behaviour"]) == (True, 1, "run")
    (restored,) = [each for each in client.servers.history(service.id) if each["action"] == "restore"]
    assert "revision 1 serves again" in restored["message"]
    assert [each["number"] for each in client.servers.revisions(service.id)] == [1]
    assert deployer.get_model_server(service).is_running
    assert deployer.update_model_server(service, model_uri="two", timeout=5).revision == 2


def test_an_update_to_a_missing_model_changes_nothing(deployer: MemoryModelDeployer, service: Service) -> None:
    with pytest.raises(ModelError):
        deployer.update_model_server(service, model_uri="missing")
    assert deployer.get_model_server(service).revision == 1
    assert deployer.platform.starts == 1


def test_a_service_in_error_keeps_the_configuration_it_was_given_last(deployer: MemoryModelDeployer) -> None:
    with pytest.raises(DeploymentError):
        deployer.deploy_model(model_name="iris", behaviour="fail", timeout=5)
    with pytest.raises(DeploymentError):
        deployer.deploy_model(model_name="iris", behaviour="crash", timeout=5, replace=True)
    (service,) = deployer.find_model_server()
    assert service.status.state is ServiceState.ERROR
    assert service.config["behaviour"] == "crash"


def test_a_rollback_serves_an_earlier_revision_as_a_new_one(
    client: Client, deployer: MemoryModelDeployer, service: Service
) -> None:
    deployer.update_model_server(service, model_uri="two", timeout=5)
    deployer.update_model_server(service, model_uri="three", timeout=5)
    back = deployer.rollback_model_server(service, timeout=5)
    assert (back.revision, back.config["model_uri"], back.is_running) == (4, "two", True)
    first = deployer.rollback_model_server(service, to=1, timeout=5)
    assert (first.revision, first.config["model_uri"]) == (5, "one")
    assert len(client.servers.revisions(service.id)) == 5
    with pytest.raises(NotFoundError, match="no such revision") as raised:
        deployer.rollback_model_server(service, to=99)
    assert "1, 2, 3, 4, 5" in str(raised.value.hint)


def test_a_service_with_one_revision_has_nothing_to_go_back_to(deployer: MemoryModelDeployer, service: Service) -> None:
    with pytest.raises(NotFoundError):
        deployer.rollback_model_server(service)


@pytest.fixture
def rolling(client: Client, deployer: MemoryModelDeployer) -> MemoryModelDeployer:
    """A deployer whose running servers go over to a new revision."""
    attributes = {"platform": deployer.config.platform, "updates_in_place": True}
    client.register_component(ComponentType.MODEL_DEPLOYER, "rolling", "memory", attributes)
    loaded = client.model_deployer("rolling")
    assert isinstance(loaded, MemoryModelDeployer)
    return loaded


def test_an_update_in_place_neither_stops_nor_starts_anything(client: Client, rolling: MemoryModelDeployer) -> None:
    service = rolling.deploy_model(model_name="iris", model_uri="one", timeout=5)
    updated = rolling.update_model_server(service, model_uri="two", timeout=5)
    assert (updated.uuid, updated.revision, updated.is_running) == (service.uuid, 2, True)
    assert rolling.platform.starts == 1
    assert rolling.platform.servers[service.id].revision == 2
    done = [(each["action"], each["outcome"]) for each in client.servers.history(service.id)]
    assert done[-2:] == [("replace", "begun"), ("update", "done")]


def test_an_update_in_place_that_is_given_up_leaves_the_old_one_serving(rolling: MemoryModelDeployer) -> None:
    service = rolling.deploy_model(model_name="iris", model_uri="one", timeout=5)
    with pytest.raises(DeploymentError, match="it is broken"):
        rolling.update_model_server(service, behaviour="fail", timeout=5)
    seen = rolling.get_model_server(service)
    assert (seen.is_running, seen.revision, seen.config["behaviour"]) == (True, 1, "run")
    assert rolling.platform.starts == 1


def test_an_update_in_place_that_hangs_is_undone(rolling: MemoryModelDeployer) -> None:
    service = rolling.deploy_model(model_name="iris", model_uri="one", timeout=5)
    with pytest.raises(DeploymentTimeoutError):
        rolling.update_model_server(service, behaviour="hang", timeout=0.2)
    seen = rolling.get_model_server(service)
    assert (seen.is_running, seen.revision, seen.config["behaviour"]) == (True, 1, "run")
    assert rolling.platform.servers[service.id].revision == 1


def test_a_cancelled_update_leaves_the_old_one_serving(client: Client, rolling: MemoryModelDeployer) -> None:
    service = rolling.deploy_model(model_name="iris", model_uri="one", timeout=5)

    def interrupt(text: str) -> None:
        if text.startswith("waiting"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rolling.update_model_server(service, behaviour="hang", progress=interrupt)
    seen = rolling.get_model_server(service)
    assert (seen.is_running, seen.revision, seen.config["behaviour"]) == (True, 1, "run")
    (restored,) = [each for each in client.servers.history(service.id) if each["action"] == "restore"]
    assert restored["message"].endswith("revision 1 serves again: it was cancelled")


def test_an_interrupted_update_in_place_is_told_and_finished_by_asking_again(
    rolling: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = rolling.deploy_model(model_name="iris", model_uri="one", timeout=5)
    with monkeypatch.context() as patched:
        patched.setattr(rolling, "do_update", lambda operation: None)
        rolling.update_model_server(service, model_uri="two", timeout=0)
    seen = rolling.get_model_server(service)
    assert seen.is_running
    assert "still serves revision 1" in seen.status.message
    again = rolling.deploy_model(model_name="iris", model_uri="two", timeout=5)
    assert (again.revision, again.status.message) == (2, "")
    assert (rolling.platform.servers[service.id].revision, rolling.platform.starts) == (2, 1)


def test_an_interrupted_update_that_fails_again_leaves_the_old_one_serving(
    client: Client, rolling: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = rolling.deploy_model(model_name="iris", model_uri="one", timeout=5)
    with monkeypatch.context() as patched:
        patched.setattr(rolling, "do_update", lambda operation: None)
        rolling.update_model_server(service, behaviour="fail", timeout=0)
    with pytest.raises(DeploymentError, match="it is broken"):
        rolling.start_model_server(service, timeout=5)
    seen = rolling.get_model_server(service)
    assert (seen.is_running, rolling.platform.servers[service.id].revision, rolling.platform.starts) == (True, 1, 1)
    failed = client.servers.history(service.id)[-1]
    assert (failed["action"], failed["outcome"]) == ("update", "failed")
    assert "it is broken" in failed["message"]
    assert rolling.rollback_model_server(service, timeout=5).revision == 3


def test_an_update_that_was_given_up_holds_up_no_stop(
    rolling: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = rolling.deploy_model(model_name="iris", model_uri="one", timeout=5)
    with pytest.raises(DeploymentError, match="it is broken"):
        rolling.update_model_server(service, behaviour="fail", timeout=5)
    monkeypatch.setattr("stackkit.model_deployers.waiting._REPEAT_SECONDS", 0.01)
    stop, asked = rolling.do_stop, []

    def give_in_at_the_second(operation: Operation) -> None:
        asked.append(operation)
        if len(asked) == 2:
            stop(operation)

    monkeypatch.setattr(rolling, "do_stop", give_in_at_the_second)
    assert rolling.stop_model_server(service, timeout=5).status.state is ServiceState.INACTIVE


def test_a_failed_update_in_place_is_undone_by_the_flavor(
    rolling: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = rolling.deploy_model(model_name="iris", model_uri="one", timeout=5)
    update, asked = rolling.do_update, []

    def noted(operation: Operation) -> None:
        asked.append(operation.service.revision)
        update(operation)

    monkeypatch.setattr(rolling, "do_update", noted)
    for behaviour in ("fail", "hang"):
        with pytest.raises(DeploymentError):
            rolling.update_model_server(service, behaviour=behaviour, timeout=0.2)
    assert asked == [2, 1, 2, 1]
    assert rolling.platform.starts == 1, "it was never stopped"


def test_a_failed_update_in_place_that_cannot_be_undone_is_started_anew(
    client: Client, rolling: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = rolling.deploy_model(model_name="iris", model_uri="one", timeout=5)
    update = rolling.do_update

    def refuse_the_way_back(operation: Operation) -> None:
        if operation.service.revision == 1:
            raise DeploymentError("busy")
        update(operation)

    monkeypatch.setattr(rolling, "do_update", refuse_the_way_back)
    with pytest.raises(DeploymentTimeoutError):
        rolling.update_model_server(service, behaviour="hang", timeout=0.2)
    seen = rolling.get_model_server(service)
    assert (seen.is_running, seen.revision, seen.status.message) == (True, 1, "")
    assert rolling.platform.starts == 2


def test_what_is_scaled_to_zero_is_up_and_not_started_anew(
    rolling: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = rolling.deploy_model(model_name="iris", model_uri="one", timeout=5)
    check = rolling.do_check

    def asleep(services: Sequence[Service]) -> dict[str, Observation]:
        return {key: replace(seen, state=ServiceState.SCALED_TO_ZERO) for key, seen in check(services).items()}

    monkeypatch.setattr(rolling, "do_check", asleep)
    assert rolling.start_model_server(service).status.state is ServiceState.SCALED_TO_ZERO
    updated = rolling.update_model_server(service, model_uri="two", timeout=5)
    assert (updated.revision, updated.status.state) == (2, ServiceState.SCALED_TO_ZERO)
    assert rolling.platform.starts == 1
