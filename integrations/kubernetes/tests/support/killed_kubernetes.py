"""A process that kills itself: ``python killed_kubernetes.py HOME OPERATION POINT NAME IMAGE IMAGE``.

The points are before each write to the cluster and to the row. It ends with 0 when the point lies beyond the
operation's last one.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from kubernetes_parts import ENDS_AT_ONCE
from stackkit_kubernetes.cluster import Cluster

from stackkit import Client
from stackkit.model_deployers import BaseModelDeployer, ServiceState
from stackkit.model_deployers.leases import Lease
from stackkit.settings import Settings

TIMEOUT = 120
_ACTS = ("apply", "merge", "delete")


class Operations:
    """What is done to the one service, which is called ``name``."""

    def __init__(
        self, deployer: BaseModelDeployer, name: str, one: str, two: str, patch: dict[str, Any] = ENDS_AT_ONCE
    ) -> None:
        self._deployer, self._name, self._one, self._two, self._patch = deployer, name, one, two, patch

    def deploy(self) -> None:
        self._deployer.deploy_model(
            model_name=self._name,
            image=self._one,
            service_type="NodePort",
            secrets={"TOKEN": "hunter2"},
            patch=self._patch,
            timeout=TIMEOUT,
        )

    def start(self) -> None:
        self._deployer.start_model_server(self._name, timeout=TIMEOUT)

    def stop(self) -> None:
        self._deployer.stop_model_server(self._name, timeout=TIMEOUT)

    def update(self) -> None:
        self._deployer.update_model_server(self._name, image=self._two, timeout=TIMEOUT)

    def canary(self) -> None:
        self._deployer.update_model_server(self._name, image=self._two, canary=50, timeout=TIMEOUT)

    def promote(self) -> None:
        if self._deployer.get_model_server(self._name).canary is not None:
            self._deployer.promote_model_server(self._name, timeout=TIMEOUT)

    def abort(self) -> None:
        if self._deployer.get_model_server(self._name).canary is not None:
            self._deployer.abort_model_server(self._name, timeout=TIMEOUT)

    def delete(self) -> None:
        for service in self._deployer.find_model_server(refresh=False):
            self._deployer.delete_model_server(service, timeout=TIMEOUT)


# what is done before, what is so once it was asked for again, and who answers then
OPERATIONS: dict[str, tuple[list[str], ServiceState | None, set[str]]] = {
    "deploy": ([], ServiceState.ACTIVE, {"one"}),
    "start": (["deploy", "stop"], ServiceState.ACTIVE, {"one"}),
    "stop": (["deploy"], ServiceState.INACTIVE, set()),
    "update": (["deploy"], ServiceState.ACTIVE, {"two"}),
    "canary": (["deploy"], ServiceState.ACTIVE, {"one", "two"}),
    "promote": (["deploy", "canary"], ServiceState.ACTIVE, {"two"}),
    "abort": (["deploy", "canary"], ServiceState.ACTIVE, {"one"}),
    "delete": (["deploy"], None, set()),
}


def _before(reach: Callable[[], None], function: Callable[..., Any]) -> Callable[..., Any]:
    def before(*arguments: Any, **options: Any) -> Any:
        reach()
        return function(*arguments, **options)

    return before


def main(home: str, operation: str, point: str, name: str, one: str, two: str) -> None:
    from killing import Points, send_self

    deployer = Client(Settings(Path(home), f"sqlite:///{home}/stackkit.db")).model_deployer("team")
    points = Points(int(point), lambda: send_self(signal.SIGKILL))
    with ExitStack() as undo:
        for owner, names in ((Lease, ("write", "commit")), (Cluster, _ACTS)):
            for act in names:
                undo.enter_context(mock.patch.object(owner, act, _before(points.reach, getattr(owner, act))))
        getattr(Operations(deployer, name, one, two), operation)()


if __name__ == "__main__":
    main(*sys.argv[1:])
