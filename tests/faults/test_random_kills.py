"""Several processes that operate on the same services at random, and are killed at random: the table stays true.

STACKKIT_TEST_KILLS sets how many are killed: a few dozen by default, 300 for the long version. The seed is in the
summary at the end, and STACKKIT_TEST_SEED repeats it.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import psutil
import pytest
from killing import kill_for_good, operate_at_random, servers_alive, truth

from stackkit import Client
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
    summary: Callable[[str], None],
) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    killed: Counter[str] = Counter()
    compared = 0
    # between two kills an operation has to come some way, however busy the machine is
    begun = time.monotonic()
    deployer.deploy_model(model_name="red", model_uri=models["one"])
    pause = max(0.3, time.monotonic() - begun)
    deadline = time.monotonic() + 120 + 4 * pause * KILLS

    def begin() -> ForkServerProcess:
        process = processes.Process(target=operate_at_random, args=(home, models, chance.randrange(10**9)))
        process.start()
        return process

    operators: list[ForkServerProcess] = []
    try:
        while killed.total() < KILLS:
            assert time.monotonic() < deadline, f"only {killed.total()} kills (seed {SEED})"
            operators += [begin() for _ in range(3 - len(operators))]
            time.sleep(pause * chance.uniform(0.1, 1.5))
            if chance.random() < 0.7:
                end([operators.pop(chance.randrange(len(operators)))])
                killed["operators"] += 1
            elif kind := kill_some_server(home, chance):
                killed[kind] += 1
            else:
                continue
            if killed.total() % 10 == 0:
                end(operators)
                truth(client, home)
                compared += 1
    finally:
        end(operators)

    truth(client, home)
    for service in list(client.servers.find(refresh=False)):
        service.delete(timeout=60)
    truth(client, home)
    assert not list((home / "services").rglob("*"))
    assert KILLS < 100 or len(killed) == 3, f"not all were killed: {killed}"
    what = ", ".join(f"{count} {kind}" for kind, count in sorted(killed.items()))
    summary(f"killed at random (seed {SEED}): {what}; the table was compared {compared + 2} times, and was true")


def end(operators: list[ForkServerProcess]) -> None:
    """Kill them all, and leave none in the list."""
    for each in operators:
        each.kill()
    while operators:
        operators.pop().join()


def kill_some_server(home: Path, chance: random.Random) -> str | None:
    """Kill the supervisor or a worker of one of the servers that live; returns which it was, None for neither."""
    with contextlib.suppress(psutil.NoSuchProcess):  # it has ended by itself
        if alive := servers_alive(home):
            supervisor = chance.choice(alive)
            victim = chance.choice([supervisor, chance.choice(supervisor.children() or [supervisor])])
            kill_for_good(victim)
            return "supervisors" if victim == supervisor else "workers"
    return None
