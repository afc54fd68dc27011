"""A private registry: images are pushed to it, fetched from it, and its password is a secret."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from docker import DockerClient
from docker_parts import MODEL, remove_all, tags
from registries import PASSWORD, USER, running
from stackkit_docker.deployer import DockerModelDeployer

from stackkit import Client
from stackkit.errors import ImageError
from stackkit.stack import ComponentType

pytestmark = pytest.mark.docker


@dataclass(frozen=True)
class PrivateRegistry:
    """``address`` is host and port."""

    address: str

    def tags(self, repository: str) -> list[str]:
        url = f"http://{self.address}/v2/{repository}/tags/list"
        return list(requests.get(url, auth=(USER, PASSWORD), timeout=10).json().get("tags") or [])


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[PrivateRegistry]:
    """A registry on this machine that asks for a password."""
    with running(tmp_path / "registry", private=True) as address:
        yield PrivateRegistry(address)


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "model.py").write_text(MODEL.format(answer="1"), encoding="utf-8")
    return f"{tmp_path}/model.py:predict"


def deployer_for(client: Client, registry: PrivateRegistry, password: str) -> DockerModelDeployer:
    client.secrets.create("registry", {"password": password})
    client.register_component(
        ComponentType.MODEL_DEPLOYER,
        "docker",
        "docker",
        {
            "registry": f"{registry.address}/team",
            "registry_username": USER,
            "registry_password": "{{registry.password}}",
        },
    )
    deployer = client.model_deployer("docker")
    assert isinstance(deployer, DockerModelDeployer)
    return deployer


@pytest.mark.usefixtures("layers")
def test_a_built_image_is_pushed_and_found_there_by_the_next_engine(
    client: Client, engine: DockerClient, registry: PrivateRegistry, model: str
) -> None:
    deployer = deployer_for(client, registry, PASSWORD)
    try:
        service = deployer.deploy_model(model_name="iris", model_uri=model)
        image = service.status.details["image"]
        assert image.startswith(f"{registry.address}/team/stackkit-models:")
        assert registry.tags("team/stackkit-models") == [image.rpartition(":")[2]]
        service.delete()
        assert image not in tags(engine)
        said: list[str] = []
        again = deployer.deploy_model(model_name="iris", model_uri=model, progress=said.append)
        assert again.predict([0]) == [[1]]
        assert f"fetching {image}" in said
        assert not [text for text in said if "step" in text], "it was fetched, not built"
        again.delete()
        named = deployer.deploy_model(model_name="named", image=image)
        assert named.predict([0]) == [[1]]
        named.delete()
        engine.images.remove(image)
    finally:
        remove_all(engine, client)


@pytest.mark.usefixtures("layers")
def test_a_wrong_password_is_told_and_leaves_nothing(
    client: Client, engine: DockerClient, registry: PrivateRegistry, model: str
) -> None:
    deployer = deployer_for(client, registry, "guessed")
    try:
        with pytest.raises(ImageError, match=r"cannot be (pushed|fetched).*(unauthorized|authentication)") as raised:
            deployer.deploy_model(model_name="iris", model_uri=model)
        assert "guessed" not in str(raised.value)
        (service,) = deployer.find_model_server()
        image = service.status.details["image"]
        service.delete()
        assert image not in tags(engine)
        with pytest.raises(ImageError, match=r"cannot be fetched"):
            deployer.deploy_model(model_name="named", image=f"{registry.address}/team/stackkit-models:1")
        assert not deployer.find_model_server()
    finally:
        remove_all(engine, client)
