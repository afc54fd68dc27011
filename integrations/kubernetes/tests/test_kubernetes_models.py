"""Models whose images are built, fetched at start, or mounted: from the file to the answer, on a real cluster."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kube
import numpy as np
import pytest
import requests
from docker import DockerClient
from docker.errors import ImageNotFound
from kubernetes_parts import ENDS_SOON, said

from stackkit import Client
from stackkit.environments import images, models
from stackkit.errors import DeploymentError, ModelError
from stackkit.model_deployers import BaseModelDeployer, ServiceState
from stackkit.stack import ComponentType

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker]

TIMEOUT = 300
MODEL = "def predict(data):\n    return [[row[0] * {factor}, row[1] / 3] for row in data]\n"
INPUTS = [[0.1, 1.0], [3.0, -2.5]]

REQUESTS: dict[str, tuple[str, str, Any]] = {
    "inputs": ("/invocations", "application/json", {"inputs": INPUTS}),
    "instances": ("/invocations", "application/json", {"instances": INPUTS}),
    "no JSON": ("/invocations", "application/json", "{"),
    "two keys": ("/invocations", "application/json", {"inputs": INPUTS, "instances": INPUTS}),
    "v2": (
        "/v2/models/iris/infer",
        "application/json",
        {"inputs": [{"name": "rows", "shape": [2, 2], "datatype": "FP64", "data": INPUTS}]},
    ),
}


@pytest.fixture
def deployer(client: Client, namespace: kube.Namespace) -> Iterator[BaseModelDeployer]:
    client.register_component(ComponentType.MODEL_DEPLOYER, "team", "kubernetes", namespace.attributes)
    made = client.model_deployer("team")
    yield made
    for service in list(made.find_model_server(refresh=False)):
        service.delete(timeout=TIMEOUT)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "model.py"
    file.write_text(MODEL.format(factor=2), encoding="utf-8")
    return file


@pytest.fixture
def empty_image(engine: DockerClient, model: Path) -> Iterator[str]:
    """An image whose server is told at start which model to serve."""
    tag = f"stackkit-test-{uuid.uuid4().hex[:12]}:empty"
    resolved = models.resolve(f"{model}:predict", models_folder=model.parent / "kept")
    images.build(resolved, tag=tag, client=engine)
    yield tag
    engine.images.remove(tag, force=True)


def test_a_model_is_built_served_retrained_and_removed(
    deployer: BaseModelDeployer, engine: DockerClient, model: Path
) -> None:
    fields: dict[str, Any] = {"model_name": "iris", "model_uri": f"{model}:predict", "patch": ENDS_SOON}
    service = deployer.deploy_model(**fields, timeout=TIMEOUT)
    assert service.predict(INPUTS) == [[0.2, 1 / 3], [6.0, -2.5 / 3]]
    model.write_text(MODEL.format(factor=3), encoding="utf-8")
    deployer.deploy_model(**fields, replace=True, timeout=TIMEOUT)
    service.refresh()
    kube.until(lambda: said(service, [[1.0, 3.0]]) == [[3.0, 1.0]])
    deployer.rollback_model_server(service, timeout=TIMEOUT)
    service.refresh()
    kube.until(lambda: said(service, [[1.0, 3.0]]) == [[2.0, 1.0]])
    built = service.status.details["images"]
    assert len(built) == 2
    service.delete(timeout=TIMEOUT)
    for tag in built:
        with pytest.raises(ImageNotFound):
            engine.images.get(tag)


def test_a_model_in_a_claim_is_mounted(
    deployer: BaseModelDeployer, namespace: kube.Namespace, empty_image: str, model: Path
) -> None:
    name = f"models-{uuid.uuid4().hex[:8]}"
    (model.parent / "claim" / "iris").mkdir(parents=True)
    (model.parent / "claim" / "iris" / "other.py").write_text(MODEL.format(factor=5), encoding="utf-8")
    for folder in (*model.parents[:4], model.parent / "claim", model.parent / "claim" / "iris"):
        if folder.owner() == Path.home().owner() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    volume = {
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Mi"},
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": name,
            "hostPath": {"path": str(model.parent / "claim")},
        },
    }
    claim = {
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": name,
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }
    namespace.raw("POST", "/api/v1/persistentvolumes", volume)
    try:
        namespace.raw("POST", "persistentvolumeclaims", claim)
        service = deployer.deploy_model(
            model_name="iris",
            image=empty_image,
            model_uri=f"pvc://{name}/iris/other.py:predict",
            patch=ENDS_SOON,
            timeout=TIMEOUT,
        )
        assert service.predict([[1.0, 3.0]]) == [[5.0, 1.0]]
        service.delete(timeout=TIMEOUT)
    finally:
        namespace.raw("DELETE", f"/api/v1/persistentvolumes/{name}")


@pytest.fixture
def fetching_image(engine: DockerClient, tmp_path: Path) -> Iterator[str]:
    """An image with what a pickled model needs, and with none."""
    file = tmp_path / "kept" / "model.pkl"
    file.parent.mkdir()
    file.write_bytes(pickle.dumps(SimpleNamespace(predict=np.negative)))
    file.with_name("requirements.txt").write_text("", encoding="utf-8")
    tag = f"stackkit-test-{uuid.uuid4().hex[:12]}:fetches"
    resolved = models.resolve(str(file), models_folder=tmp_path / "models")
    elsewhere = replace(resolved, uri="https://models.example.com/model.pkl")
    images.build(elsewhere, tag=tag, client=engine, fetch_at_start=True)
    yield tag
    engine.images.remove(tag, force=True)


@pytest.fixture
def stored(namespace: kube.Namespace) -> str:
    """The URL of a pickled model, in a pod of the cluster's that serves it and nothing else."""
    pickled = pickle.dumps(SimpleNamespace(predict=np.negative)).hex()
    program = (
        "import http.server, os, pathlib; os.chdir('/tmp');"
        f" pathlib.Path('model.pkl').write_bytes(bytes.fromhex('{pickled}'));"
        " http.server.test(http.server.SimpleHTTPRequestHandler, port=8080)"
    )
    kube.create(namespace, kube.deployment("python:3.11-slim", name="storage", command=["python", "-c", program]))
    address = kube.create(namespace, kube.service("storage"))["spec"]["clusterIP"]
    kube.ready_pods(namespace, 1, name="storage")
    return f"http://{address}/model.pkl"


