"""Images that the nodes fetch from a registry: pushed by stackkit, named wrongly, and behind a password."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kube
import pytest
from docker import DockerClient
from docker_parts import MODEL, tags
from kubernetes_parts import ENDS_AT_ONCE, ENDS_SOON, said
from registries import PASSWORD, USER, running

from stackkit import Client
from stackkit.errors import DeploymentError, ImageError
from stackkit.model_deployers import BaseModelDeployer, ServiceState
from stackkit.stack import ComponentType

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker]

TIMEOUT = 300


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file to which ``docker login`` writes, instead of the one of whoever runs the tests."""
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder / "config.json"


def logged_in(address: str) -> str:
    """What ``docker login`` writes, which is also what a Secret for fetching images holds."""
    return json.dumps({"auths": {address: {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}}})


def pull_secret(place: kube.Namespace, name: str, content: str) -> None:
    made = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": content},
    }
    kube.create(place, made)


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "model.py").write_text(MODEL.format(answer="1"), encoding="utf-8")
    return f"{tmp_path}/model.py:predict"


@contextmanager
def deployer(client: Client, place: kube.Namespace, **attributes: str) -> Iterator[BaseModelDeployer]:
    """A deployer with these attributes, whose services go with it."""
    client.register_component(ComponentType.MODEL_DEPLOYER, "team", "kubernetes", {**place.attributes, **attributes})
    made = client.model_deployer("team")
    try:
        yield made
    finally:
        for service in list(made.find_model_server(refresh=False)):
            service.delete(timeout=TIMEOUT)


def test_a_built_image_is_pushed_and_fetched_by_the_nodes(
    client: Client, namespace: kube.Namespace, engine: DockerClient, model: str, login: Path, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {"model_name": "iris", "patch": ENDS_SOON, "timeout": TIMEOUT}
    with running(tmp_path / "registry", private=True) as address:
        pull_secret(namespace, "registry", logged_in(address))
        attributes = {"image_registry": f"{address}/team", "image_pull_secret": "registry"}
        with deployer(client, namespace, **attributes) as team:
            with pytest.raises(ImageError, match=r"cannot be pushed.*(no basic auth|unauthorized|authentication)"):
                team.deploy_model(**fields, model_uri=model)
            login.write_text(logged_in(address), encoding="utf-8")
            service = team.deploy_model(**fields, model_uri=model, replace=True)
            assert service.predict([0]) == [[1]]
            (image,) = service.status.details["images"]
            assert image.startswith(f"{address}/team/stackkit-models:")
            service.delete(timeout=TIMEOUT)
            assert image not in tags(engine)

            again = team.deploy_model(**fields, image=image)
            assert again.predict([0]) == [[1]]
            assert image in tags(engine), "a node has fetched it"
            again.delete(timeout=TIMEOUT)
            kube.until(lambda: removed(engine, image))


def test_a_name_that_is_wrong_is_told_and_the_old_revision_serves_on(
    client: Client, namespace: kube.Namespace, engine: DockerClient, images: dict[str, str], tmp_path: Path
) -> None:
    with running(tmp_path / "registry", private=False) as address, deployer(client, namespace) as team:
        image = pushed(engine, images["one"], f"{address}/team/server")
        service = team.deploy_model(model_name="iris", image=image, patch=ENDS_AT_ONCE, timeout=TIMEOUT)
        assert image in tags(engine), "a node has fetched it"
        with pytest.raises(DeploymentError, match=r"team/nothing:1 cannot be pulled \(.*(not found|unknown)"):
            team.update_model_server(service, image=f"{address}/team/nothing:1", timeout=TIMEOUT)
        assert service.refresh().status.state is ServiceState.ACTIVE
        assert kube.until(lambda: said(service)) == ["one"]
        service.delete(timeout=TIMEOUT)
        kube.until(lambda: removed(engine, image))


def test_a_registry_that_asks_for_a_password_is_told_at_once(
    client: Client, namespace: kube.Namespace, engine: DockerClient, images: dict[str, str], tmp_path: Path
) -> None:
    pull_secret(namespace, "elsewhere", logged_in("registry.example.com"))
    attributes = {"image_pull_secret": "elsewhere"}
    with (
        running(tmp_path / "registry", private=True) as address,
        deployer(client, namespace, **attributes) as team,
    ):
        image = pushed(engine, images["one"], f"{address}/team/server")
        with pytest.raises(DeploymentError, match=r"cannot be pulled \(.*(no basic auth|unauthorized)") as raised:
            team.deploy_model(model_name="iris", image=image, patch=ENDS_AT_ONCE, timeout=TIMEOUT)
        assert PASSWORD not in str(raised.value)


def pushed(engine: DockerClient, image: str, repository: str) -> str:
    """The name of an image in a registry, and on no engine."""
    engine.images.get(image).tag(repository, "1")
    told = engine.api.push(repository, "1", auth_config={"username": USER, "password": PASSWORD})
    engine.images.remove(f"{repository}:1")
    assert '"error"' not in told
    return f"{repository}:1"


def removed(engine: DockerClient, image: str) -> bool:
    """Whether the image is gone from the engine, which it is not while a container of it ends."""
    if image in tags(engine):
        engine.images.remove(image, force=True)
    return image not in tags(engine)
