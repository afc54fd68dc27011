"""Images that the Docker flavor builds of models: what they may do, who shares them, and when they go."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from docker import DockerClient
from docker_parts import MODEL, remove_all, tags
from stackkit_docker import updates
from stackkit_docker.deployer import DockerModelDeployer

from stackkit import Client
from stackkit.errors import ImageError, ModelError
from stackkit.model_deployers import ServiceState
from stackkit.stack import ComponentType

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("layers")]


@pytest.fixture
def model(tmp_path: Path) -> str:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.py").write_text(MODEL.format(answer="1"), encoding="utf-8")
    return f"{folder}/model.py:predict"


def test_its_container_is_read_only_and_not_root(
    deployer: DockerModelDeployer, engine: DockerClient, model: str
) -> None:
    service = deployer.deploy_model(model_name="iris", model_uri=model, timeout=600)
    container = engine.containers.get(f"stackkit-{service.id}")
    assert container.attrs["HostConfig"]["ReadonlyRootfs"]
    assert list(container.attrs["HostConfig"]["Tmpfs"]) == ["/tmp"]
    assert container.exec_run(["id", "-u"]).output == b"1000\n"
    assert container.exec_run(["touch", "/opt/stackkit/model/other"]).exit_code != 0
    url = str(service.prediction_url).removesuffix("/invocations")
    assert requests.get(f"{url}/v2/models/iris/ready", timeout=10).ok


def test_services_with_the_same_model_share_its_image(
    deployer: DockerModelDeployer, engine: DockerClient, model: str
) -> None:
    first = deployer.deploy_model(model_name="first", model_uri=model, timeout=600)
    second = deployer.deploy_model(model_name="second", model_uri=model, timeout=600)
    image = first.status.details["image"]
    assert second.status.details["image"] == image
    second.stop()
    first.delete()
    assert image in tags(engine), "the one that is stopped needs it"
    second.start()
    assert second.predict([0]) == [[1]]
    second.delete()
    assert image not in tags(engine)


def test_a_rollback_serves_the_old_image(deployer: DockerModelDeployer, engine: DockerClient, model: str) -> None:
    service = deployer.deploy_model(model_name="iris", model_uri=model, timeout=600)
    first = service.status.details["image"]
    Path(model.partition(":")[0]).write_text(MODEL.format(answer="2"), encoding="utf-8")
    service = deployer.update_model_server(service, timeout=600)
    assert service.predict([0]) == [[2]]
    assert service.status.details["image"] != first
    service = deployer.rollback_model_server(service, timeout=600)
    assert service.predict([0]) == [[1]]
    assert set(service.status.details["images"]) <= tags(engine)
    service.delete()
    assert not set(service.status.details["images"]) & tags(engine)


def test_without_the_models_files_it_is_served_from_its_image(
    deployer: DockerModelDeployer, engine: DockerClient, model: str, home: Path
) -> None:
    service = deployer.deploy_model(model_name="iris", model_uri=model, timeout=600)
    service.stop()
    (home / "models").rename(home / "elsewhere")
    service.start()
    assert service.predict([0]) == [[1]]
    service.stop()
    engine.containers.get(f"stackkit-{service.id}").remove()
    engine.images.remove(service.status.details["image"])
    with pytest.raises(ModelError, match="neither its files are here nor its image on the engine"):
        service.start()


def test_after_an_update_that_failed_it_still_starts_without_the_models_files(
    deployer: DockerModelDeployer, model: str
) -> None:
    service = deployer.deploy_model(model_name="iris", model_uri=model, timeout=600)
    (Path(model.partition(":")[0]).parent / "requirements.txt").write_text("numpy==0.0.1\n", encoding="utf-8")
    with pytest.raises(ImageError):
        deployer.update_model_server(service, timeout=600)
    deployer.stop_model_server(service)
    deployer.database.settings.models_folder.rename(deployer.database.settings.home / "elsewhere")
    assert deployer.start_model_server(service).predict([0]) == [[1]]


def test_a_request_under_way_is_answered_while_another_container_takes_over(
    deployer: DockerModelDeployer, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(model.partition(":")[0])
    path.write_text("import time\ndef predict(data):\n    time.sleep(data[0])\n    return ['old']\n", encoding="utf-8")
    service = deployer.deploy_model(model_name="iris", model_uri=model, timeout=600)
    answers: list[Any] = []

    def ask() -> None:
        response = requests.post(str(service.prediction_url), json={"inputs": [2]}, timeout=30)
        answers.append(response.json())

    asking = threading.Thread(target=ask)
    take_over = updates.take_over

    def with_a_request_under_way(*arguments: Any) -> None:
        asking.start()
        time.sleep(1)  # what has been sent is not told before it is answered
        take_over(*arguments)

    monkeypatch.setattr(updates, "take_over", with_a_request_under_way)
    path.write_text(MODEL.format(answer="2"), encoding="utf-8")
    updated = deployer.update_model_server(service, env={"ANOTHER": "1"}, timeout=600)
    asking.join()
    assert answers == [{"predictions": ["old"]}]
    assert updated.predict([0]) == [[2]]


def test_a_base_image_that_is_nowhere_leaves_nothing(client: Client, engine: DockerClient, model: str) -> None:
    client.register_component(ComponentType.MODEL_DEPLOYER, "docker", "docker", {"base_image": "no.such/base:1"})
    deployer = client.model_deployer("docker")
    try:
        with pytest.raises(ImageError, match=r"base image no\.such/base:1 is not on the engine") as raised:
            deployer.deploy_model(model_name="iris", model_uri=model, timeout=60)
        assert "\n" not in raised.value.message
        (service,) = deployer.find_model_server()
        assert service.status.state is ServiceState.ERROR
        assert service.status.details["image"] not in tags(engine)
        service.delete()
    finally:
        remove_all(engine, client)


def test_a_requirement_that_cannot_be_resolved_is_told_and_leaves_nothing(
    deployer: DockerModelDeployer, engine: DockerClient, model: str
) -> None:
    (Path(model.partition(":")[0]).parent / "requirements.txt").write_text("numpy==0.0.1\n", encoding="utf-8")
    with pytest.raises(ImageError, match=r"numpy==0\.0\.1") as raised:
        deployer.deploy_model(model_name="iris", model_uri=model, timeout=600)
    assert "\n" not in raised.value.message
    (service,) = deployer.find_model_server()
    assert service.status.details["image"] not in tags(engine)
