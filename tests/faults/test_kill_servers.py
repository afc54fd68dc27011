"""The server's own processes killed at each point of each operation: told or replaced, and never called active."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from killing import OPERATIONS, Points, delete, kill_for_good, servers_alive, truth

from stackkit import Client
from stackkit.errors import StackkitError
from stackkit.model_deployers import BaseModelDeployer

Victim = Callable[[psutil.Process], psutil.Process | None]


def supervisor(process: psutil.Process) -> psutil.Process | None:
    return process


def worker(process: psutil.Process) -> psutil.Process | None:
    """The newest worker: in an update, that of the new revision."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and process.is_running():
        if workers := process.children():
            return max(workers, key=lambda each: each.create_time())
        time.sleep(0.005)  # its supervisor has not come that far
    return None


class PointsOfServers(Points):
    """The points at which there is a server to kill."""

    def __init__(self, at: int, home: Path, victim: Victim) -> None:
        super().__init__(at, self.kill)
        self._home = home
        self._victim = victim

    def reach(self) -> None:
        if self.passed >= self._at or servers_alive(self._home):
            super().reach()

    def kill(self) -> None:
        for alive in servers_alive(self._home):  # one, or none when it has ended by itself
            with contextlib.suppress(psutil.NoSuchProcess):
                if (victim := self._victim(alive)) is not None:
                    kill_for_good(victim)


@pytest.mark.faults
@pytest.mark.parametrize("victim", [supervisor, worker])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_server_killed_at_each_point(
    name: str, victim: Victim, client: Client, deployer: BaseModelDeployer, models: dict[str, str], home: Path
) -> None:
    before, operation, finally_state = OPERATIONS[name]
    at = 0
    while True:
        for each in before:
            each(deployer, models)
        at += 1
        points = PointsOfServers(at, home, victim)
        with points.put_into(deployer), contextlib.suppress(StackkitError):
            operation(deployer, models)
        if points.passed < at:
            break
        truth(client, home)
        operation(deployer, models)
        truth(client, home)
        states = [service.status.state for service in deployer.find_model_server()]
        assert states == ([] if finally_state is None else [finally_state]), f"killed at point {at}"
        delete(deployer, models)
        assert not list((home / "services").glob("*")), f"killed at point {at}, it left files behind"
    assert at > 4, "the points are in place"
