"""Abilities beside updates and canaries: completing a start, manifests, forwarded ports."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest

from stackkit import Client
from stackkit.errors import DeploymentError, InUseError, ModelError, NotSupportedError
from stackkit.model_deployers import ForwardsPorts, Operation, ServiceState, Target
from stackkit.model_deployers.base import flavors_with
from stackkit.model_deployers.memory import MemoryModelDeployer, MemoryModelDeployerFlavor
from stackkit.model_deployers.watch import Act, Attempts, Watcher, decide
from stackkit.stack import ComponentType

FIELDS = {"model_name": "iris", "model_uri": "one", "timeout": 5}


@pytest.fixture
def completions(deployer: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The revisions whose start was completed, in order."""
    complete, seen = deployer.do_complete, []

    def noted(operation: Operation) -> None:
        complete(operation)
        seen.append(operation.service.revision)

    monkeypatch.setattr(deployer, "do_complete", noted)
    return seen


def test_a_start_and_an_update_are_completed_once(deployer: MemoryModelDeployer, completions: list[int]) -> None:
    service = deployer.deploy_model(**FIELDS)
    assert service.is_complete
    deployer.deploy_model(**FIELDS)
    service.start()
    assert completions == [1]
    deployer.update_model_server(service, model_uri="two", timeout=5)
    service.stop()
    service.start()
    assert completions == [1, 2, 2], "and each time that it was down"


def test_what_was_not_completed_is_told_and_done_by_whoever_finds_it(
    deployer: MemoryModelDeployer, completions: list[int]
) -> None:
    service = deployer.deploy_model(**{**FIELDS, "timeout": 0})
    seen = deployer.get_model_server(service)
    assert (seen.status.state, seen.is_complete) == (ServiceState.ACTIVE, False)
    assert "start it again" in seen.status.message
    again = deployer.deploy_model(**FIELDS)
    assert (again.is_complete, again.status.message, completions) == (True, "", [1])
    assert deployer.platform.starts == 1


def test_a_watcher_completes_a_start(client: Client, deployer: MemoryModelDeployer) -> None:
    service = deployer.deploy_model(**{**FIELDS, "timeout": 0})
    watcher = Watcher(client.database, interval=1, report=lambda line: None)
    with ThreadPoolExecutor(1) as pool:
        watcher.look(pool)
    assert deployer.get_model_server(service).is_complete
    nothing = Attempts((), gave_up=False)
    assert decide(Target.ACTIVE, ServiceState.ACTIVE, nothing, service.status.since, is_complete=False) is Act.COMPLETE
    assert decide(Target.ACTIVE, ServiceState.ACTIVE, nothing, service.status.since) is None


def test_a_start_that_cannot_be_completed_has_failed(
    deployer: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(operation: Operation) -> None:
        raise DeploymentError("its scaling cannot be registered")

    monkeypatch.setattr(deployer, "do_complete", refuse)
    with pytest.raises(DeploymentError, match="scaling"):
        deployer.deploy_model(**FIELDS)
    (service,) = deployer.find_model_server()
    assert service.status.state is ServiceState.ERROR
    assert not deployer.platform.servers[service.id].running


def test_a_failed_update_completes_the_old_revision_again(
    deployer: MemoryModelDeployer, completions: list[int]
) -> None:
    service = deployer.deploy_model(**FIELDS)
    with pytest.raises(DeploymentError):
        deployer.update_model_server(service, behaviour="fail", timeout=5)
    assert deployer.get_model_server(service).is_complete
    assert completions == [1, 1]


def test_the_flavor_says_how_long_is_waited_when_nobody_else_does(
    deployer: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryModelDeployerFlavor, "start_seconds", 0.1)
    with pytest.raises(DeploymentError, match="did not start in time"):
        deployer.deploy_model(model_name="iris", behaviour="hang")
    monkeypatch.setattr(MemoryModelDeployerFlavor, "clean_up_seconds", 0.1)
    (service,) = deployer.find_model_server()
    deployer.platform.servers[service.id].behaviour = "never_stop"
    deployer.platform.servers[service.id].running = True
    with pytest.raises(DeploymentError, match="did not stop in time"):
        service.stop()


def test_a_manifest_shows_what_is_there_and_what_would_be(client: Client, deployer: MemoryModelDeployer) -> None:
    made = deployer.dry_run(model_name="iris", model_uri="one", replicas=2)
    assert "revision: 1" in made and "replicas: 2" in made
    assert not deployer.find_model_server() and not deployer.platform.servers
    service = deployer.deploy_model(**FIELDS, replicas=2)
    assert deployer.manifest(service) == f"server: stackkit-{service.id}\nrevision: 1\nreplicas: 2\n"
    assert deployer.dry_run(model_name="iris", model_uri="one", replicas=2) == deployer.manifest(service)
    changed = deployer.dry_run(model_name="iris", model_uri="one", replicas=3)
    assert changed == f"server: stackkit-{service.id}\nrevision: 2\nreplicas: 3\n"
    assert deployer.get_model_server(service).revision == 1
    with pytest.raises(ModelError):
        deployer.dry_run(model_name="iris", model_uri="missing")


def test_beside_a_canary_nothing_is_deployed_not_even_dry(client: Client, deployer: MemoryModelDeployer) -> None:
    attributes = {"platform": deployer.config.platform, "updates_in_place": True}
    client.register_component(ComponentType.MODEL_DEPLOYER, "rolling", "memory", attributes)
    rolling = client.model_deployer("rolling")
    service = rolling.deploy_model(**FIELDS)
    rolling.update_model_server(service, canary=20, model_uri="two", timeout=5)
    with pytest.raises(InUseError, match="canary"):
        rolling.dry_run(model_name="iris", model_uri="three")


class Forwarding(MemoryModelDeployer, ForwardsPorts):
    """Has one port, and that is taken by nobody."""

    def do_forward(self, service, port):
        return nullcontext(f"http://127.0.0.1:{port or 40321}")


def test_a_port_is_forwarded_by_a_flavor_that_can(
    client: Client, deployer: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = deployer.deploy_model(**FIELDS)
    with pytest.raises(NotSupportedError, match="'memory' cannot forward a port") as raised:
        deployer.port_forward(service)
    assert "memory" not in str(raised.value.hint)
    monkeypatch.setattr(MemoryModelDeployerFlavor, "implementation_class", lambda self: Forwarding)
    able = client.model_deployer("memory")
    with able.port_forward(service, 40322) as url:
        assert url == "http://127.0.0.1:40322"
    assert "memory" in flavors_with(ForwardsPorts, client.database)


def test_what_a_flavor_cannot_do_is_refused_by_name(client: Client) -> None:
    client.register_component(ComponentType.MODEL_DEPLOYER, "here", "local", {})
    local = client.model_deployer("here")
    with pytest.raises(NotSupportedError, match="'local' cannot show a manifest"):
        local.manifest("anything")
    with pytest.raises(NotSupportedError, match="'local' cannot show a manifest"):
        local.dry_run(model_name="iris")


def test_what_completing_a_start_has_kept_stays(deployer: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployer, "do_complete", lambda operation: operation.checkpoint(scaling="registered"))
    service = deployer.deploy_model(**{**FIELDS, "timeout": 0})
    assert deployer.start_model_server(service).status.details["scaling"] == "registered"
    service.stop()
    service.start()
    assert service.status.details["scaling"] == "registered"
