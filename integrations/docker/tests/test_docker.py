"""The Docker flavor with real containers: what they may do, how they end and how they take over from each other."""

from __future__ import annotations

import gc
import json
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from docker import DockerClient
from docker.models.containers import Container
from docker_parts import Load, build, wait_until
from stackkit_docker import containers, updates
from stackkit_docker.config import DockerServiceConfig
from stackkit_docker.deployer import DockerModelDeployer

from stackkit import Client
from stackkit.errors import DeploymentError, ImageError, InvalidConfigError, NotFoundError
from stackkit.model_deployers import Service, ServiceState

pytestmark = pytest.mark.docker


class Deploy:
    """Deploys one of the images, and finds the container that came of it."""

    def __init__(self, deployer: DockerModelDeployer, images: dict[str, str], engine: DockerClient) -> None:
        self._deployer, self._images, self._engine = deployer, images, engine

    def __call__(self, image: str = "one", *, model_name: str = "iris", **fields: Any) -> Service:
        named = {"image": self._images.get(image, image), "model_name": model_name, "timeout": 60}
        return self._deployer.deploy_model(**{**named, **fields})

    def container(self, service: Service) -> Container:
        return self._engine.containers.get(f"stackkit-{service.id}")


@pytest.fixture
def deploy(deployer: DockerModelDeployer, images: dict[str, str], engine: DockerClient) -> Deploy:
    return Deploy(deployer, images, engine)


@pytest.fixture
def foreign(engine: DockerClient, images: dict[str, str]) -> Iterator[Callable[..., Container]]:
    """Makes containers that are none of ours, and removes them."""
    made: list[Container] = []

    def make(**options: Any) -> Container:
        made.append(engine.containers.run(images["one"], detach=True, labels={"stackkit.test": "foreign"}, **options))
        return made[-1]

    yield make
    for each in made:
        each.remove(force=True)


def test_the_container_may_do_no_more_than_it_must(deploy: Deploy, client: Client) -> None:
    service = deploy(env={"TOKEN": "hunter2"}, cpus=0.5, memory="128m")
    attributes = deploy.container(service).attrs
    host = attributes["HostConfig"]
    assert host["PortBindings"]["8080/tcp"][0]["HostIp"] == "127.0.0.1"
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (500_000_000, 128 * 2**20, 128 * 2**20)
    assert attributes["Config"]["Labels"]["stackkit.service"] == service.id
    assert "TOKEN=hunter2" in attributes["Config"]["Env"]
    assert "hunter2" not in json.dumps(attributes["Config"]["Labels"])
    assert "hunter2" not in json.dumps(service.as_dict(), default=str)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may read, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_mount_is_read_only_unless_told(deploy: Deploy, open_folder: Path) -> None:
    (open_folder / "facts.txt").write_text("42", encoding="utf-8")
    service = deploy(mounts=[{"source": str(open_folder), "target": "/facts"}])
    container = deploy.container(service)
    assert container.exec_run(["cat", "/facts/facts.txt"]).output == b"42"
    assert container.exec_run(["touch", "/facts/other"]).exit_code != 0
    with pytest.raises(DeploymentError, match="does not exist"):
        deploy(model_name="other", mounts=[{"source": str(open_folder / "missing"), "target": "/facts"}])


def test_a_stopped_server_keeps_its_port_and_its_log(deploy: Deploy) -> None:
    service = deploy()
    url = service.prediction_url
    service.stop()
    assert deploy.container(service).status == "exited"
    assert list(service.logs()) == ["serving one"]
    service.start()
    assert service.prediction_url == url


def test_what_was_renamed_by_hand_is_still_its_container(deploy: Deploy) -> None:
    service = deploy()
    container = deploy.container(service)
    container.rename(f"renamed-{service.id}")
    container.stop()
    assert "exit code 0: serving one" in service.refresh().status.message
    assert list(service.logs()) == ["serving one"]
    service.start()
    assert deploy.container(service).id != container.id


def test_a_log_is_followed_until_the_container_ends(deploy: Deploy) -> None:
    service = deploy()
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(service.logs(follow=True)))
    reader.start()
    wait_until(lambda: lines)
    deploy.container(service).kill("SIGTERM")
    reader.join(30)
    assert not reader.is_alive()
    assert lines[0] == "serving one"


def test_a_log_that_is_no_longer_followed_leaves_no_connection(deploy: Deploy) -> None:
    lines = deploy().logs(follow=True)
    assert next(lines) == "serving one"
    lines.close()  # type: ignore[attr-defined]
    gc.collect()  # a connection that only the collector closes is a warning, and that an error


def test_a_server_that_needed_more_memory_than_it_may_have_is_told_so(deploy: Deploy) -> None:
    service = deploy(memory="64m")
    assert service.prediction_url is not None
    with pytest.raises(requests.ConnectionError):
        requests.post(service.prediction_url, json={"inputs": "all the memory"}, timeout=60)
    wait_until(lambda: "exit code" in service.refresh().status.message)
    assert service.status.state is ServiceState.ERROR
    assert "exit code 137, killed by the kernel because it needed more memory than the 64 MiB" in service.status.message
    assert service.status.message.endswith("serving one")


