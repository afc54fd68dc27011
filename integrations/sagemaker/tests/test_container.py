"""The container as SageMaker runs it, on a real Docker Engine: what CreateModel asks for answers on port 8080."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker import DockerClient
from docker.errors import DockerException
from stackkit_sagemaker import definitions
from stackkit_sagemaker.archive import archive
from stackkit_sagemaker.config import SageMakerModelDeployerConfig, SageMakerServiceConfig

from stackkit.environments import images
from stackkit.environments.files import list_files
from stackkit.environments.models import ResolvedModel, resolve
from stackkit.model_deployers import ModelSource, Service

BASE_IMAGE = "python:3.11-slim"
DEPLOYER = SageMakerModelDeployerConfig(region="us-east-1", execution_role_arn="arn:aws:iam::123456789012:role/serving")

pytestmark = pytest.mark.docker


@pytest.fixture
def engine() -> Iterator[DockerClient]:
    try:
        client = docker.from_env()
        client.images.get(BASE_IMAGE)
    except DockerException as error:
        reason = f"no Docker Engine with {BASE_IMAGE} answers ({type(error).__name__})"
        if "docker" in os.environ.get("STACKKIT_TEST_REQUIRE", "").split(","):
            pytest.fail(reason)
        pytest.skip(reason)
    yield client
    client.close()


@pytest.fixture
def resolved(models: dict[str, str], tmp_path: Path) -> dict[str, ResolvedModel]:
    return {name: resolve(uri, models_folder=tmp_path / "kept") for name, uri in models.items()}


@pytest.fixture
def image(engine: DockerClient, resolved: dict[str, ResolvedModel]) -> Iterator[str]:
    """An image with the first model in it."""
    tag = f"stackkit-test-{uuid.uuid4().hex[:12]}:one"
    images.build(resolved["one"], tag=tag, base_image=BASE_IMAGE, client=engine)
    yield tag
    engine.images.remove(tag, force=True, noprune=True)


class Container:
    """What SageMaker does with the body of a CreateModel request."""

    def __init__(self, engine: DockerClient, body: dict[str, Any], unpacked: bytes | None) -> None:
        asked = body["PrimaryContainer"]
        self._container = engine.containers.create(
            asked["Image"], ["serve"], environment=asked["Environment"], ports={"8080/tcp": ("127.0.0.1", None)}
        )
        if unpacked is not None:
            self._container.put_archive("/", unpacked)
        self._container.start()
        self._container.reload()
        self.url = f"http://127.0.0.1:{self._container.ports['8080/tcp'][0]['HostPort']}"

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *given: object) -> None:
        self._container.remove(force=True)

    def ask(self, path: str, data: Any = None) -> Any:
        """The answer as JSON, once the container has passed its ping."""
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/ping") as answer:
                    assert answer.status == 200
                break
            except OSError:  # nobody listens yet, or the model is being loaded
                assert time.monotonic() < deadline, self._container.logs().decode()
                time.sleep(0.05)
        body = json.dumps(data).encode()
        request = urllib.request.Request(f"{self.url}{path}", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)


def body(image: str, model: ResolvedModel, uri: str | None) -> dict[str, Any]:
    source = ModelSource(model.uri, model.digest, model.reference, model.format)
    service = Service({"id": str(uuid.uuid4()), "source": source.as_dict()}, None)
    config = SageMakerServiceConfig(model_name="m", model_uri=model.uri, image=image)
    return definitions.model("name", service, DEPLOYER, config, image=image, archive=uri)


def unpacked(model: ResolvedModel) -> bytes:
    """The model's archive as a tar archive of where SageMaker unpacks it."""
    path, _ = definitions.split_reference(ModelSource(model.uri, reference=model.reference, format=model.format))
    moved = io.BytesIO()
    with (
        archive(list_files(path)) as opened,
        tarfile.open(fileobj=io.BytesIO(opened.read())) as given,
        tarfile.open(fileobj=moved, mode="w") as target,
    ):
        for member in given.getmembers():
            contents = given.extractfile(member)
            member.name = f"opt/ml/model/{member.name}"
            target.addfile(member, contents)
    return moved.getvalue()


def test_an_image_that_was_built_serves_the_model_in_it(
    engine: DockerClient, image: str, resolved: dict[str, ResolvedModel]
) -> None:
    with Container(engine, body(image, resolved["one"], None), None) as container:
        assert container.ask("/invocations", {"inputs": [[0]]}) == {"predictions": [1]}


def test_an_image_that_was_given_serves_the_archive(
    engine: DockerClient, image: str, resolved: dict[str, ResolvedModel]
) -> None:
    asked = body(image, resolved["two"], "s3://bucket/model.tar.gz")
    with Container(engine, asked, unpacked(resolved["two"])) as container:
        assert container.ask("/invocations", {"inputs": [[0]]}) == {"predictions": [2]}
