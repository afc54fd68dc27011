"""An operation of a flavor of custom resources, killed at its points, one after the other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import kube
from killed_custom import OPERATIONS, TIMEOUT
from killing import numbers_of_points
from stackkit_kubernetes.cluster import SERVICE
from stackkit_kubernetes.custom_resource_deployer import CustomResourceDeployer

from stackkit import Client
from stackkit.model_deployers import Service, ServiceState

_HERE = Path(__file__).parent
_ANSWERS = {"deploy": {"one"}, "canary": {"one", "two"}}


def check(
    operation: str, client: Client, deployer: CustomResourceDeployer, place: kube.Namespace, images: dict[str, str]
) -> None:
    """Kill it at its points: the next look is true, asking for it again finishes it, and deleting leaves nothing."""
    named = (images["one"], images["two"])
    home = client.database.settings.home
    for point in numbers_of_points(operation):
        if operation != "deploy":
            OPERATIONS["deploy"](deployer, *named)
        exit_code = _run(home, operation, str(point), deployer.name, *named)
        if exit_code != 0:
            assert exit_code == -9, f"at point {point} it ended with {exit_code}"
            _is_true(client, deployer, place)
            OPERATIONS[operation](deployer, *named)
        (service,) = deployer.find_model_server()
        said = {service.predict([[1.0]])[0] for _ in range(20)}
        assert said == _ANSWERS[operation], f"killed at point {point}"
        deployer.delete_model_server(service, timeout=TIMEOUT)
        # what the resource owned goes a moment after it: the cluster's garbage collector sees to that
        kube.until(lambda: not _left(deployer, place), TIMEOUT)
        if exit_code == 0:
            break
    assert point > 4, "the points are in place"


def _left(deployer: CustomResourceDeployer, place: kube.Namespace) -> list[str]:
    """What there is in the namespace that bears stackkit's label."""
    kinds = [(deployer.API, deployer.KIND), ("v1", "Secret"), ("v1", "Pod")]
    return [found["metadata"]["name"] for kind in kinds for found in place.admin.find(*kind, {})]


def _is_true(client: Client, deployer: CustomResourceDeployer, place: kube.Namespace) -> None:
    """What the table says after one look is what is in the cluster, and nothing is there that no row names."""
    services = kube.until(lambda: _settled(client), TIMEOUT)[0]
    found = place.admin.find(deployer.API, deployer.KIND, {})
    assert {each["metadata"]["labels"][SERVICE] for each in found} <= set(services)
    for service in services.values():
        state = service.status.state
        if state is ServiceState.ACTIVE:
            assert service.predict([[1.0]])[0] in ("one", "two")
        else:
            assert state is ServiceState.ERROR, service.status


def _settled(client: Client) -> list[dict[str, Service]]:
    """What the table says of each service by its UUID, once nothing is on its way up or down; until then nothing."""
    services = {service.id: service for service in client.servers.find()}
    states = {service.status.state for service in services.values()}
    return [] if states & {ServiceState.PENDING_STARTUP, ServiceState.PENDING_SHUTDOWN} else [services]


def _run(*arguments: str | Path) -> int:
    """The exit code of the process that kills itself."""
    support = (_HERE, _HERE.parents[3] / "tests" / "support")
    return subprocess.run(
        [sys.executable, str(_HERE / "killed_custom.py"), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, support))},
        timeout=300,
        check=False,
    ).returncode
