"""An operation killed at its points, one after the other: the next look is true, and it can be asked for again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import kube
import pytest
from killed_kubernetes import OPERATIONS, TIMEOUT, Operations
from killing import numbers_of_points, settled
from kubernetes_parts import ENDS_AT_ONCE, ENDS_SOON, said
from stackkit_kubernetes.cluster import SERVICE

from stackkit import Client
from stackkit.model_deployers import BaseModelDeployer, Service, ServiceState
from stackkit.stack import ComponentType

pytestmark = [pytest.mark.kubernetes, pytest.mark.faults]

_HERE = Path(__file__).parent
_KINDS = (("apps/v1", "Deployment"), ("v1", "Pod"), ("v1", "Service"), ("v1", "Secret"))


@pytest.fixture
def deployer(client: Client, namespace: kube.Namespace) -> Iterator[BaseModelDeployer]:
    client.register_component(ComponentType.MODEL_DEPLOYER, "team", "kubernetes", namespace.attributes)
    made = client.model_deployer("team")
    yield made
    for service in list(made.find_model_server(refresh=False)):
        service.delete(timeout=TIMEOUT)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_at_its_points(
    operation: str,
    client: Client,
    deployer: BaseModelDeployer,
    namespace: kube.Namespace,
    images: dict[str, str],
    home: Path,
) -> None:
    before, finally_state, answers = OPERATIONS[operation]
    named = ("iris", images["one"], images["two"])
    # those by which pods leave for good have to wait until they have
    operations = Operations(deployer, *named, ENDS_SOON if operation in ("stop", "delete") else ENDS_AT_ONCE)
    for point in numbers_of_points(operation):
        for each in before:
            getattr(operations, each)()
        exit_code = run(home, operation, str(point), *named)
        if exit_code == 0:
            break
        assert exit_code == -9, f"at point {point} it ended with {exit_code}"
        truth(client, namespace)
        getattr(operations, operation)()
        truth(client, namespace)
        services = list(deployer.find_model_server())
        assert [service.status.state for service in services] == ([] if finally_state is None else [finally_state])
        for service in services if answers else ():
            kube.until(partial(answered, service, answers))
        operations.delete()
        assert kube.left(namespace) == [], f"killed at point {point}"
    assert point > 4, "the points are in place"


def answered(service: Service, answers: set[str]) -> bool:
    """Whether these, and all of these, answer."""
    return {answer[0] if (answer := said(service)) else None for _ in range(10)} == answers


def run(*arguments: str | Path) -> int:
    """The exit code of the process that kills itself."""
    support = (_HERE / "support", _HERE.parents[2] / "tests" / "support")
    return subprocess.run(
        [sys.executable, str(_HERE / "support" / "killed_kubernetes.py"), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, support))},
        timeout=300,
        check=False,
    ).returncode


def truth(client: Client, namespace: kube.Namespace) -> None:
    """Compare what the table says after one look with what is in the cluster.

    Raises AssertionError for objects that no row names, and for a row that says other than what is.
    """
    services = settled(client, TIMEOUT)
    found = listed(namespace)
    owners = {each["metadata"]["labels"][SERVICE] for each in found}
    assert owners <= set(services), f"objects that no row names: {owners - set(services)}"
    pods = {each["metadata"]["labels"][SERVICE] for each in found if each["kind"] == "Pod"}
    for service in services.values():
        state = service.status.state
        if state is ServiceState.ACTIVE:
            assert kube.until(partial(said, service)) in (["one"], ["two"])
        elif state is ServiceState.INACTIVE:
            assert service.id not in pods, f"{service} says inactive, and it lives: {service.status}"
        else:
            assert state is ServiceState.ERROR, f"{service} cannot be asked: {service.status.message}"


def listed(namespace: kube.Namespace) -> list[dict[str, object]]:
    """Everything in the namespace that is ours."""
    return [each for kind in _KINDS for each in namespace.admin.find(*kind, {})]
