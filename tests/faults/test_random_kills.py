"""Several processes that operate on the same services at random, and are killed at random: the table stays true.

STACKKIT_TEST_KILLS sets how many are killed: a few dozen by default, 300 for the long version. The seed is printed,
and STACKKIT_TEST_SEED repeats it.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import psutil
import pytest
from killing import operate_at_random, truth

from stackkit import Client
from stackkit.local.folders import ServerFolder
from stackkit.model_deployers import BaseModelDeployer

KILLS = int(os.environ.get("STACKKIT_TEST_KILLS", "30"))
SEED = int(os.environ.get("STACKKIT_TEST_SEED", str(random.randrange(10**6))))


@pytest.mark.faults
def test_processes_killed_at_random(
    client: Client,
    deployer: BaseModelDeployer,
    models: dict[str, str],
    home: Path,
    processes: ForkServerContext,
) -> None:
    print(f"seed {SEED}, {KILLS} kills")
    chance = random.Random(SEED)
    kills = 0
    deadline = time.monotonic() + 60 + 3 * KILLS

    def begin() -> ForkServerProcess:
        process = processes.Process(target=operate_at_random, args=(home, models, chance.randrange(10**9)))
        process.start()
        return process

    operators = [begin() for _ in range(3)]
    while kills < KILLS:
        assert time.monotonic() < deadline, f"only {kills} kills"
        time.sleep(chance.uniform(0.05, 0.6))
        kills += 1
        if chance.random() < 0.7:
            victim = operators.pop(chance.randrange(len(operators)))
            victim.kill()
            victim.join()
            operators.append(begin())
        else:
            kill_some_server(home, chance)
        if kills % 10 == 0:
            end(operators)
            truth(client, home)
            operators = [begin() for _ in range(3)]
    end(operators)

    truth(client, home)
    for service in list(client.servers.find(refresh=False)):
        service.delete(timeout=60)
    truth(client, home)
    assert not list((home / "services").rglob("*"))


def end(operators: list[ForkServerProcess]) -> None:
    for each in operators:
        each.kill()
    for each in operators:
        each.join()


def kill_some_server(home: Path, chance: random.Random) -> None:
    """Kill the supervisor or a worker of one of the servers that live."""
    holders = [ServerFolder(folder).holder() for folder in sorted((home / "services").glob("*"))]
    alive = [pid for pid in holders if pid]
    if alive:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended by itself
            supervisor = psutil.Process(chance.choice(alive))
            chance.choice([supervisor, *supervisor.children()]).kill()
