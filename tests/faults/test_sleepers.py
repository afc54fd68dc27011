"""A process that is suspended until somebody else has taken over: its late writes are refused, on every database."""

from __future__ import annotations

import contextlib
import os
import signal
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import psutil
import pytest
from killing import OPERATIONS, delete, fall_asleep, running, truth
from sqlalchemy import update

from stackkit import Client
from stackkit.model_deployers import BaseModelDeployer
from stackkit.settings import Settings
from stackkit.store.clock import now
from stackkit.store.tables import services


@pytest.mark.faults
@pytest.mark.all_databases
@pytest.mark.parametrize("name", ["deploy", "update", "stop"])
def test_a_sleeper_is_fenced_wherever_it_fell_asleep(
    name: str,
    client: Client,
    settings: Settings,
    deployer: BaseModelDeployer,
    models: dict[str, str],
    home: Path,
    processes: ForkServerContext,
) -> None:
    before, operation, finally_state = OPERATIONS[name]
    exits = set()
    at = 0
    while True:
        for each in before:
            each(deployer, models)
        at += 1
        sleeper = processes.Process(target=fall_asleep, args=(settings, name, models, at))
        with running(sleeper):
            if not falls_asleep(sleeper):
                assert sleeper.exitcode == 0
                delete(deployer, models)
                break
            with client.database.write() as connection:
                connection.execute(update(services).values(lease_expires=now(-1)))  # in place of half a minute's wait
            operation(deployer, models)
            os.kill(sleeper.pid or 0, signal.SIGCONT)
            sleeper.join(60)
        exits.add(sleeper.exitcode)
        assert sleeper.exitcode in (0, 3), f"at point {at} it ended with {sleeper.exitcode}"
        truth(client, home)
        (service,) = deployer.find_model_server()
        assert service.status.state is finally_state, f"after the sleeper of point {at}: {service.status}"
        delete(deployer, models)
        assert not list((home / "services").glob("*"))
    assert 3 in exits, "some of them were fenced"
    assert at > 10, "the points are in place"


def falls_asleep(process: ForkServerProcess) -> bool:
    """Wait until the process has stopped itself (True) or ended (False)."""
    while process.exitcode is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(process.pid).status() == psutil.STATUS_STOPPED:
                return True
        process.join(0.01)  # a process that stops tells its parent alone, and that is the server of the processes
    return False
