"""Operations killed at random points: nothing is in the account that no row and no batch transform names, and each
can be asked for again.

STACKKIT_TEST_KILLS sets how many are killed, a few by default, and STACKKIT_TEST_SEED repeats a run by the seed that
it printed.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stackkit import Client
from stackkit.model_deployers import BaseModelDeployer, ServiceState, TransformState

KILLS = int(os.environ.get("STACKKIT_TEST_KILLS", "30"))
SEED = int(os.environ.get("STACKKIT_TEST_SEED", str(random.randrange(10**6))))
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
JOB = re.compile(r"stackkit-transform-[0-9a-f]{16}-\d+")
MOST_POINTS = 90  # a deploy that replaces has about as many
VERBS = [*["deploy"] * 4, *["canary"] * 2, "promote", "abort", "rollback", "start", "stop", "delete", "list"]
SCALING = {"minimum": 1, "maximum": 2, "target": 10}

Operate = Callable[..., str]


@pytest.fixture
def operate(aws: Any) -> Iterator[Operate]:
    """Has a process of its own operate, and tells whether it was killed."""
    command = [sys.executable, str(Path(__file__).with_name("killed.py"))]
    environment = {**os.environ, "STACKKIT_TEST_MOTO_URL": aws.url}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdin is not None and process.stdout is not None

    def operate(**asked: Any) -> str:
        assert process.stdin is not None and process.stdout is not None
        print(json.dumps(asked), file=process.stdin, flush=True)
        return process.stdout.readline().strip()

    with process:
        yield operate
        process.stdin.close()


def truth(aws: Any, deployer: BaseModelDeployer) -> None:
    """Compare the table, after one look, with what is in the account."""
    rows = {service.id: service for service in deployer.find_model_server()}
    for kind, names in aws.names().items():
        for name in names:
            found = UUID.search(name)
            assert found is not None and found[0] in rows, f"no row names {name} among the {kind}"
    for service in rows.values():
        seen = deployer.do_check([service]).get(service.id)
        if service.status.state is ServiceState.ACTIVE:
            assert seen is not None and seen.state is ServiceState.ACTIVE
        if service.status.state is ServiceState.INACTIVE:
            assert seen is None or seen.state is ServiceState.INACTIVE


@pytest.mark.faults
def test_killed_at_random(
    aws: Any, client: Client, deployer: BaseModelDeployer, models: dict[str, str], operate: Operate
) -> None:
    print(f"seed {SEED}, {KILLS} kills")
    chance = random.Random(SEED)
    home = str(client.settings.home)
    kills = 0
    while kills < KILLS:
        fields = {
            "model_uri": models[chance.choice(["one", "two"])],
            "image": chance.choice([None, "serving:1", "serving:2", "serving:broken"]),
            "autoscaling": chance.choice([None, SCALING]),
            "instance_type": chance.choice(["ml.m5.large", "ml.c5.large"]),
            **chance.choice([{}, {}, {"asynchronous": {}}]),
        }
        verb = chance.choice(VERBS)
        if verb == "canary":
            fields = chance.choice([fields, {}]) | {"percent": chance.choice([10, 50])}
        asked = {"home": home, "verb": verb, "name": chance.choice(["red", "blue"]), "fields": fields}
        told = operate(**asked, at=chance.randint(1, MOST_POINTS))
        assert told in ("killed", "ended 0"), (told, asked)
        kills += told == "killed"
        truth(aws, deployer)
        if told == "killed" and chance.random() < 0.5:  # asked for again, it is finished
            assert operate(**asked, at=0) == "ended 0"
            truth(aws, deployer)
    for service in list(deployer.find_model_server(refresh=False)):
        service.delete(timeout=60)
    assert aws.names() == {}


@pytest.mark.faults
@pytest.mark.parametrize("image", ["serving:1", None], ids=["given", "built"])
def test_killed_at_any_point_of_a_deploy_that_is_refused_and_undone(
    aws: Any, client: Client, deployer: BaseModelDeployer, models: dict[str, str], operate: Operate, image: str | None
) -> None:
    fields = {"model_uri": models["one"], "image": image}
    asked = {"home": str(client.settings.home), "verb": "deploy", "name": "red", "fields": fields}
    aws.behave(faults={"CreateEndpoint": {"code": "ResourceLimitExceeded", "message": "not today", "times": 10**6}})
    kills = 0
    for at in itertools.count(random.Random(SEED).randint(1, 3), 3):
        kills += 1
        told = operate(**asked, at=at)
        truth(aws, deployer)
        if told != "killed":
            break
        if kills % 3 == 0:  # refused once more, it is undone, whatever was left
            assert operate(**asked, at=0) == "ended 0"
            assert aws.names() == {}, at
    assert kills > 10, "it was hardly ever killed"
    assert aws.names() == {}
    aws.behave(faults={})
    assert operate(**asked, at=0) == "ended 0"
    (service,) = deployer.find_model_server()
    assert service.is_running
    service.delete(timeout=60)
    assert aws.names() == {}


def transforms_truth(aws: Any, deployer: BaseModelDeployer) -> None:
    """Compare the batch transforms that are listed with what is in the account."""
    listed = {job.name for job in deployer.transforms.list()}
    for kind, names in aws.names().items():
        for name in names:
            found = JOB.search(name)
            assert found is not None and found[0] in listed, f"no batch transform names {name} among the {kind}"


@pytest.mark.faults
def test_batch_transforms_killed_at_random(
    aws: Any, client: Client, deployer: BaseModelDeployer, models: dict[str, str], operate: Operate
) -> None:
    print(f"seed {SEED}, {KILLS} kills")
    chance = random.Random(SEED)
    home = str(client.settings.home)
    kills = 0
    while kills < KILLS:
        fields = {
            "model_uri": models[chance.choice(["one", "two"])],
            "image": chance.choice([None, "serving:1", "serving:broken"]),
            "again": chance.choice([True, False]),
        }
        verb = chance.choice(["transform", "transform", "transform", "end"])
        asked = {"home": home, "verb": verb, "name": chance.choice(["red", "blue"]), "fields": fields}
        told = operate(**asked, at=chance.randint(1, MOST_POINTS))
        assert told in ("killed", "ended 0"), (told, asked)
        kills += told == "killed"
        transforms_truth(aws, deployer)
        if told == "killed" and verb == "transform" and chance.random() < 0.5:  # asked for again, it is finished
            assert operate(**asked, at=0) == "ended 0"
            transforms_truth(aws, deployer)
            newest = deployer.transforms.list()[0]
            assert not newest.is_under_way and newest.state is not TransformState.PENDING
    for job in deployer.transforms.list():
        deployer.transforms.stop(job.name, timeout=60)
    assert aws.names() == {}
