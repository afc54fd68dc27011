"""Updates of the model alone: the container that serves goes over to it, and no request fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.models.containers import Container
from docker_parts import MODEL, Load, tags, wait_until
from stackkit_docker import containers, rolling
from stackkit_docker.deployer import DockerModelDeployer

from stackkit.errors import DeploymentError
from stackkit.model_deployers import Service, ServiceState
from stackkit.serving.container import HANDOVER_FOLDER

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("layers")]

TIMEOUT = 300
PYTHON = "/opt/stackkit/environment/bin/python"


class Iris:
    """A service, the model that it is deployed from, and the container that serves it."""

    def __init__(self, deployer: DockerModelDeployer, engine: DockerClient, folder: Path) -> None:
        self._deployer, self.engine, self._folder = deployer, engine, folder

    def deploy(self, answer: int, **fields: Any) -> Service:
        self.train(MODEL.format(answer=answer))
        uri = f"{self._folder}/model.py:predict"
        return self._deployer.deploy_model(model_name="iris", model_uri=uri, timeout=TIMEOUT, **fields)

    def update(self, service: Service, answer: int, **fields: Any) -> Service:
        self.train(MODEL.format(answer=answer))
        return self._deployer.update_model_server(service, timeout=TIMEOUT, **fields)

    def train(self, code: str) -> None:
        (self._folder / "model.py").write_text(code, encoding="utf-8")

    def require(self, requirements: str) -> None:
        (self._folder / "requirements.txt").write_text(requirements, encoding="utf-8")

    def container(self, service: Service) -> Container:
        (found,) = self.engine.containers.list(all=True, filters={"label": f"stackkit.service={service.id}"})
        return found

    def volumes(self, service: Service) -> list[str]:
        return [mount["Name"] for mount in self.container(service).attrs["Mounts"]]


@pytest.fixture
def iris(deployer: DockerModelDeployer, engine: DockerClient, tmp_path: Path) -> Iris:
    folder = tmp_path / "model"
    folder.mkdir()
    return Iris(deployer, engine, folder)


def next_answers(load: Load) -> list[Any]:
    """Those to the next three requests; the one that is under way may have been asked before."""
    begun = len(load.answers) + 1
    wait_until(lambda: len(load.answers) >= begun + 3)
    return load.answers[begun : begun + 3]


def test_no_request_fails_and_the_container_stays(iris: Iris, deployer: DockerModelDeployer) -> None:
    service = iris.deploy(1)
    container = iris.container(service)
    with Load(service.prediction_url) as load:
        updated = iris.update(service, 2)
        assert next_answers(load) == [[2]] * 3
        back = deployer.rollback_model_server(service, timeout=TIMEOUT)
        assert next_answers(load) == [[1]] * 3
    assert None not in load.answers
    assert (updated.revision, back.revision) == (2, 3)
    assert iris.container(service).id == container.id
    assert back.refresh().status.state is ServiceState.ACTIVE


def test_what_is_started_again_serves_what_the_row_names(iris: Iris) -> None:
    service = iris.update(iris.deploy(1), 2)
    iris.container(service).restart()
    wait_until(lambda: service.refresh().is_running)
    assert service.revision == 2
    assert service.predict([0]) == [[2]]
    service.stop()
    service.start(timeout=TIMEOUT)
    assert iris.container(service).labels["stackkit.revision"] == "2", "a new container was made for it"
    assert service.predict([0]) == [[2]]


def test_the_engine_restarts_what_dies_after_an_update(iris: Iris) -> None:
    service = iris.update(iris.deploy(1, restart_policy="unless-stopped"), 2)
    end = "import os, signal; os.kill(1, signal.SIGTERM)"  # from inside: an engine does not restart what it ended
    assert containers.execute(iris.engine, iris.container(service).id, [PYTHON, "-c", end], 30) in (0, None)
    wait_until(lambda: iris.container(service).attrs["RestartCount"] == 1 and service.refresh().is_running)
    assert (service.revision, service.predict([0])) == (2, [[2]])


def test_a_paused_container_is_replaced(iris: Iris) -> None:
    service = iris.deploy(1)
    paused = iris.container(service)
    paused.pause()
    assert iris.update(service, 2).predict([0]) == [[2]]
    assert iris.container(service).id != paused.id


def test_an_update_that_fails_costs_no_request(iris: Iris, deployer: DockerModelDeployer) -> None:
    service = iris.deploy(1)
    iris.train("raise RuntimeError('it cannot be loaded')")
    with Load(service.prediction_url) as load, pytest.raises(DeploymentError, match="it cannot be loaded"):
        deployer.update_model_server(service, timeout=TIMEOUT)
    assert {json.dumps(answer) for answer in load.answers} == {"[1]"}
    assert (service.refresh().revision, service.status.state) == (1, ServiceState.ACTIVE)
    container = iris.container(service)
    assert iris.update(service, 2).predict([0]) == [[2]]
    assert iris.container(service).id == container.id


def test_an_update_that_is_cancelled_costs_no_request(iris: Iris, monkeypatch: pytest.MonkeyPatch) -> None:
    service = iris.deploy(1)

    def cancelled(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rolling.containers, "remove", cancelled)
    with Load(service.prediction_url) as load, pytest.raises(KeyboardInterrupt):
        iris.update(service, 2)
    monkeypatch.undo()
    assert {json.dumps(answer) for answer in load.answers} == {"[1]"}
    assert iris.update(service, 2).predict([0]) == [[2]]
    assert iris.container(service).name == f"stackkit-{service.id}"


def test_a_model_that_never_loads_is_given_up_when_nobody_waits_any_more(
    iris: Iris, deployer: DockerModelDeployer
) -> None:
    service = iris.deploy(1)
    iris.train("import time\ntime.sleep(600)\n")

    def impatient(text: str) -> None:
        if text.startswith("waiting for"):
            raise KeyboardInterrupt

    with Load(service.prediction_url) as load, pytest.raises(KeyboardInterrupt):
        deployer.update_model_server(service, timeout=TIMEOUT, progress=impatient)
    assert {json.dumps(answer) for answer in load.answers} == {"[1]"}
    container = iris.container(service)
    assert iris.update(service, 2).predict([0]) == [[2]]
    assert iris.container(service).id == container.id


def test_many_updates_do_not_fill_the_container(iris: Iris) -> None:
    service = iris.deploy(1)
    for answer in range(2, 6):
        service = iris.update(service, answer)
    assert service.predict([0]) == [[5]]
    listed = iris.container(service).exec_run(["ls", "-A", f"{HANDOVER_FOLDER}/models"]).output.split()
    assert len(listed) == 2, "the one that is served, and the one before it"


def test_what_it_has_taken_over_goes_with_the_container(iris: Iris, engine: DockerClient) -> None:
    def there() -> set[str]:
        return {each["Name"] for each in engine.api.volumes()["Volumes"] or ()}

    service = iris.update(iris.deploy(1), 2)
    volumes = set(iris.volumes(service))
    assert volumes <= there()
    iris.container(service).remove(force=True)
    assert volumes <= there(), "whoever removes a container leaves them"
    service.start(timeout=TIMEOUT)
    assert not volumes & there()
    volumes = set(iris.volumes(service))
    service.delete()
    assert not volumes & there()


def test_an_image_that_another_server_has_gone_over_to_stays(
    iris: Iris, deployer: DockerModelDeployer, home: Path
) -> None:
    first, second = iris.deploy(1), iris.deploy(1, service_name="second")
    first, second = iris.update(first, 2), iris.update(second, 2)
    image = second.status.details["image"]
    assert first.status.details["image"] == image
    first.delete()
    second.stop()
    (home / "models").rename(home / "elsewhere")
    second.start(timeout=TIMEOUT)
    assert second.predict([0]) == [[2]]
    second.delete()
    assert image not in tags(iris.engine)


def test_a_server_whose_row_was_lost_is_adopted_as_what_it_serves(iris: Iris, deployer: DockerModelDeployer) -> None:
    service = iris.update(iris.deploy(1), 2)
    deployer.delete_model_server(service, forget=True)
    adopted = deployer.adopt_model_server(service.id)
    assert (adopted.is_running, adopted.revision) == (True, 2)
    assert adopted.source == service.source
    assert adopted.status.details["image"] == service.status.details["image"]
    assert iris.update(adopted, 3).predict([0]) == [[3]]


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        pytest.param(lambda iris: iris.require("itsdangerous\n"), {}, id="requirements"),
        pytest.param(lambda iris: None, {"env": {"A": "2"}}, id="env"),
        pytest.param(lambda iris: None, {"cpus": 1.0}, id="cpus"),
    ],
)
def test_whatever_else_changes_takes_another_container(
    change: Callable[[Iris], None], fields: dict[str, Any], iris: Iris
) -> None:
    service = iris.deploy(1, env={"A": "1"})
    container = iris.container(service)
    change(iris)
    updated = iris.update(service, 2, **fields)
    assert updated.predict([0]) == [[2]]
    assert iris.container(service).id != container.id


def test_a_container_without_room_for_two_models_is_replaced(iris: Iris) -> None:
    service = iris.deploy(1, memory="48m")
    container = iris.container(service)
    assert iris.update(service, 2).predict([0]) == [[2]]
    assert iris.container(service).id != container.id
