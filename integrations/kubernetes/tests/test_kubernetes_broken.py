"""What is broken on purpose under one server alone: its pods, its writes, its namespace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kube
import pytest
from docker import DockerClient
from kubernetes_faults import INPUTS, deploy, kill_container, look, register, registered
from kubernetes_parts import said
from stackkit_kubernetes.cluster.connection import Connection

from stackkit import Client
from stackkit.errors import DeploymentError
from stackkit.model_deployers import BaseModelDeployer, ServiceState

pytestmark = [pytest.mark.kubernetes, pytest.mark.faults]


@pytest.fixture
def deployer(client: Client, namespace: kube.Namespace) -> Iterator[BaseModelDeployer]:
    with registered(client, namespace) as made:
        yield made


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

    def told() -> bool:
        """A probe may fail before the kubelet has noticed why."""
        kill_container(engine, namespace, service)
        status = look(deployer, service).status
        return status.state is not ServiceState.ACTIVE and "ended with exit code 137" in status.message

    assert kube.until(told)
    assert kube.until(lambda: look(deployer, service).status.state is ServiceState.ACTIVE, seconds=90)
    kube.until(lambda: said(service, INPUTS) == ["one"])  # the node opens its port for it again a moment later


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
    assert kube.until(lambda: said(service, INPUTS) == ["two"])
    deployer.delete_model_server(service, timeout=120)
