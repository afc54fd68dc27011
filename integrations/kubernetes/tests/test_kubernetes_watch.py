"""A watcher brings back what somebody has deleted or changed with kubectl, on a real cluster."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import kube
import pytest
from kubernetes_parts import ENDS_AT_ONCE

from stackkit import Client
from stackkit.model_deployers import ServiceState
from stackkit.model_deployers.watch import Watcher
from stackkit.stack import ComponentType

pytestmark = pytest.mark.kubernetes

TIMEOUT = 120
DEPLOYMENT = ("apps/v1", "Deployment")
INGRESS = ("networking.k8s.io/v1", "Ingress")


def test_what_was_deleted_or_changed_comes_back(
    client: Client, namespace: kube.Namespace, images: dict[str, str]
) -> None:
    admin = namespace.admin
    client.register_component(ComponentType.MODEL_DEPLOYER, "team", "kubernetes", namespace.attributes)
    deployer = client.model_deployer("team")
    service = deployer.deploy_model(
        model_name="iris",
        image=images["one"],
        ingress={"host": "iris.example.com"},
        patch=ENDS_AT_ONCE,
        timeout=TIMEOUT,
    )
    name = f"stackkit-{service.id}"

    def host() -> str:
        found = admin.get(*INGRESS, name)
        return "" if found is None else str(found["spec"]["rules"][0]["host"])

    try:
        pods = {each["metadata"]["uid"] for each in admin.find("v1", "Pod", {})}
        admin.delete(*INGRESS, name, foreground=False)
        assert service.refresh().status.message == "Its Ingress is gone."
        with watched(client):
            kube.until(lambda: host() == "iris.example.com")
            kube.until(lambda: service.refresh().status.state is ServiceState.ACTIVE)
        assert {each["metadata"]["uid"] for each in admin.find("v1", "Pod", {})} == pods, "they serve on"

        rules = [{"host": "other.example.com", "http": (admin.get(*INGRESS, name) or {})["spec"]["rules"][0]["http"]}]
        admin.merge(*INGRESS, name, {"spec": {"rules": rules}})
        assert f"Somebody has changed spec.rules.0.host of its Ingress {name}" in service.refresh().status.message
        admin.delete(*DEPLOYMENT, name)
        kube.until(lambda: admin.get(*DEPLOYMENT, name) is None)
        with watched(client):
            kube.until(lambda: host() == "iris.example.com")
            kube.until(lambda: service.refresh().status.state is ServiceState.ACTIVE)
    finally:
        service.delete(timeout=TIMEOUT)


@contextmanager
def watched(client: Client) -> Iterator[None]:
    """Somebody watches the client's servers for the length of the ``with``."""
    stop = threading.Event()
    watcher = Watcher(client.database, interval=0.2, report=lambda line: None)
    thread = threading.Thread(target=watcher.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
