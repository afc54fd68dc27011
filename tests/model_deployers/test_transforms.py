"""Batch transforms: asking for the same finds the job that is there."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from stackkit import Client
from stackkit.errors import (
    DeploymentError,
    DeploymentTimeoutError,
    InvalidConfigError,
    ModelError,
    NotFoundError,
    NotSupportedError,
    PlatformUnavailableError,
)
from stackkit.model_deployers import BatchTransforms, TransformState
from stackkit.model_deployers.memory import MemoryModelDeployer
from stackkit.stack import ComponentType

ASKED = {"model_uri": "one", "input_uri": "store://in", "output_uri": "store://out"}


@pytest.fixture
def jobs(deployer: MemoryModelDeployer) -> BatchTransforms:
    return deployer.transforms


def test_a_job_is_run_once_until_it_is_asked_for_again(jobs: BatchTransforms) -> None:
    first = jobs.run(**ASKED)
    assert first.state is TransformState.COMPLETED
    assert first.name.startswith("stackkit-transform-") and first.name.endswith("-1") and len(first.name) <= 63
    assert jobs.run(**ASKED).name == first.name
    second = jobs.run(**ASKED, again=True)
    assert second.name == first.name.removesuffix("1") + "2"
    assert jobs.run(**ASKED).name == second.name
    other = jobs.run(**{**ASKED, "model_uri": "two"})
    assert [each.name for each in jobs.list()] == [other.name, second.name, first.name]
    assert jobs.get(first.name) == first


def test_a_job_that_runs_is_found_whoever_asks(jobs: BatchTransforms) -> None:
    running = jobs.run(**ASKED, outcome="running", wait=False)
    assert running.is_under_way
    assert jobs.run(**ASKED, outcome="running", wait=False, again=True).name == running.name
    with pytest.raises(DeploymentTimeoutError, match="has not ended in time") as raised:
        jobs.run(**ASKED, outcome="running", timeout=0)
    assert f"transforms wait {running.name}" in str(raised.value.hint)
    assert jobs.stop(running.name).state is TransformState.STOPPED
    with pytest.raises(DeploymentError, match="was stopped"):
        jobs.wait(running.name)
    assert jobs.run(**ASKED, outcome="running", wait=False).name == running.name.removesuffix("1") + "2"


def test_a_job_that_fails_says_why_and_is_tried_again(jobs: BatchTransforms) -> None:
    for number in (1, 2):
        with pytest.raises(DeploymentError, match=f"-{number} failed: it is broken"):
            jobs.run(**ASKED, outcome="failed")


@pytest.fixture
def pending(jobs: BatchTransforms, deployer: MemoryModelDeployer) -> str:
    """The name of a job that was asked for, and whose making was cut off."""
    name = jobs.run(**ASKED).name
    platform = deployer.platform
    platform.transforms[name] = replace(platform.transforms[name], state=TransformState.PENDING, message="Cut off.")
    return name


def test_a_job_that_was_cut_off_goes_on_when_it_is_asked_for_again(jobs: BatchTransforms, pending: str) -> None:
    with pytest.raises(DeploymentError, match="has not begun") as raised:
        jobs.wait(pending)
    assert f"transforms stop {pending}" in str(raised.value.hint)
    assert jobs.get(pending).state is TransformState.PENDING
    assert (jobs.run(**ASKED).name, jobs.get(pending).state) == (pending, TransformState.COMPLETED)


def test_what_was_made_for_a_job_that_was_cut_off_can_be_removed(jobs: BatchTransforms, pending: str) -> None:
    assert jobs.stop(pending).state is TransformState.STOPPED
    assert not jobs.list()


def test_waiting_outlives_a_platform_that_does_not_answer(jobs: BatchTransforms, deployer: MemoryModelDeployer) -> None:
    job = jobs.run(**ASKED, outcome="completed", wait=False)
    deployer.platform.reachable = False
    with pytest.raises(PlatformUnavailableError):
        jobs.wait(job.name, timeout=0)

    def mend(text: str) -> None:
        threading.Timer(0, lambda: setattr(deployer.platform, "reachable", True)).start()

    assert jobs.wait(job.name, progress=mend).state is TransformState.COMPLETED


def test_what_is_wrong_is_refused_before_there_is_a_job(jobs: BatchTransforms) -> None:
    with pytest.raises(InvalidConfigError, match="input_uri"):
        jobs.run(model_uri="one", output_uri="store://out")
    with pytest.raises(InvalidConfigError, match="'instances'"):
        jobs.run(**ASKED, instances=2)
    with pytest.raises(ModelError):
        jobs.run(**{**ASKED, "model_uri": "missing"})
    assert not jobs.list()
    for act in (jobs.get, jobs.wait, jobs.stop):
        with pytest.raises(NotFoundError, match="no batch transform"):
            act("stackkit-transform-0-1")


def test_a_flavor_without_batch_transforms_says_so(client: Client) -> None:
    client.register_component(ComponentType.MODEL_DEPLOYER, "here", "local", {})
    with pytest.raises(NotSupportedError, match="'local' cannot run batch transforms"):
        _ = client.model_deployer("here").transforms
