from __future__ import annotations

import pytest

from stackkit import Client, get_step_context, pipeline, step
from stackkit.errors import DeploymentError, PipelineError

RUNS = ("pipeline", "runs")


@step
def count(upto: int) -> int:
    get_step_context().log_metadata("counted", upto)
    return upto


@step
def fail(number: int) -> None:
    raise ValueError(f"{number} is too many")


LOG = "It ended.\nThe end of its log:\n  Traceback (most recent call last):\n  KeyError: 'x'"


@step
def deploy() -> None:
    try:
        {}["before"]
    except KeyError as error:
        raise DeploymentError(LOG, "Give it more time.") from error


@pipeline
def deploying() -> None:
    deploy()


@pipeline
def counting(upto: int = 3) -> None:
    count(upto)


@pipeline
def failing() -> None:
    fail(count(3))


def test_no_runs_yet(ok, read):
    assert read(*RUNS, "list") == []
    assert ok(*RUNS, "list").stderr == "There is no pipeline run yet.\n"


def test_list_has_the_newest_first(ok, read):
    first, second = counting(), counting()
    with pytest.raises(PipelineError):
        failing()
    rows = read(*RUNS, "list", "--pipeline", "counting")
    assert [row["name"] for row in rows] == [second.name, first.name]
    assert [row["status"] for row in read(*RUNS, "list", "--limit", "1")] == ["failed"]
    header, *lines = ok(*RUNS, "list").stdout.splitlines()
    assert header.split() == ["NAME", "PIPELINE_NAME", "STATUS", "STACK_NAME", "STARTED", "ENDED"]
    assert len(lines) == 3
    assert len(ok(*RUNS, "list", "-o", "csv").stdout.splitlines()) == 4


def test_describe(ok, read):
    run = counting(upto=5)
    described = read(*RUNS, "describe", run.name)
    assert described["id"] == run.id
    assert described["steps"][0]["run_metadata"] == {"counted": 5}
    shown = ok(*RUNS, "describe", run.name).stdout
    assert "PIPELINE_NAME  counting" in shown
    assert "\n\nSteps\n" in shown
    assert "\n\nOutputs\n" in shown
    assert shown.endswith("Metadata\nSTEP   KEY      VALUE\ncount  counted  5\n")


def test_describe_tells_why_a_step_failed(ok, read):
    with pytest.raises(PipelineError):
        failing()
    (row,) = read(*RUNS, "list")
    shown = ok(*RUNS, "describe", row["name"]).stdout
    assert "ValueError: 3 is too many" in shown
    assert "Traceback" not in shown
    assert read(*RUNS, "describe", row["name"])["steps"][1]["error"].startswith("Traceback")


def test_what_a_step_raised_is_told_and_not_its_hint(ok):
    with pytest.raises(PipelineError):
        deploying()
    (step_row,) = [line for line in ok(*RUNS, "describe", newest()).stdout.splitlines() if line.startswith("deploy  ")]
    assert step_row.endswith("  stackkit.errors.DeploymentError: It ended.")


def newest() -> str:
    return Client().list_pipeline_runs(limit=1)[0].name


def test_an_unknown_run(fails):
    message, hint = fails(*RUNS, "describe", "nothing")
    assert message == "There is no pipeline run 'nothing'."
    assert "stackkit pipeline runs list" in hint
