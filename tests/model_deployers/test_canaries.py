"""Canaries: a part of the requests for a newer revision, until it is promoted or aborted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import pytest

from stackkit import Client
from stackkit.errors import (
    DeploymentError,
    DeploymentTimeoutError,
    InUseError,
    InvalidConfigError,
    ModelError,
    NotFoundError,
    NotSupportedError,
    PlatformUnavailableError,
)
from stackkit.model_deployers import (
    Canary,
    Observation,
    Operation,
    Service,
    ServiceConfig,
    ServiceState,
    canaries,
)
from stackkit.model_deployers.memory import MemoryModelDeployer, MemoryServer
from stackkit.stack import ComponentType

Overtake = Callable[[MemoryModelDeployer, Callable[[], object]], None]


@pytest.fixture
def deployer(splitting: MemoryModelDeployer) -> MemoryModelDeployer:
    return splitting


@pytest.fixture
def service(deployer: MemoryModelDeployer) -> Service:
    return deployer.deploy_model(model_name="iris", model_uri="one", timeout=5)


def server(deployer: MemoryModelDeployer, service: Service) -> MemoryServer:
    return deployer.platform.servers[service.id]


def numbers(client: Client, service: Service) -> list[int]:
    return [each["number"] for each in client.servers.revisions(service.id)]


def steps(client: Client, service: Service) -> list[tuple[str, str]]:
    return [(each["action"], each["outcome"]) for each in client.servers.history(service.id)]


@pytest.mark.all_databases
def test_a_canary_runs_beside_what_serves_and_takes_its_place(
    client: Client, deployer: MemoryModelDeployer, service: Service
) -> None:
    split = deployer.update_model_server(service, canary=20, model_uri="two", timeout=5)
    assert (split.uuid, split.revision, split.canary) == (service.uuid, 1, Canary(2, 20))
    assert (split.config["model_uri"], split.is_running, split.status.message) == ("one", True, "")
    beside = server(deployer, service).canary
    assert beside is not None and (beside.revision, beside.percent) == (2, 20)
    assert numbers(client, service) == [1, 2]
    seen = deployer.get_model_server(service)
    assert (seen.canary, seen.status.message) == (Canary(2, 20), "")

    promoted = deployer.promote_model_server(service, timeout=5)
    assert (promoted.revision, promoted.canary, promoted.config["model_uri"]) == (2, None, "two")
    assert deployer.find_model_server(model_name="iris")[0].status.message == ""
    assert (server(deployer, service).revision, server(deployer, service).canary) == (2, None)
    assert numbers(client, service) == [1, 2]
    assert deployer.platform.starts == 1
    assert steps(client, service)[-4:] == [
        ("canary", "begun"),
        ("canary", "done"),
        ("promote", "begun"),
        ("promote", "done"),
    ]
    assert deployer.rollback_model_server(service, timeout=5).config["model_uri"] == "one"


@pytest.mark.all_databases
def test_an_aborted_canary_leaves_nothing(client: Client, deployer: MemoryModelDeployer, service: Service) -> None:
    deployer.update_model_server(service, canary=20, model_uri="two", timeout=5)
    aborted = deployer.abort_model_server(service, timeout=5)
    assert (aborted.revision, aborted.canary, aborted.is_running) == (1, None, True)
    assert (server(deployer, service).revision, server(deployer, service).canary) == (1, None)
    assert numbers(client, service) == [1]
    with pytest.raises(NotFoundError, match="no canary"):
        deployer.abort_model_server(service)
    with pytest.raises(NotFoundError, match="no canary"):
        deployer.promote_model_server(service)
    assert deployer.update_model_server(service, model_uri="three", timeout=5).revision == 2


def test_another_part_of_the_requests(client: Client, deployer: MemoryModelDeployer, service: Service) -> None:
    deployer.update_model_server(service, canary=20, model_uri="two", timeout=5)
    for percent in (50, 10):
        changed = deployer.update_model_server(service, canary=percent, timeout=5)
        assert changed.canary == Canary(2, percent)
        beside = server(deployer, service).canary
        assert beside is not None and beside.percent == percent
    same = deployer.update_model_server(service, canary=30, model_uri="two", timeout=5)
    assert same.canary == Canary(2, 30)
    assert numbers(client, service) == [1, 2]


def test_nothing_else_is_changed_beside_a_canary(deployer: MemoryModelDeployer, service: Service) -> None:
    deployer.update_model_server(service, canary=20, model_uri="two", timeout=5)
    others = [
        lambda: deployer.update_model_server(service, model_uri="three"),
        lambda: deployer.update_model_server(service, canary=20, model_uri="three"),
        lambda: deployer.rollback_model_server(service, to=1),
        lambda: deployer.deploy_model(model_name="iris", model_uri="three", replace=True),
    ]
    for act in others:
        with pytest.raises(InUseError, match="has a canary: revision 2") as raised:
            act()
        assert "models promote" in str(raised.value.hint) and "models abort" in str(raised.value.hint)
    same = deployer.deploy_model(model_name="iris", model_uri="one")
    assert (same.revision, same.canary) == (1, Canary(2, 20))
    assert deployer.start_model_server(service).canary == Canary(2, 20)


@pytest.mark.parametrize("percent", [0, 100, -1])
def test_a_part_is_from_1_to_99_of_a_hundred(deployer: MemoryModelDeployer, service: Service, percent: int) -> None:
    with pytest.raises(InvalidConfigError, match=f"{percent} %"):
        deployer.update_model_server(service, canary=percent, model_uri="two")


def test_what_cannot_be_a_canary_changes_nothing(deployer: MemoryModelDeployer, service: Service) -> None:
    with pytest.raises(InvalidConfigError, match="what serves already"):
        deployer.update_model_server(service, canary=20)
    with pytest.raises(InvalidConfigError, match="another name"):
        deployer.update_model_server(service, canary=20, model_name="other")
    with pytest.raises(ModelError):
        deployer.update_model_server(service, canary=20, model_uri="missing")
    service.stop()
    with pytest.raises(DeploymentError, match="does not run"):
        deployer.update_model_server(service, canary=20, model_uri="two")
    assert deployer.get_model_server(service).canary is None


def test_what_has_to_stop_for_an_update_can_have_no_canary(
    client: Client, service: Service, deployer: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployer, "can_update", lambda before, after: False)
    with pytest.raises(NotSupportedError, match="with replicas 1 → 2 cannot run beside"):
        deployer.update_model_server(service, canary=20, replicas=2)
    assert numbers(client, service) == [1]


@pytest.mark.all_databases
@pytest.mark.parametrize("behaviour", ["fail", "crash", "hang"])
def test_a_canary_that_fails_is_aborted(
    client: Client, deployer: MemoryModelDeployer, service: Service, behaviour: str
) -> None:
    with pytest.raises(DeploymentError, match="did not start its canary") as raised:
        deployer.update_model_server(service, canary=20, behaviour=behaviour, timeout=0.3)
    assert isinstance(raised.value, DeploymentTimeoutError) == (behaviour == "hang")
    seen = deployer.get_model_server(service)
    assert (seen.is_running, seen.revision, seen.canary, seen.status.message) == (True, 1, None, "")
    assert server(deployer, service).canary is None
    assert numbers(client, service) == [1]
    (begun,) = [each for each in client.servers.history(service.id) if each["action"] == "abort"][:1]
    assert begun["message"].startswith("Revision 2 failed, and revision 1 serves alone: ")


def test_a_canary_begun_beside_an_update_has_what_that_has_changed(
    client: Client, deployer: MemoryModelDeployer, service: Service, overtake: Overtake
) -> None:
    other = client.model_deployer("rolling")
    overtake(deployer, lambda: other.update_model_server(service, model_version="7", timeout=5))
    deployer.update_model_server(service, canary=20, replicas=3, timeout=5)
    promoted = deployer.promote_model_server(service, timeout=5)
    assert (promoted.revision, promoted.config["model_version"], promoted.config["replicas"]) == (3, "7", 3)


def test_a_canary_that_is_cancelled_is_aborted(client: Client, deployer: MemoryModelDeployer, service: Service) -> None:
    def interrupt(text: str) -> None:
        if text.startswith("waiting"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deployer.update_model_server(service, canary=20, behaviour="hang", progress=interrupt)
    assert deployer.get_model_server(service).canary is None
    assert steps(client, service)[-2:] == [("abort", "begun"), ("abort", "done")]


def test_a_canary_that_cannot_be_aborted_is_told_and_aborted_later(
    deployer: MemoryModelDeployer, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(operation: object) -> None:
        raise DeploymentError("not now")

    with monkeypatch.context() as patched:
        patched.setattr(deployer, "do_update", refuse)
        with pytest.raises(DeploymentError, match="the canary is broken"):
            deployer.update_model_server(service, canary=20, behaviour="fail", timeout=5)
        seen = deployer.get_model_server(service)
        assert (seen.is_running, seen.canary) == (True, Canary(2, 0))
        assert "abort it again" in seen.status.message
    assert deployer.abort_model_server(service, timeout=5).canary is None
    assert deployer.get_model_server(service).status.message == ""


def test_a_promotion_that_fails_leaves_the_stable_revision_alone(
    deployer: MemoryModelDeployer, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployer.update_model_server(service, canary=20, model_uri="two", timeout=5)
    update = deployer.do_update

    def refuse_the_canary(operation: Operation) -> None:
        if operation.service.revision == 2:
            raise DeploymentError("no room for all of it")
        update(operation)

    monkeypatch.setattr(deployer, "do_update", refuse_the_canary)
    with pytest.raises(DeploymentError, match="no room"):
        deployer.promote_model_server(service, timeout=5)
    seen = deployer.get_model_server(service)
    assert (seen.revision, seen.canary, seen.is_running) == (1, None, True)


@pytest.mark.parametrize("way_out", ["promote", "abort"])
def test_an_interrupted_promotion_is_told_and_either_way_goes_on(
    deployer: MemoryModelDeployer, service: Service, monkeypatch: pytest.MonkeyPatch, way_out: str
) -> None:
    deployer.update_model_server(service, canary=20, model_uri="two", timeout=5)
    with client_dies(monkeypatch), pytest.raises(SystemExit):
        deployer.promote_model_server(service, timeout=5)
    seen = deployer.get_model_server(service)
    assert (seen.revision, seen.canary) == (1, Canary(2, 100))
    assert "it serves already" in seen.status.message
    assert deployer.start_model_server(service).canary == Canary(2, 100), "a start undoes nothing"
    if way_out == "promote":
        done = deployer.promote_model_server(service, timeout=5)
    else:
        done = deployer.abort_model_server(service, timeout=5)
    assert (done.revision, done.canary) == (2 if way_out == "promote" else 1, None)
    assert server(deployer, service).revision == done.revision
    assert deployer.get_model_server(service).status.message == ""


def client_dies(monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[None]:
    """Within it, whoever has done the flavor's part of an operation ends before it can write of it."""

    def die(*arguments: object, **options: object) -> None:
        raise SystemExit

    @contextmanager
    def dying() -> Iterator[None]:
        with monkeypatch.context() as patched:
            patched.setattr(canaries, "await_arrival", die)
            patched.setattr(canaries.Canaries, "_withdraw", lambda *arguments: None)
            yield

    return dying()