def test_a_start_that_fails_tells_exit_code_and_log(deploy: Deploy, deployer: DockerModelDeployer) -> None:
    with pytest.raises(DeploymentError, match="exit code 1: ValueError: it cannot be loaded"):
        deploy("broken", restart_policy="no")
    with pytest.raises(DeploymentError, match=r"again and again(.|\n)*ValueError: it cannot be loaded"):
        deploy("broken", model_name="persistent", restart_policy="unless-stopped")
    assert {deploy.container(each).status for each in deployer.find_model_server()} == {"exited"}


def test_the_engine_restarts_what_dies_and_not_what_was_stopped(deploy: Deploy) -> None:
    service = deploy(restart_policy="unless-stopped", memory="64m")
    assert service.prediction_url is not None
    with pytest.raises(requests.ConnectionError):
        requests.post(service.prediction_url, json={"inputs": "all the memory"}, timeout=60)
    wait_until(lambda: service.refresh().is_running)
    assert deploy.container(service).attrs["RestartCount"] == 1
    service.stop()
    assert deploy.container(service).status == "exited"


def test_a_paused_container_is_no_server_and_can_be_stopped(deploy: Deploy) -> None:
    service = deploy()
    deploy.container(service).pause()
    assert service.refresh().status.state is ServiceState.ERROR
    assert "paused" in service.status.message
    service.stop()
    assert service.status.state is ServiceState.INACTIVE


def test_a_port_that_is_taken_is_told_with_who_has_it(deploy: Deploy, foreign: Callable[..., Container]) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        listening.listen()
        with pytest.raises(DeploymentError, match=f"port {port} of 127.0.0.1 is taken"):
            deploy(port=port)
    other = foreign(ports={"8080/tcp": ("127.0.0.1", port)})
    with pytest.raises(DeploymentError, match=f"is taken by the container {other.name}"):
        deploy(port=port)


def test_somebody_elses_container_with_our_name_is_left_alone(
    deploy: Deploy, deployer: DockerModelDeployer, foreign: Callable[..., Container]
) -> None:
    service = deploy()
    service.stop()
    deploy.container(service).remove()
    other = foreign(name=f"stackkit-{service.id}")
    with pytest.raises(DeploymentError, match="not stackkit's"):
        service.start()
    service.delete()
    other.reload()
    assert other.status == "running"
    assert service.id not in [found.service_id for found in deployer.find_orphans()]


def test_a_server_whose_row_was_lost_is_adopted(deploy: Deploy, deployer: DockerModelDeployer, client: Client) -> None:
    client.secrets.create("mine", {"token": "hunter2"})
    service = deploy(env={"TOKEN": "{{mine.token}}"})
    deployer.delete_model_server(service, forget=True)
    adopted = deployer.adopt_model_server(service.id)
    assert (adopted.is_running, adopted.prediction_url) == (True, service.prediction_url)
    adopted.stop()


def test_an_update_takes_over_when_the_new_container_is_healthy(deploy: Deploy) -> None:
    service = deploy()
    assert service.prediction_url is not None
    with Load(service.prediction_url) as load:
        updated = deploy("two", replace=True)
        wait_until(lambda: load.answers[-1] == "two")
    assert (updated.revision, updated.prediction_url) == (2, service.prediction_url)
    answered = [answer for answer in load.answers if answer is not None]
    assert answered == sorted(answered), "the old one answers no more once the new one does"
    assert load.answers.index("two") - answered.index("two") == load.answers.count(None), "one gap, at the change"
    assert deploy.container(updated).attrs["Config"]["Labels"]["stackkit.revision"] == "2"


def test_an_update_that_was_killed_after_it_took_over_is_brought_to_its_end(
    deploy: Deploy, engine: DockerClient
) -> None:
    service = deploy()
    deploy.container(service).rename(f"stackkit-{service.id}-next")
    mine = {"label": f"stackkit.service={service.id}"}
    engine.networks.create(f"stackkit-{service.id}-next", internal=True, labels={"stackkit.service": service.id})
    engine.networks.list(filters=mine)[0].connect(f"stackkit-{service.id}-next")
    assert service.refresh().is_running
    assert list(service.logs()) == ["serving one"]
    assert deploy("two", replace=True).predict([0]) == ["two"]
    assert [each.name for each in engine.containers.list(all=True, filters=mine)] == [f"stackkit-{service.id}"]
    assert not engine.networks.list(filters=mine)


def test_an_update_that_nobody_waits_for_takes_over_at_once(deploy: Deploy) -> None:
    service = deploy()
    updated = deploy("two", replace=True, timeout=0)
    wait_until(lambda: updated.refresh().is_running)
    assert (updated.revision, updated.prediction_url) == (2, service.prediction_url)
    assert updated.predict([0]) == ["two"]


