"""The cluster broken on purpose while servers are deployed and serve: no answer is made up, and nothing is orphaned."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kube
import pytest
from docker import DockerClient
from real_parts import require
from stackkit_kubernetes.cluster.connection import Connection

from stackkit import Client
from stackkit.errors import DeploymentError, PlatformUnavailableError
from stackkit.model_deployers import BaseModelDeployer, Service, ServiceState
from stackkit.stack import ComponentType

pytestmark = [pytest.mark.kubernetes, pytest.mark.faults]

INPUTS = {"inputs": [1]}


def register(client: Client, place: kube.Namespace, name: str = "team") -> BaseModelDeployer:
    client.register_component(ComponentType.MODEL_DEPLOYER, name, "kubernetes", place.attributes)
    return client.model_deployer(name)


@pytest.fixture
def deployer(client: Client, namespace: kube.Namespace) -> Iterator[BaseModelDeployer]:
    """A deployer after whose services nothing is left in the namespace."""
    made = register(client, namespace)
    yield made
    for service in list(made.find_model_server(refresh=False)):
        made.delete_model_server(service, timeout=120)
    kube.until(lambda: kube.left(namespace) == [])


def deploy(deployer: BaseModelDeployer, image: str, **fields: Any) -> Service:
    return deployer.deploy_model(model_name="iris", image=image, service_type="NodePort", timeout=120, **fields)


def look(deployer: BaseModelDeployer, service: Service) -> Service:
    return deployer.get_model_server(service)


@contextmanager
def down(part: str, place: kube.Namespace) -> Iterator[None]:
    """A part of the cluster is killed, and up again at the end. For the cluster of STACKKIT_TEST_KUBE alone."""
    command = os.environ.get("STACKKIT_TEST_KUBE")
    if command is None:
        require("kubernetes", "set STACKKIT_TEST_KUBE to the program that kills and starts the cluster's parts")

    def is_running() -> bool:
        told = subprocess.run([command, "status"], check=True, capture_output=True, text=True).stdout
        return f"{part} up" in told.splitlines()

    def is_back() -> bool:
        if not is_running():  # one that finds its port taken by the one before it ends at once
            subprocess.run([command, "start", part], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return is_up(place)

    subprocess.run([command, "kill", part], check=True)
    kube.until(lambda: not is_running())
    try:
        yield
    finally:
        kube.until(is_back, seconds=120)


def is_up(place: kube.Namespace) -> bool:
    try:
        place.raw("GET", "pods")
    except PlatformUnavailableError:
        return False
    return True


def test_the_api_server_is_killed_in_mid_deploy_and_comes_back(
    deployer: BaseModelDeployer, namespace: kube.Namespace, images: dict[str, str]
) -> None:
    outcome: list[Service | BaseException] = []

    def run() -> None:
        try:
            outcome.append(deploy(deployer, images["one"]))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    kube.until(lambda: namespace.admin.find("apps/v1", "Deployment", {}))
    with down("kube-apiserver", namespace):
        assert not outcome, "it waits"
        assert next(iter(deployer.find_model_server())).status.state in (
            ServiceState.UNKNOWN,
            ServiceState.PENDING_STARTUP,
        )
    thread.join(120)
    assert isinstance(outcome[0], Service), outcome
    assert outcome[0].predict(INPUTS) == ["one"]


def test_a_server_is_unknown_while_the_api_server_is_away(
    deployer: BaseModelDeployer, namespace: kube.Namespace, images: dict[str, str]
) -> None:
    service = deploy(deployer, images["one"])
    with down("kube-apiserver", namespace):
        seen = look(deployer, service)
        assert (seen.status.state, "No cluster answers" in seen.status.message) == (ServiceState.UNKNOWN, True)
        assert seen.predict(INPUTS) == ["one"], "its pods need no API server"
    assert kube.until(lambda: look(deployer, service).status.state is ServiceState.ACTIVE)


def test_a_log_that_is_followed_goes_on_after_the_api_server_was_away(
    deployer: BaseModelDeployer, namespace: kube.Namespace, images: dict[str, str], engine: DockerClient
) -> None:
    service = deploy(deployer, images["one"])
    lines = deployer.get_model_server_logs(service, follow=True)
    assert next(lines).endswith(" | serving one")
    with down("kube-apiserver", namespace):
        assert look(deployer, service).status.state is ServiceState.UNKNOWN
    kill_container(engine, namespace, service)
    assert next(lines).endswith(" | serving one"), "that of its second run, and nothing told twice"
    lines.close()  # type: ignore[attr-defined]


def test_the_kubelet_stops_and_comes_back(
    deployer: BaseModelDeployer, namespace: kube.Namespace, images: dict[str, str]
) -> None:
    service = deploy(deployer, images["one"])
    with down("kubelet", namespace):

        def told() -> str:
            seen = look(deployer, service)
            return "" if seen.status.state is ServiceState.ACTIVE else seen.status.message

        assert "nothing has been heard of" in kube.until(told, seconds=90)
    assert kube.until(lambda: look(deployer, service).status.state is ServiceState.ACTIVE, seconds=90)
    assert service.predict(INPUTS) == ["one"]


def test_a_deploy_without_a_scheduler_says_what_it_waits_for(
    deployer: BaseModelDeployer, namespace: kube.Namespace, images: dict[str, str]
) -> None:
    with down("kube-scheduler", namespace), pytest.raises(DeploymentError, match="0 of 1 pods are ready"):
        deployer.deploy_model(model_name="iris", image=images["one"], timeout=3)
    service = next(iter(deployer.find_model_server()))
    assert service.status.state is ServiceState.ERROR


def test_the_namespace_is_deleted_under_a_server(
    client: Client, images: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kube.namespace(tmp_path) as place:
        monkeypatch.setenv("KUBECONFIG", str(place.kubeconfig))
        deployer = register(client, place)
        service = deploy(deployer, images["one"])
        place.raw("DELETE", f"/api/v1/namespaces/{place.name}")
        # the rights go with the namespace, so that nothing can be known of what was in it
        gone = (ServiceState.ERROR, ServiceState.UNKNOWN)
        assert kube.until(lambda: look(deployer, service).status.state in gone)
        with pytest.raises(DeploymentError, match=r"forbidden|not found|terminated"):
            deploy(deployer, images["two"], replace=True)
        deployer.delete_model_server(service, forget=True)
        assert list(deployer.find_model_server()) == []


def test_a_pod_becomes_ready_and_then_dies(
    deployer: BaseModelDeployer, namespace: kube.Namespace, images: dict[str, str], engine: DockerClient
) -> None:
    service = deploy(deployer, images["one"])
    restarts = 0

    def told() -> str:
        nonlocal restarts
        if kill_container(engine, namespace, service):
            restarts += 1
        seen = look(deployer, service)
        return "" if seen.status.state is ServiceState.ACTIVE else seen.status.message

    message = kube.until(told)
    assert "ended with exit code 137" in message, message
    assert kube.until(lambda: look(deployer, service).status.state is ServiceState.ACTIVE, seconds=90)
    assert service.predict(INPUTS) == ["one"]


def test_every_first_write_is_refused_by_a_conflict(
    deployer: BaseModelDeployer, images: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resource version that no object has takes the place of the right one when each is first changed."""
    json = Connection.json
    refused: set[str] = set()

    def conflict(self: Connection, method: str, path: str, **options: Any) -> Any:
        body = options.get("body") or {}
        version = body.get("metadata", {}).get("resourceVersion", "1")
        if method == "PATCH" and version != "1" and path not in refused:
            refused.add(path)
            options["body"] = {**body, "metadata": {**body["metadata"], "resourceVersion": "2"}}
        return json(self, method, path, **options)

    monkeypatch.setattr(Connection, "json", conflict)
    service = deploy(deployer, images["one"])
    service = deploy(deployer, images["two"], replace=True)
    assert refused
    # a pod that is ending answers until every node knows
    assert kube.until(lambda: service.predict(INPUTS) == ["two"])
    deployer.delete_model_server(service, timeout=120)


def kill_container(engine: DockerClient, place: kube.Namespace, service: Service) -> bool:
    """Kill what runs in the service's pods, behind the cluster's back; whether there was any."""
    pods = place.admin.find("v1", "Pod", {"stackkit/service": service.id})
    labels = [f"io.kubernetes.pod.uid={pod['metadata']['uid']}" for pod in pods]
    found = [
        each
        for label in labels
        for each in engine.containers.list(filters={"label": [label, "io.kubernetes.docker.type=container"]})
    ]
    for each in found:
        each.kill()
    return bool(found)
