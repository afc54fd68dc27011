"""Finding runs, on every kind of database."""

from __future__ import annotations

from typing import Annotated

import pytest

from stackkit import get_step_context, pipeline, step
from stackkit.errors import NotFoundError, PipelineError
from stackkit.pipelines import RunStore
from stackkit.store import Database

pytestmark = pytest.mark.all_databases


@step
def measure(value: float) -> Annotated[float, "measured"]:
    get_step_context().log_metadata("loss", float("nan"))
    get_step_context().log_metadata("loss", value)
    get_step_context().log_metadata("nothing", None)
    if value < 0:
        raise ValueError("negative \x00")
    return value


@pipeline
def measuring(value: float) -> None:
    measure(measure(value))


@pipeline(name="other")
def another() -> None:
    measure(1)


def test_a_run_is_kept_whole(active_database: Database) -> None:
    run = measuring(0.5)
    assert RunStore(active_database).get(run.name) == run
    assert RunStore(active_database).get(run.id) == run
    assert list(run.steps) == ["measure", "measure_2"]
    for one in run.steps.values():
        assert one.outputs["measured"].load() == 0.5
        assert one.run_metadata["loss"].value == 0.5
        assert one.run_metadata["nothing"].value is None
        assert one.started is not None
        assert one.ended is not None
        assert run.started <= one.started <= one.ended


def test_a_failed_run_is_kept_with_its_error(active_database: Database) -> None:
    with pytest.raises(PipelineError):
        measuring(-1)
    run = RunStore(active_database).list()[0]
    assert run.status == "failed"
    assert r"negative \x00" in (run.steps["measure"].error or "")
    assert run.steps["measure_2"].status == "skipped"


def test_the_newest_runs_are_listed_first(active_database: Database) -> None:
    store = RunStore(active_database)
    assert store.list() == []
    runs = [measuring(1), another(), measuring(2)]
    assert store.list() == runs[::-1]
    assert store.list(limit=1) == runs[-1:]
    assert store.list("measuring") == [runs[2], runs[0]]
    assert store.list("nobody's") == []


def test_a_run_that_is_not_there(active_database: Database) -> None:
    with pytest.raises(NotFoundError, match="There is no pipeline run 'lost'") as caught:
        RunStore(active_database).get("lost")
    assert "stackkit pipeline runs list" in (caught.value.hint or "")