def test_the_share_of_a_canary_on_its_way_to_serve_alone_is_not_changed(
    deployer: MemoryModelDeployer, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployer.update_model_server(service, canary=20, model_uri="two", timeout=5)
    with client_dies(monkeypatch), pytest.raises(SystemExit):
        deployer.promote_model_server(service, timeout=5)
    with pytest.raises(InUseError, match="has a canary"):
        deployer.update_model_server(service, canary=30)
    assert deployer.get_model_server(service).canary == Canary(2, 100)


def test_a_canary_outlives_a_server_that_is_not_ready_for_a_while(
    deployer: MemoryModelDeployer, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployer.update_model_server(service, canary=20, model_uri="two", timeout=5)
    check, looks = deployer.do_check, []

    def restarting(services: Sequence[Service]) -> dict[str, Observation]:
        looks.append(services)
        state = ServiceState.PENDING_STARTUP if len(looks) < 3 else ServiceState.ACTIVE
        return {key: replace(seen, state=state) for key, seen in check(services).items()}

    monkeypatch.setattr(deployer, "do_check", restarting)
    assert deployer.start_model_server(service, timeout=5).canary == Canary(2, 20)
    assert len(looks) >= 3


@pytest.mark.parametrize("verb", ["stop", "delete", "start after it died"])
def test_what_ends_a_server_ends_its_canary(
    client: Client, deployer: MemoryModelDeployer, service: Service, verb: str
) -> None:
    deployer.update_model_server(service, canary=20, model_uri="two", timeout=5)
    if verb == "delete":
        service.delete()
        assert not deployer.platform.servers
        return
    if verb == "stop":
        service.stop()
        assert (service.status.state, service.canary) == (ServiceState.INACTIVE, None)
        assert numbers(client, service) == [1]
    else:
        server(deployer, service).running = False
    service.start(timeout=5)
    assert (service.is_running, service.revision, service.canary) == (True, 1, None)
    assert server(deployer, service).canary is None
    assert numbers(client, service) == [1]


def test_a_canary_that_went_is_told(deployer: MemoryModelDeployer, service: Service) -> None:
    deployer.update_model_server(service, canary=20, model_uri="two", timeout=5)
    server(deployer, service).canary = None
    seen = deployer.get_model_server(service)
    assert seen.is_running
    assert "Its canary, revision 2, does not answer" in seen.status.message
    deployer.update_model_server(service, canary=20, timeout=5)
    assert deployer.get_model_server(service).status.message == ""


def test_a_canary_that_no_row_names_is_told_and_aborted(deployer: MemoryModelDeployer, service: Service) -> None:
    deployer.update_model_server(service, canary=20, model_uri="two", timeout=5)
    beside = server(deployer, service).canary
    deployer.abort_model_server(service)
    server(deployer, service).canary = beside
    assert "nobody asked for that" in deployer.get_model_server(service).status.message
    deployer.abort_model_server(service)
    assert server(deployer, service).canary is None


def test_a_server_that_died_can_lose_its_canary(deployer: MemoryModelDeployer, service: Service) -> None:
    deployer.update_model_server(service, canary=20, model_uri="two", timeout=5)
    server(deployer, service).running = False
    with pytest.raises(DeploymentError, match="does not run"):
        deployer.promote_model_server(service)
    assert deployer.abort_model_server(service).canary is None


def test_a_canary_is_not_waited_for_when_told_so(deployer: MemoryModelDeployer, service: Service) -> None:
    deployer.update_model_server(service, canary=20, model_uri="two", behaviour="hang", timeout=0)
    seen = deployer.get_model_server(service)
    assert seen.canary == Canary(2, 20)
    assert "does not answer" in seen.status.message
    deployer.abort_model_server(service)
    deployer.update_model_server(service, canary=20, model_uri="two", timeout=0)
    assert deployer.get_model_server(service).status.message == ""
    promoted = deployer.promote_model_server(service, timeout=0)
    assert (promoted.revision, promoted.canary) == (2, None)
    deployer.start_model_server(service)
    assert deployer.get_model_server(service).status.message == ""


def test_a_platform_that_does_not_answer_keeps_the_canary(deployer: MemoryModelDeployer, service: Service) -> None:
    deployer.update_model_server(service, canary=20, model_uri="two", timeout=5)
    deployer.platform.reachable = False
    for act in (deployer.promote_model_server, deployer.abort_model_server):
        with pytest.raises(PlatformUnavailableError):
            act(service)
    deployer.platform.reachable = True
    assert deployer.get_model_server(service).canary is not None
    assert deployer.abort_model_server(service).canary is None


def test_a_flavor_that_cannot_is_refused_with_those_that_can(client: Client) -> None:
    client.flavors.register(ComponentType.MODEL_DEPLOYER, "stackkit.model_deployers.memory.MemoryModelDeployerFlavor")
    client.register_component(ComponentType.MODEL_DEPLOYER, "here", "local", {})
    local = client.model_deployer("here")
    with pytest.raises(NotSupportedError, match="'local' cannot split") as raised:
        local.update_model_server("anything", canary=20)
    assert "memory" in str(raised.value.hint)
    for act in (local.promote_model_server, local.abort_model_server):
        with pytest.raises(NotSupportedError, match="'local' cannot split"):
            act("anything")


def test_a_share_that_is_refused_changes_nothing(
    client: Client, deployer: MemoryModelDeployer, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployer.update_model_server(service, canary=20, model_uri="two", timeout=5)
    before = steps(client, service)

    def refuse(self: MemoryModelDeployer, service: Service, config: ServiceConfig, percent: int) -> None:
        raise NotSupportedError(f"Not {percent} %.")

    monkeypatch.setattr(MemoryModelDeployer, "check_split", refuse)
    with pytest.raises(NotSupportedError, match="Not 30 %"):
        deployer.update_model_server(service, canary=30, timeout=5)
    assert steps(client, service) == before
    assert deployer.get_model_server(service).canary == Canary(2, 20)


def test_a_share_is_asked_for_once_more_when_the_canary_answers(
    deployer: MemoryModelDeployer, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployer.update_model_server(service, canary=20, model_uri="two", timeout=5)
    asked: list[tuple[int, int | None]] = []
    once = MemoryModelDeployer.do_split

    def split(self: MemoryModelDeployer, operation: Operation, percent: int) -> None:
        beside = server(deployer, service).canary
        asked.append((percent, None if beside is None else beside.percent))
        if len(asked) > 1:  # a platform that takes no other share while the canary is on its way
            once(self, operation, percent)

    monkeypatch.setattr(MemoryModelDeployer, "do_split", split)
    assert deployer.update_model_server(service, canary=30, timeout=5).canary == Canary(2, 30)
    assert asked == [(30, 20), (30, 20)]
    beside = server(deployer, service).canary
    assert beside is not None and beside.percent == 30