def test_an_update_of_an_image_without_a_health_check_takes_over_when_it_runs(
    deploy: Deploy, engine: DockerClient, images: dict[str, str]
) -> None:
    tag = f"{images['two']}-unchecked"
    build(engine, tag, "ENV ANSWER=two", "HEALTHCHECK NONE")
    try:
        service = deploy()
        updated = deploy(tag, replace=True)
        assert (updated.predict([0]), updated.prediction_url) == (["two"], service.prediction_url)
        updated.delete()
    finally:
        engine.images.remove(tag, force=True)


def test_an_update_that_fails_costs_no_request(deploy: Deploy, engine: DockerClient) -> None:
    service = deploy()
    assert service.prediction_url is not None
    with (
        Load(service.prediction_url) as load,
        pytest.raises(DeploymentError, match="exit code 1: ValueError: it cannot be loaded"),
    ):
        deploy("broken", replace=True)
    assert set(load.answers) == {"one"}
    assert service.refresh().revision == 1
    mine = {"label": f"stackkit.service={service.id}"}
    assert [each.name for each in engine.containers.list(all=True, filters=mine)] == [f"stackkit-{service.id}"]
    assert not engine.networks.list(filters=mine)


def test_an_update_that_is_cancelled_costs_no_request(deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    service = deploy()
    assert service.prediction_url is not None

    def cancelled(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(updates, "_passes", cancelled)
    with Load(service.prediction_url) as load, pytest.raises(KeyboardInterrupt):
        deploy("two", replace=True)
    assert set(load.answers) == {"one"}


def test_a_container_that_does_not_end_is_killed(deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updates, "GRACE_SECONDS", 1)
    service = deploy(env={"ANSWER": "deaf"})
    service.stop(timeout=60)
    assert deploy.container(service).attrs["State"]["ExitCode"] == 137


def test_the_port_of_an_update_may_not_change_under_way(deployer: DockerModelDeployer) -> None:
    def config(**fields: Any) -> DockerServiceConfig:
        return DockerServiceConfig(model_name="iris", image="one", **fields)

    assert deployer.can_update(config(), config(memory="1g", env={"A": "b"}))
    assert deployer.can_update(config(port=2000), config())
    assert not deployer.can_update(config(), config(port=2000))
    assert not deployer.can_update(config(), config(host="0.0.0.0"))


def test_many_are_checked_by_one_list(
    deploy: Deploy, deployer: DockerModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = [deploy(model_name=name) for name in ("a", "b", "c")]
    asked = []
    find = containers.find
    monkeypatch.setattr(containers, "find", lambda *arguments: asked.append(1) or find(*arguments))
    seen = deployer.do_check(services)
    assert {each.state for each in seen.values()} == {ServiceState.ACTIVE}
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        pytest.param({"image": None}, "give either model_uri or image", id="neither"),
        pytest.param({"model_uri": "m.py:predict"}, "give either model_uri or image", id="both"),
        pytest.param({"memory": "much"}, "'much' is no size", id="memory"),
        pytest.param({"host": "localhost"}, "'localhost' is no IP address", id="host"),
        pytest.param({"restart_policy": "always"}, "restart_policy", id="policy"),
        pytest.param({"cpus": "inf"}, "cpus", id="cpus"),
        pytest.param({"env": {"A=B": "c"}}, "'A=B' is no name of a variable", id="variable"),
    ],
)
def test_a_wrong_field_is_refused(deploy: Deploy, deployer: DockerModelDeployer, fields: Any, said: str) -> None:
    with pytest.raises(InvalidConfigError, match=said):
        deploy(**fields)
    assert not deployer.find_model_server()


def test_an_image_that_is_nowhere_changes_nothing(deploy: Deploy, deployer: DockerModelDeployer) -> None:
    with pytest.raises(ImageError, match=r"no\.such/image:1 is not on the engine, and cannot be fetched") as raised:
        deploy("no.such/image:1")
    assert "\n" not in raised.value.message
    assert not deployer.find_model_server()


@pytest.mark.parametrize(
    ("given", "devices"),
    [
        pytest.param("0,1", {"DeviceIDs": ["0", "1"], "Count": 0}, id="some"),
        pytest.param("all", {"DeviceIDs": [], "Count": -1}, id="all"),
    ],
)
def test_gpus_are_asked_for(given: str, devices: dict[str, Any]) -> None:
    config = DockerServiceConfig.model_validate({"model_name": "iris", "image": "iris:1", "gpus": given})
    (asked,) = containers._devices(config)
    assert {name: asked[name] for name in devices} == devices
    assert asked["Capabilities"] == [["gpu"]]


def test_a_gpu_that_is_not_there_is_told(deploy: Deploy) -> None:
    with pytest.raises(DeploymentError, match="gpu"):
        deploy(gpus=["0"])


def test_what_is_gone_is_not_found(deploy: Deploy, deployer: DockerModelDeployer) -> None:
    service = deploy()
    deploy.container(service).remove(force=True)
    service.delete()
    with pytest.raises(NotFoundError):
        deployer.get_model_server(service.id)
