"""A deployer that is local: the same container, on the Docker Engine of this machine."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from docker import DockerClient
from integration_fixtures import engine
from real_parts import require

from stackkit import Client
from stackkit.environments import images
from stackkit.environments.models import resolve
from stackkit.errors import DeploymentError, ImageError, NotSupportedError, PredictionError
from stackkit.model_deployers import BaseModelDeployer, Service, ServiceState
from stackkit.model_deployers.conformance import ModelDeployerConformance, Subject
from stackkit.stack import ComponentType

__all__ = ["engine"]  # the real one, in place of the others' stand-in

pytestmark = pytest.mark.docker

FACTS = os.environ.get("STACKKIT_TEST_SCORING_FACTS")


@pytest.fixture
def local(client: Client, engine: DockerClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[BaseModelDeployer]:
    """A deployer that is local, on a machine that has no credentials for AWS."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client.register_component(ComponentType.MODEL_DEPLOYER, "local", "sagemaker", {"local": True})
    deployer = client.model_deployer("local")
    yield deployer
    for service in list(deployer.find_model_server(refresh=False)):
        service.delete(timeout=60)
        label = {"label": f"stackkit.sagemaker.service={service.id}"}
        assert engine.containers.list(all=True, filters=label) == []


@pytest.fixture(scope="session")
def image(engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image of our own server, to be given models; its layers are those of every image that is built here."""
    folder = tmp_path_factory.mktemp("image")
    (folder / "model.py").write_text("def predict(data):\n    return [0 for row in data]\n", encoding="utf-8")
    model = resolve(f"{folder}/model.py:predict", models_folder=folder / "kept")
    tag = f"stackkit-test-{uuid.uuid4().hex[:12]}:sagemaker"
    images.build(model, tag=tag, client=engine)
    yield tag
    engine.images.remove(tag, force=True)


class TestConformance(ModelDeployerConformance):
    @pytest.fixture
    def subject(self, local: BaseModelDeployer, models: dict[str, str], image: str, tmp_path: Path) -> Subject:
        (tmp_path / "broken.py").write_text("raise RuntimeError('it cannot be loaded')\n", encoding="utf-8")
        return Subject(
            local,
            model={"model_uri": models["one"], "image": image},
            other_model={"model_uri": models["two"], "image": image},
            inputs=[[1.0]],
            broken_model={"model_uri": f"{tmp_path}/broken.py:predict", "image": image},
            timeout=60,
        )

    def split(self, subject: Subject, **fields: Any) -> Service:
        pytest.skip("a deployer that is local has no canaries, and says so")


def test_it_is_the_container_that_sagemaker_would_be_asked_for(
    local: BaseModelDeployer, engine: DockerClient, image: str, models: dict[str, str]
) -> None:
    service = local.deploy_model(
        model_name="iris", model_uri=models["one"], image=image, env={"LEVEL": "debug"}, serverless={"memory_mb": 1024}
    )
    found = engine.api.inspect_container(f"stackkit-{service.id}")
    assert found["Config"]["Cmd"] == ["serve"]
    assert found["Config"]["User"] == engine.images.get(image).attrs["Config"].get("User", "")
    environment = dict(each.split("=", 1) for each in found["Config"]["Env"])
    assert environment["LEVEL"] == "debug"
    assert environment["STACKKIT_SERVING_MODEL"] == "/opt/ml/model/one.py:predict"
    (binding,) = found["HostConfig"]["PortBindings"]["8080/tcp"]
    assert binding["HostIp"] == "127.0.0.1"
    assert found["HostConfig"]["Memory"] == 1024 << 20
    assert service.predict("a,b\n1,2\n") == [1, 1], "text goes as CSV"
    with pytest.raises(PredictionError, match="answered 400"):
        service.predict({"no such key": 1, "inputs": None, "instances": None})
    assert local.do_info(service)["CONTAINER"] == f"stackkit-{service.id}"


def test_without_an_image_one_is_built_and_goes(
    local: BaseModelDeployer, engine: DockerClient, image: str, models: dict[str, str]
) -> None:
    service = local.deploy_model(model_name="iris", model_uri=models["two"], timeout=300)
    built = service.refresh().status.details["image"]
    assert service.predict([[0]]) == [2]
    found = engine.api.inspect_container(f"stackkit-{service.id}")
    assert not [each for each in found["Config"]["Env"] if each == "STACKKIT_SERVING_MODEL=/opt/ml/model"]
    service.delete()
    assert not engine.images.list(name=built)


def test_one_that_is_found_without_a_row_is_adopted(
    local: BaseModelDeployer, image: str, models: dict[str, str]
) -> None:
    service = local.deploy_model(model_name="iris", model_uri=models["one"], image=image)
    url = service.prediction_url
    local.delete_model_server(service, forget=True)
    assert [each.service_id for each in local.find_orphans() if each.service_id == service.id]
    adopted = local.adopt_model_server(service.id)
    assert (adopted.is_running, adopted.prediction_url) == (True, url)


def test_a_port_that_somebody_took_meanwhile_is_changed(
    local: BaseModelDeployer, image: str, models: dict[str, str]
) -> None:
    service = local.deploy_model(model_name="iris", model_uri=models["one"], image=image)
    port = urlsplit(str(service.prediction_url)).port
    service.stop()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port or 0))
        taken.listen()
        service.start()
    assert service.predict([[1.0]]) == [1]
    assert urlsplit(str(service.prediction_url)).port != port


def test_an_image_that_nobody_has_is_told_with_a_way_to_get_it(
    local: BaseModelDeployer, models: dict[str, str]
) -> None:
    image = "127.0.0.1:1/nobody:1"
    with pytest.raises(ImageError, match="nobody:1 is not on the engine") as raised:
        local.deploy_model(model_name="iris", model_uri=models["one"], image=image)
    assert f"docker pull {image}" in (raised.value.hint or "")


def test_somebody_elses_container_is_left_alone(
    local: BaseModelDeployer, engine: DockerClient, image: str, models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = uuid.uuid4()
    theirs = engine.containers.create(image, name=f"stackkit-{name}")
    monkeypatch.setattr("stackkit.model_deployers.lifecycle.uuid.uuid4", lambda: name)
    try:
        with pytest.raises(DeploymentError, match="not this service's"):
            local.deploy_model(model_name="iris", model_uri=models["one"], image=image)
        assert engine.containers.get(f"stackkit-{name}").id == theirs.id
    finally:
        theirs.remove(force=True)


def test_what_aws_alone_can_do_is_refused(local: BaseModelDeployer, image: str, models: dict[str, str]) -> None:
    service = local.deploy_model(model_name="iris", model_uri=models["one"], image=image)
    with pytest.raises(NotSupportedError):
        local.update_model_server(service, model_uri=models["two"], canary=10)
    with pytest.raises(NotSupportedError, match="no batch transforms"):
        local.transforms.run(model_uri=models["one"], input_uri="s3://data/in", output_uri="s3://data/out")
    assert local.transforms.list() == []
    assert service.refresh().status.state is ServiceState.ACTIVE


# MLflow's protocol


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A folder with the models that the recorded requests are for, which ask for what serves them and no more."""
    if FACTS is None:
        require("scoring", "STACKKIT_TEST_SCORING_FACTS names no folder with recorded requests")
    folder = tmp_path / "recorded"
    folder.mkdir()
    command = [sys.executable, "-W", "ignore", str(Path(str(FACTS)) / "scoring_models.py"), str(folder)]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    subprocess.run(command, check=True, capture_output=True, cwd=folder, env=environment)
    asked = [
        f"{name}=={version(name)}" for name in ("scikit-learn", "cloudpickle", "numpy", "pandas", "pyarrow", "pyyaml")
    ]
    for name in ("sk_named", "sk_nosig", "sk_tensor"):
        (folder / name / "requirements.txt").write_text("\n".join(asked), encoding="utf-8")
    return folder


def failures(service: Service, model: str) -> list[str]:
    """The recorded requests that the service does not answer as MLflow's own server did."""
    cases = json.loads((Path(str(FACTS)) / "scoring-cases.json").read_text(encoding="utf-8"))
    connection = http.client.HTTPConnection(urlsplit(str(service.prediction_url)).netloc, timeout=60)
    found = []
    for case in (case for case in cases if case["model"] == model):
        body = case["body"]
        content = base64.b64decode(body["base64"]) if isinstance(body, dict) else (body or "").encode()
        connection.request(case["method"], case["path"], content, case["headers"])
        response = connection.getresponse()
        answered = response.read()
        if response.status not in case["expect_status"]:
            found.append(f"{case['name']}: {response.status} {answered!r}")
        elif "expect_response" in case and json.loads(answered) != case["expect_response"]:
            found.append(f"{case['name']}: {answered!r}")
    connection.close()
    return found


@pytest.mark.environments
def test_it_answers_as_mlflow_does(local: BaseModelDeployer, recorded: Path) -> None:
    built = local.deploy_model(model_name="sk_named", model_uri=str(recorded / "sk_named"), timeout=900)
    assert failures(built, "sk_named") == []
    image = built.refresh().status.details["image"]
    for name in ("sk_tensor", "sk_nosig"):  # the model beside the image, where SageMaker puts it
        given = local.deploy_model(model_name=name, model_uri=str(recorded / name), image=image, timeout=60)
        assert failures(given, name) == []
