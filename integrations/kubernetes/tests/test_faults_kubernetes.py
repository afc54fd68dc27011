"""The cluster broken on purpose while servers are deployed and serve: no answer is made up, and nothing is orphaned."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import kube
import pytest
from docker import DockerClient
from kubernetes_faults import INPUTS, deploy, kill_container, look, registered
from kubernetes_parts import said
from real_parts import require

from stackkit import Client
from stackkit.errors import DeploymentError, PlatformUnavailableError
from stackkit.model_deployers import BaseModelDeployer, Service, ServiceState

pytestmark = [pytest.mark.kubernetes, pytest.mark.faults]


@pytest.fixture
def deployer(client: Client, namespace: kube.Namespace) -> Iterator[BaseModelDeployer]:
    with registered(client, namespace) as made:
        yield made


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


# Before those that take the API server away: for half a minute after it the node comes and goes, and a kubelet that is
# killed in that time is one that the controller manager does not see go.
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
    kube.until(lambda: said(service, INPUTS) == ["one"])  # the node opens its port for it again a moment later


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


def test_a_server_is_unknown_and_its_log_waits_while_the_api_server_is_away(
    deployer: BaseModelDeployer, namespace: kube.Namespace, images: dict[str, str], engine: DockerClient
) -> None:
    service = deploy(deployer, images["one"])
    lines = deployer.get_model_server_logs(service, follow=True)
    assert next(lines).endswith(" | serving one")
    with down("kube-apiserver", namespace):
        seen = look(deployer, service)
        assert (seen.status.state, "No cluster answers" in seen.status.message) == (ServiceState.UNKNOWN, True)
        assert seen.predict(INPUTS) == ["one"], "its pods need no API server"
    kube.until(lambda: look(deployer, service).status.state is ServiceState.ACTIVE)
    kill_container(engine, namespace, service)
    assert next(lines).endswith(" | serving one"), "that of its second run, and nothing told twice"
    lines.close()  # type: ignore[attr-defined]


def test_a_deploy_without_a_scheduler_says_what_it_waits_for(
    deployer: BaseModelDeployer, namespace: kube.Namespace, images: dict[str, str]
) -> None:
    with down("kube-scheduler", namespace), pytest.raises(DeploymentError, match="0 of 1 pods are ready"):
        deploy(deployer, images["one"], timeout=3)
    service = next(iter(deployer.find_model_server()))
    assert service.status.state is ServiceState.ERROR
