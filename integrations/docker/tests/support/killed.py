"""A process that kills itself at a point of one operation: ``python killed.py HOME OPERATION POINT NAME ONE TWO``.

ONE and TWO are images, or models as ``/path/to/file.py:attribute``.

It ends with 0 when the point lies beyond the operation's last one.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from docker import APIClient

from stackkit import Client
from stackkit.model_deployers import BaseModelDeployer, ServiceState
from stackkit.settings import Settings

_ACTS = (
    "create_container",
    "start",
    "kill",
    "exec_start",
    "wait",
    "remove_container",
    "create_network",
    "connect_container_to_network",
    "disconnect_container_from_network",
    "rename",
    "remove_network",
    "remove_volume",
)


class Operations:
    """What is done to the one service, which is called ``name``."""

    def __init__(self, deployer: BaseModelDeployer, name: str, one: str, two: str) -> None:
        self._deployer, self._name = deployer, name
        self._one, self._two = ({"model_uri" if each.startswith("/") else "image": each} for each in (one, two))

    def deploy(self) -> None:
        self._deployer.deploy_model(model_name=self._name, timeout=60, **self._one)

    def start(self) -> None:
        self._deployer.start_model_server(self._name, timeout=60)

    def stop(self) -> None:
        self._deployer.stop_model_server(self._name, timeout=60)

    def update(self) -> None:
        self._deployer.deploy_model(model_name=self._name, timeout=60, replace=True, **self._two)

    def delete(self) -> None:
        for service in self._deployer.find_model_server(refresh=False):
            self._deployer.delete_model_server(service, timeout=60)


# what is done before, and what is so once it was asked for again
OPERATIONS: dict[str, tuple[list[str], ServiceState | None]] = {
    "deploy": ([], ServiceState.ACTIVE),
    "start": (["deploy", "stop"], ServiceState.ACTIVE),
    "stop": (["deploy"], ServiceState.INACTIVE),
    "update": (["deploy"], ServiceState.ACTIVE),
    "delete": (["deploy"], None),
}


def _around(reach: Callable[[], None], function: Callable[..., Any]) -> Callable[..., Any]:
    def around(*arguments: Any, **options: Any) -> Any:
        reach()
        result = function(*arguments, **options)
        reach()
        return result

    return around


def main(home: str, operation: str, point: str, name: str, one: str, two: str) -> None:
    from killing import Points, send_self

    deployer = Client(Settings(Path(home), f"sqlite:///{home}/stackkit.db")).model_deployer("docker")
    points = Points(int(point), lambda: send_self(signal.SIGKILL))
    with ExitStack() as undo:
        undo.enter_context(points.put_into(deployer))
        for act in _ACTS:
            undo.enter_context(mock.patch.object(APIClient, act, _around(points.reach, getattr(APIClient, act))))
        getattr(Operations(deployer, name, one, two), operation)()


if __name__ == "__main__":
    main(*sys.argv[1:])
