"""A private registry: images are pushed to it, fetched from it, and its password is a secret."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from docker import DockerClient
from docker_parts import MODEL, remove_all, tags
from real_parts import require
from stackkit_docker.deployer import DockerModelDeployer

from stackkit import Client
from stackkit.errors import ImageError
from stackkit.stack import ComponentType

pytestmark = pytest.mark.docker

# of "hunter2", as htpasswd -nbB writes it
HTPASSWD = "ann:$2y$05$OGm93coup7EaG.Ya3TR/R.0gUvVw7/upsoK3KkBcheNe5X/9rAfje"
CONFIGURATION = """\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}/data}}}}
http: {{addr: "{address}"}}
auth: {{htpasswd: {{realm: stackkit, path: {folder}/htpasswd}}}}
"""


@dataclass(frozen=True)
class PrivateRegistry:
    """``address`` is host and port."""

    address: str

    def tags(self, repository: str) -> list[str]:
        url = f"http://{self.address}/v2/{repository}/tags/list"
        return list(requests.get(url, auth=("ann", "hunter2"), timeout=10).json().get("tags") or [])


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[PrivateRegistry]:
    """A registry on this machine that asks for a password."""
    program = shutil.which("docker-registry") or shutil.which("registry")
    if program is None:
        require("docker", "there is no docker-registry: apt-get install docker-registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (tmp_path / "htpasswd").write_text(f"{HTPASSWD}\n", encoding="utf-8")
    configuration = tmp_path / "registry.yml"
    configuration.write_text(CONFIGURATION.format(folder=tmp_path, address=address), encoding="utf-8")
    with (tmp_path / "registry.log").open("wb") as log:
        process = subprocess.Popen([str(program), "serve", str(configuration)], stdout=log, stderr=log)
    try:
        await_answer(f"http://{address}/v2/")
        yield PrivateRegistry(address)
    finally:
        process.terminate()
        process.wait()


def await_answer(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            requests.get(url, timeout=5)
        except requests.ConnectionError:
            assert time.monotonic() < deadline, f"nothing answers at {url}"
            time.sleep(0.05)
        else:
            return


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
            "registry_username": "ann",
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
    deployer = deployer_for(client, registry, "hunter2")
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
