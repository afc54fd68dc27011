"""A process that kills itself: ``python killed_custom.py HOME OPERATION POINT COMPONENT IMAGE IMAGE``.

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

from stackkit_kubernetes.cluster import Cluster

from stackkit import Client
from stackkit.model_deployers import BaseModelDeployer
from stackkit.settings import Settings

TIMEOUT = 150
_ACTS = ("apply", "merge", "delete")


def deploy(deployer: BaseModelDeployer, one: str, two: str) -> None:
    deployer.deploy_model(model_name="iris", image=one, secrets={"TOKEN": "hidden"}, timeout=TIMEOUT)


def canary(deployer: BaseModelDeployer, one: str, two: str) -> None:
    deployer.update_model_server("iris", image=two, canary=50, timeout=TIMEOUT)


OPERATIONS: dict[str, Callable[[BaseModelDeployer, str, str], None]] = {"deploy": deploy, "canary": canary}


def _around(reach: Callable[[], None], function: Callable[..., Any]) -> Callable[..., Any]:
    def around(*arguments: Any, **options: Any) -> Any:
        reach()
        result = function(*arguments, **options)
        reach()
        return result

    return around


def main(home: str, operation: str, point: str, component: str, one: str, two: str) -> None:
    from killing import Points, send_self

    deployer = Client(Settings(Path(home), f"sqlite:///{home}/stackkit.db")).model_deployer(component)
    points = Points(int(point), lambda: send_self(signal.SIGKILL))
    with ExitStack() as undo:
        undo.enter_context(points.put_into(deployer))
        for act in _ACTS:
            undo.enter_context(mock.patch.object(Cluster, act, _around(points.reach, getattr(Cluster, act))))
        OPERATIONS[operation](deployer, one, two)


if __name__ == "__main__":
    main(*sys.argv[1:])
