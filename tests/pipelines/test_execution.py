"""Running pipelines: what steps are given, what is recorded, and when."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import SecretStr

from stackkit import Client, get_step_context, pipeline, step
from stackkit.errors import NotFoundError, PipelineError
from stackkit.pipelines import Artifact, BaseOrchestrator, Execution, PipelineRun, RunStatus
from stackkit.stack import ComponentType, Flavor
from stackkit.store import Database

pytestmark = pytest.mark.usefixtures("active_database")


@step
def load(rows: int = 3) -> Annotated[list[int], "data"]:
    return list(range(rows))


@step
def total(data: list[int], scale: float = 1.0) -> Annotated[float, "sum"]:
    get_step_context().log_metadata("rows", len(data))
    return sum(data) * scale


@step
def split(data: list[int]) -> tuple[Annotated[list[int], "tail"], Annotated[list[int], "head"]]:
    return data[1:], data[:1]


@step
def spoil(data: list[int]) -> None:
    data.append(1000)


@step
def where(data: Artifact) -> Annotated[dict[str, Any], "facts"]:
    return {"uri": data.uri, "type": data.type, "value": data.load()}


@step
def fail() -> int:
    raise ValueError("it is broken: \x00 \ud800")


@step
def interrupt() -> int:
    raise KeyboardInterrupt


def run_of(error: PipelineError) -> PipelineRun:
    """The newest run, which is the one that failed."""
    run = Client().list_pipeline_runs(limit=1)[0]
    assert run.name in error.message
    return run


def test_a_run_is_returned_with_all_that_it_gave() -> None:
    @pipeline(name="training")
    def flow(rows: int, scale: float = 2.0) -> None:
        tail, head = split(load(rows))
        total(tail, scale)
        total(head)

    run = flow(4)
    assert run.name.startswith("training-")
    assert (run.pipeline_name, run.stack_name, run.status) == ("training", "default", "completed")
    assert run.parameters == {"rows": 4, "scale": 2.0}
    assert run.ended is not None
    assert run.ended >= run.started
    assert list(run.steps) == ["load", "split", "total", "total_2"]
    assert {one.status for one in run.steps.values()} == {RunStatus.COMPLETED}
    assert run.steps["split"].outputs["tail"].load() == [1, 2, 3]
    assert run.steps["split"].outputs["head"].load() == [0]
    assert run.steps["total"].outputs["sum"].load() == 12.0
    assert run.steps["total"].run_metadata["rows"].value == 3
    assert Client().get_pipeline_run(run.name) == run
    assert Client().get_pipeline_run(run.id) == run


def test_a_run_tells_everything_by_field_name() -> None:
    @pipeline
    def flow() -> None:
        total(load())

    run = flow()
    values = run.as_dict()
    assert list(values) == [
        "id", "name", "pipeline_name", "stack_name", "status", "parameters", "started", "ended", "steps",
    ]  # fmt: skip
    assert values["status"] == "completed"
    uri = run.steps["total"].outputs["sum"].uri
    assert values["steps"][1] == {
        "name": "total",
        "status": "completed",
        "started": run.steps["total"].started,
        "ended": run.steps["total"].ended,
        "error": None,
        "outputs": {"sum": {"uri": uri, "type": "float"}},
        "run_metadata": {"rows": 3},
    }


def test_artifacts_are_in_a_folder_for_each_output(home: Path) -> None:
    @pipeline
    def flow() -> None:
        load()

    run = flow()
    assert run.steps["load"].outputs["data"].uri == str(home / "artifacts" / run.name / "load" / "data" / "value.json")


def test_an_argument_annotated_artifact_is_the_artifact_itself() -> None:
    @pipeline
    def flow() -> None:
        where(load())

    run = flow()
    uri = run.steps["load"].outputs["data"].uri
    facts = run.steps["where"].outputs["facts"].load()
    assert facts == {"uri": uri, "type": "list", "value": [0, 1, 2]}


def test_a_step_sees_what_was_kept_not_what_another_did_to_it() -> None:
    @pipeline
    def flow() -> None:
        data = load()
        total(data, after=spoil(data))

    assert flow().steps["total"].outputs["sum"].load() == 3.0


def test_an_argument_that_can_only_be_given_by_position() -> None:
    @step
    def double(number: int, /, times: int = 2) -> int:
        return number * times

    @pipeline
    def flow() -> None:
        double(double(3, times=5))

    assert flow().steps["double_2"].outputs["output"].load() == 30


def test_a_failing_step_ends_the_run_and_is_told() -> None:
    @pipeline
    def flow() -> None:
        load()
        fail()
        load()

    with pytest.raises(PipelineError, match=r"The step 'fail' of the run flow-.* failed: ValueError: it is") as caught:
        flow()
    assert isinstance(caught.value.__cause__, ValueError)
    run = run_of(caught.value)
    assert f"stackkit pipeline runs describe {run.name}" in (caught.value.hint or "")
    assert run.status == "failed"
    assert run.ended is not None
    assert [one.status.value for one in run.steps.values()] == ["completed", "failed", "skipped"]
    error = run.steps["fail"].error
    assert error is not None
    assert error.startswith("Traceback (most recent call last)")
    assert "raise ValueError(" in error
    assert r"ValueError: it is broken: \x00 \ud800" in error
    assert run.steps["load_2"].started is None
    assert run.steps["load"].outputs["data"].load() == [0, 1, 2]


def test_the_hint_of_our_own_errors_is_passed_on() -> None:
    @step
    def ask() -> int:
        raise NotFoundError("There is no such thing.", "Make one: stackkit make.")

    @pipeline
    def flow() -> None:
        ask()

    with pytest.raises(PipelineError, match=r"'ask' of the run flow-.* failed: There is no such thing\.") as caught:
        flow()
    assert caught.value.hint == "Make one: stackkit make."


def test_ctrl_c_is_an_interruption_and_passed_on() -> None:
    @pipeline
    def flow() -> None:
        load()
        interrupt()
        load()

    with pytest.raises(KeyboardInterrupt):
        flow()
    run = Client().list_pipeline_runs()[0]
    assert run.status == "interrupted"
    assert [one.status.value for one in run.steps.values()] == ["completed", "interrupted", "skipped"]


def test_what_cannot_be_kept_fails_its_step() -> None:
    @step
    def give() -> Any:
        return lambda: None

    @pipeline
    def flow() -> None:
        give()

    with pytest.raises(PipelineError, match=r"'give' of the run .* failed: A function cannot be kept"):
        flow()


@pytest.mark.parametrize(
    ("returned", "told"), [((1, 2, 3), "one of 3"), ([1, 2], "a list")], ids=["too many", "no tuple"]
)
def test_a_tuple_that_is_not_as_annotated_fails_its_step(returned: Any, told: str) -> None:
    @step
    def give() -> tuple[Annotated[int, "a"], Annotated[int, "b"]]:
        return returned

    @pipeline
    def flow() -> None:
        give()

    with pytest.raises(PipelineError, match=rf"should return a tuple of 2 \(a, b\), and returned {told}"):
        flow()
    assert Client().list_pipeline_runs()[0].steps["give"].outputs == {}


def test_what_happens_is_recorded_as_it_happens() -> None:
    seen: list[PipelineRun] = []

    @step
    def look() -> None:
        get_step_context().log_metadata("early", True)
        seen.append(Client().get_pipeline_run(get_step_context().run_name))

    @pipeline
    def flow() -> None:
        load()
        look()
        load()

    flow()
    assert seen[0].status == "running"
    assert seen[0].ended is None
    assert [one.status.value for one in seen[0].steps.values()] == ["completed", "running", "pending"]
    assert seen[0].steps["look"].run_metadata["early"].value is True
    assert seen[0].steps["load"].outputs["data"].load() == [0, 1, 2]


def test_a_killed_process_leaves_its_run_as_it_was(home: Path, tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(
        textwrap.dedent(
            """
            import os
            from stackkit import pipeline, step

            @step
            def die() -> None:
                os._exit(9)

            @pipeline
            def flow() -> None:
                die()

            flow()
            """
        )
    )
    assert subprocess.run([sys.executable, script], check=False).returncode == 9
    run = Client().list_pipeline_runs("flow")[0]
    assert run.status == "running"
    assert run.ended is None
    assert run.steps["die"].status == "running"


def test_runs_of_the_same_moment_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    @pipeline
    def flow() -> None:
        load()

    first = flow()
    times = iter([first.name.removeprefix("flow-"), "2026_01_01-00_00_00_000001"])

    class Clock:
        @staticmethod
        def now(zone: object) -> Any:
            return _Formatted(next(times))

    monkeypatch.setattr("stackkit.pipelines.execution.datetime", Clock)
    assert flow().name == "flow-2026_01_01-00_00_00_000001"


class _Formatted(str):
    """A text that any time format gives."""

    def __format__(self, spec: str) -> str:
        return str(self)


def test_parameters_are_recorded_as_json_where_they_can_be() -> None:
    @step
    def take(value: Any) -> None: ...

    @pipeline
    def flow(value: Any, path: Path, weight: float) -> None:
        take(value)

    run = flow(np.arange(3), Path("x"), float("nan"))
    assert run.parameters == {"value": "array([0, 1, 2])", "path": "x", "weight": "NaN"}
    assert flow(SecretStr("hidden"), Path("x"), 1).parameters["value"] == "**********"


def test_a_step_called_in_a_step_is_its_function() -> None:
    @step
    def outer() -> Annotated[list[int], "data"]:
        return load(2)

    @pipeline
    def flow() -> None:
        outer()

    run = flow()
    assert list(run.steps) == ["outer"]
    assert run.steps["outer"].outputs["data"].load() == [0, 1]


# The step context


def in_a_step(function: Callable[[], object]) -> PipelineRun:
    @step
    def body() -> None:
        function()

    @pipeline
    def flow() -> None:
        body()

    return flow()


def test_the_context_names_the_run_pipeline_and_step() -> None:
    seen: list[tuple[str, str, str]] = []

    def look() -> None:
        context = get_step_context()
        seen.append((context.run_name, context.pipeline_name, context.step_name))

    run = in_a_step(look)
    assert seen == [(run.name, "flow", "body")]


def test_there_is_no_context_outside_of_a_step() -> None:
    with pytest.raises(PipelineError, match="There is no step context"):
        get_step_context()
    in_a_step(get_step_context)
    with pytest.raises(PipelineError, match="There is no step context"):
        get_step_context()


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        ({"a": [1, None]}, {"a": [1, None]}),
        (float("nan"), "NaN"),
        ([float("-inf")], ["-Infinity"]),
    ],
    ids=repr,
)
def test_metadata_is_json(value: Any, kept: Any) -> None:
    run = in_a_step(lambda: get_step_context().log_metadata("key", value))
    assert run.steps["body"].run_metadata["key"].value == kept


def test_metadata_of_the_same_key_is_replaced() -> None:
    def log() -> None:
        for value in (1, 2, 2):
            get_step_context().log_metadata("key", value)

    assert in_a_step(log).steps["body"].run_metadata["key"].value == 2


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("key", object(), "'key' of the step 'body' has no JSON form"),
        ("key", np.arange(2), "'key' of the step 'body' has no JSON form"),
        ("", 1, "1 to 255 characters, not 0"),
        ("k" * 256, 1, "1 to 255 characters, not 256"),
    ],
    ids=["object", "array", "no key", "long key"],
)
def test_metadata_that_cannot_be_kept_is_refused(key: str, value: Any, words: str) -> None:
    with pytest.raises(PipelineError, match=words):
        in_a_step(lambda: get_step_context().log_metadata(key, value))


def test_metadata_stays_when_the_step_fails() -> None:
    def log_and_fail() -> None:
        get_step_context().log_metadata("loss", 3)
        raise ArithmeticError("diverged")

    with pytest.raises(PipelineError) as caught:
        in_a_step(log_and_fail)
    assert run_of(caught.value).steps["body"].run_metadata["loss"].value == 3


def test_two_runs_at_once_do_not_meet() -> None:
    meet = threading.Barrier(2, timeout=30)
    names: dict[str, str] = {}

    @step
    def look(label: str) -> None:
        meet.wait()
        names[label] = get_step_context().run_name

    @pipeline
    def flow(label: str) -> None:
        look(label)

    runs: dict[str, PipelineRun] = {}
    threads = [threading.Thread(target=lambda one=one: runs.update({one: flow(one)})) for one in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names == {label: run.name for label, run in runs.items()}
    assert len(set(names.values())) == 2


# Orchestrators


class BackwardsOrchestrator(BaseOrchestrator):
    """Leaves the first step out, to see what becomes of it."""

    def run(self, execution: Execution) -> None:
        for invocation in execution.plan.invocations[1:]:
            execution.run_step(invocation)


class BackwardsOrchestratorFlavor(Flavor):
    TYPE = ComponentType.ORCHESTRATOR
    NAME = "backwards"
    implementation = f"{__name__}:BackwardsOrchestrator"


def test_the_stacks_orchestrator_runs_the_steps(
    active_database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "orchestrator_for_tests", sys.modules[__name__])
    monkeypatch.setattr(BackwardsOrchestratorFlavor, "implementation", "orchestrator_for_tests:BackwardsOrchestrator")
    client = Client()
    client.flavors.register(ComponentType.ORCHESTRATOR, "orchestrator_for_tests.BackwardsOrchestratorFlavor")
    client.register_component(ComponentType.ORCHESTRATOR, "other", "backwards", {})
    client.stacks.register("second", {ComponentType.ORCHESTRATOR: "other"})
    client.stacks.activate("second")

    @pipeline
    def flow() -> None:
        load(1)
        load(2)

    with caplog.at_level(logging.INFO, logger="stackkit"):
        run = flow()
    assert run.stack_name == "second"
    assert [one.status.value for one in run.steps.values()] == ["skipped", "completed"]
    assert f"{run.name}: load_2 is completed" in caplog.messages