def test_a_model_is_fetched_before_a_pod_serves(deployer: BaseModelDeployer, stored: str, fetching_image: str) -> None:
    fields: dict[str, Any] = {"model_name": "iris", "image": fetching_image, "patch": ENDS_SOON}
    service = deployer.deploy_model(**fields, model_uri=stored, timeout=TIMEOUT)
    assert service.predict([1, 2]) == [-1, -2]
    with pytest.raises(DeploymentError, match=r"init container model of the pod .*missing.pkl could not be fetched"):
        deployer.update_model_server(service, model_uri=stored.replace("model.pkl", "missing.pkl"), timeout=TIMEOUT)
    assert service.refresh().predict([3]) == [-3], "the old revision serves on"
    service.delete(timeout=TIMEOUT)


def test_pods_cannot_fetch_what_is_on_this_machine(deployer: BaseModelDeployer, model: Path) -> None:
    with pytest.raises(ModelError, match="on this machine"):
        deployer.deploy_model(model_name="iris", image="server:1", model_uri=str(model))
    assert not deployer.find_model_server()


def test_three_servers_of_one_model_give_the_same_bytes(
    model: Path, client: Client, deployer: BaseModelDeployer
) -> None:
    with served(model) as address:
        expected = answers(address)
    assert [status for status, _, _ in expected.values()] == [200, 200, 400, 400, 200]
    client.register_component(ComponentType.MODEL_DEPLOYER, "containers", "docker", {})
    fields: dict[str, Any] = {"model_name": "iris", "model_uri": f"{model}:predict"}
    container = client.model_deployer("containers").deploy_model(**fields, timeout=TIMEOUT)
    try:
        assert answers(str(container.prediction_url).removesuffix("/invocations")) == expected
    finally:
        container.delete()
    pods = deployer.deploy_model(**fields, service_type="NodePort", patch=ENDS_SOON, timeout=TIMEOUT)
    assert pods.status.state is ServiceState.ACTIVE
    assert answers(str(pods.prediction_url).removesuffix("/invocations")) == expected


@contextmanager
def served(model: Path) -> Iterator[str]:
    """The address at which ``stackkit serve`` serves the model."""
    command = [sys.executable, "-m", "stackkit", "serve", f"{model}:predict", "--port=0", "--model-name=iris"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            for line in server.stderr:
                if found := re.search(r"serving at (\S+)", line):
                    yield found[1]
                    return
            pytest.fail("it ended before it served")
        finally:
            server.terminate()
            server.stderr.read()


def answers(address: str) -> dict[str, tuple[int, str, bytes]]:
    given = {}
    for name, (path, content_type, body) in REQUESTS.items():
        data = body if isinstance(body, str) else json.dumps(body)
        response = requests.post(f"{address}{path}", data=data, headers={"Content-Type": content_type}, timeout=30)
        given[name] = (response.status_code, response.headers["Content-Type"], response.content)
    return given
