"""An operation killed at each of its points in turn: the next look is true, and it can be asked for again."""

from __future__ import annotations

from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from killing import OPERATIONS, delete, run, running, truth

from stackkit import Client
from stackkit.model_deployers import BaseModelDeployer


@pytest.mark.faults
@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_at_each_point(
    name: str,
    client: Client,
    deployer: BaseModelDeployer,
    models: dict[str, str],
    home: Path,
    processes: ForkServerContext,
) -> None:
    before, operation, finally_state = OPERATIONS[name]
    kill_at = 0
    while True:
        for each in before:
            each(deployer, models)
        kill_at += 1
        killed = processes.Process(target=run, args=(home, name, models, kill_at))
        with running(killed):
            killed.join(120)
        if killed.exitcode == 0:
            break
        assert killed.exitcode == -9, f"at point {kill_at} it ended with {killed.exitcode}"
        truth(client, home)
        operation(deployer, models)
        truth(client, home)
        services = list(deployer.find_model_server())
        assert [service.status.state for service in services] == ([] if finally_state is None else [finally_state])
        delete(deployer, models)
        assert not list((home / "services").glob("*")), f"killed at point {kill_at}, it left files behind"
        assert not list((home / "models").glob("*")), f"killed at point {kill_at}, it left a model behind"
    assert kill_at > 10, "the points are in place"
