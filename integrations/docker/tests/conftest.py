"""A home of each test's own, the engine, and small images to serve from: all of it ends with the tests."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from docker import DockerClient
from docker_parts import MODEL, build, remove_all
from integration_fixtures import client, engine, home
from stackkit_docker.deployer import DockerModelDeployer

from stackkit import Client
from stackkit.environments import images as model_images
from stackkit.environments import models
from stackkit.stack import ComponentType

__all__ = ["client", "engine", "home"]  # fixtures that all integrations share


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
