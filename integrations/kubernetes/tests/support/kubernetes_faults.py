"""What the tests share that break what a deployer relies on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import kube
from docker import DockerClient
from kubernetes_parts import ENDS_AT_ONCE

from stackkit import Client
from stackkit.model_deployers import BaseModelDeployer, Service
from stackkit.stack import ComponentType

INPUTS = {"inputs": [1]}


def register(client: Client, place: kube.Namespace) -> BaseModelDeployer:
    client.register_component(ComponentType.MODEL_DEPLOYER, "team", "kubernetes", place.attributes)
    return client.model_deployer("team")


@contextmanager
def registered(client: Client, place: kube.Namespace) -> Iterator[BaseModelDeployer]:
    """A deployer after whose services nothing is left in the namespace."""
    made = register(client, place)
    yield made
    for service in list(made.find_model_server(refresh=False)):
        made.delete_model_server(service, timeout=120)
    kube.until(lambda: kube.left(place) == [])


def deploy(deployer: BaseModelDeployer, image: str, **fields: Any) -> Service:
    fields = {"service_type": "NodePort", "patch": ENDS_AT_ONCE, "timeout": 120, **fields}
    return deployer.deploy_model(model_name="iris", image=image, **fields)


def look(deployer: BaseModelDeployer, service: Service) -> Service:
    return deployer.get_model_server(service)


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
