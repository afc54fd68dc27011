"""A home of each test's own, the engine, and small images to serve from: all of it ends with the tests."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker import DockerClient
from docker.errors import DockerException
from docker_parts import BASE_IMAGE, MODEL, build, remove_all, require
from stackkit_docker.deployer import DockerModelDeployer

from stackkit import Client
from stackkit.environments import images as model_images
from stackkit.environments import models
from stackkit.settings import Settings
from stackkit.stack import ComponentType
from stackkit.store import Database


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("STACKKIT_") and "_TEST_" not in name]:
        monkeypatch.delenv(name)
    folder = tmp_path / "home"
    monkeypatch.setenv("STACKKIT_HOME", str(folder))
    return folder


@pytest.fixture
def client(home: Path) -> Iterator[Client]:
    settings = Settings.load()
    database = Database(settings)
    database.upgrade()
    database.close()
    opened = Client(settings)
    yield opened
    opened.database.close()


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerClient]:
    """The engine of this machine."""
    try:
        client = docker.from_env()
        client.images.get(BASE_IMAGE)
    except DockerException as error:
        require("docker", f"no Docker Engine with {BASE_IMAGE} answers ({type(error).__name__})")
    yield client
    client.close()


@pytest.fixture(scope="session")
def images(engine: DockerClient) -> Iterator[dict[str, str]]:
    """The names of three images: two that answer with their own name, and one that ends at once."""
    repository = f"stackkit-test-{uuid.uuid4().hex[:12]}"
    names = {name: f"{repository}:{name}" for name in ("one", "two", "broken")}
    for name, tag in names.items():
        build(engine, tag, f"ENV ANSWER={name}")
    yield names
    for tag in names.values():
        engine.images.remove(tag, force=True)


@pytest.fixture(scope="session")
def layers(engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Has the engine keep what the images of models have in common, so that it is made once."""
    folder = tmp_path_factory.mktemp("layers")
    (folder / "model.py").write_text(MODEL.format(answer="0"), encoding="utf-8")
    model = models.resolve(f"{folder}/model.py:predict", models_folder=folder / "kept")
    tag = f"stackkit-test-{uuid.uuid4().hex[:12]}:layers"
    model_images.build(model, tag=tag, client=engine)
    yield
    engine.images.remove(tag, force=True)


@pytest.fixture
def deployer(client: Client, engine: DockerClient) -> Iterator[DockerModelDeployer]:
    client.register_component(ComponentType.MODEL_DEPLOYER, "docker", "docker", {})
    made = client.model_deployer("docker")
    assert isinstance(made, DockerModelDeployer)
    yield made
    remove_all(engine, client)
