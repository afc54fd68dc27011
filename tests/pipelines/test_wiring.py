"""Wiring: what a pipeline's function records, and what is refused before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import pytest

from stackkit import Client, pipeline, step
from stackkit.errors import PipelineError
from stackkit.pipelines import Artifact, Pipeline, StepOutput

pytestmark = pytest.mark.usefixtures("active_database")

RAN: list[str] = []


@step
def load(rows: int = 3) -> Annotated[list[int], "data"]:
    RAN.append("load")
    return list(range(rows))


@step
def total(data: list[int], scale: float = 1.0) -> float:
    return sum(data) * scale


@step
def split(data: list[int]) -> tuple[Annotated[list[int], "head"], Annotated[list[int], "tail"]]:
    return data[:1], data[1:]


@step
def report(text: str) -> None: ...


@step
def is_large() -> np.bool_:
    return np.bool_(True)


@step
def negate(flag: bool) -> bool:
    return not flag


@step
def where(data: Artifact) -> str:
    return data.uri


@pytest.fixture(autouse=True)
def _nothing_has_run() -> None:
    RAN.clear()


def wired(function: Callable[[], Any]) -> Pipeline:
    return pipeline(function)


def test_a_step_outside_a_pipeline_is_its_function() -> None:
    assert total([1, 2, 3], scale=2) == 12
    assert load(after=[]) == [0, 1, 2]
    assert load.name == "load"
    assert total.__doc__ == total.function.__doc__


def test_calls_are_recorded_with_their_arguments_and_what_they_wait_for() -> None:
    @pipeline
    def flow() -> None:
        data = load(rows=5)
        head, tail = split(data)
        total(tail, scale=2)
        total(head)

    plan = flow.plan()
    assert [invocation.name for invocation in plan.invocations] == ["load", "split", "total", "total_2"]
    assert [invocation.upstream for invocation in plan.invocations] == [(), ("load",), ("split",), ("split",)]
    assert plan.invocations[0].arguments == {"rows": 5}
    handle = plan.invocations[2].arguments["data"]
    assert isinstance(handle, StepOutput)
    assert (handle.step, handle.name) == ("split", "tail")
    assert plan.invocations[2].arguments["scale"] == 2.0
    assert RAN == []


def test_after_adds_an_order_that_no_data_asks_for() -> None:
    @pipeline
    def flow() -> None:
        told = report("begin")
        both = split(load(after=told))
        load(after=[told, both])
        load(after=[])

    assert [invocation.upstream for invocation in flow.plan().invocations] == [
        (),
        ("report",),
        ("load",),
        ("report", "split"),
        (),
    ]


def test_a_name_that_a_step_has_is_not_given_to_a_repeated_one() -> None:
    @step(name="load_2")
    def second() -> int: ...

    @pipeline
    def flow() -> None:
        second()
        load()
        load()

    assert [invocation.name for invocation in flow.plan().invocations] == ["load_2", "load", "load_3"]


def unknown_argument() -> None:
    total(load(), weight=2)


def missing_argument() -> None:
    total(scale=2)


def too_many() -> None:
    report("a", "b")


def wrong_class() -> None:
    report(load())


def same_name() -> None:
    negate(is_large())


def wrong_literal() -> None:
    total(load(), scale="much")


def literal_for_an_artifact() -> None:
    where("some/path")


def output_of_none() -> None:
    report(report("a"))


def inside_a_list() -> None:
    total([load()])


def truth() -> None:
    if total(load()):
        report("never")


def equality() -> None:
    report("never" if total(load()) == 3 else "always")


def order() -> None:
    report("never" if total(load()) > 3 else "always")


def in_a_text() -> None:
    report(f"the total is {total(load())}")


def odd_after() -> None:
    load(after="total")


def step_in_after() -> None:
    load(after=[load(), report])


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (unknown_argument, ["'total'", "unexpected keyword argument 'weight'"]),
        (missing_argument, ["'total'", "missing a required argument: 'data'"]),
        (too_many, ["'report'", "too many positional arguments"]),
        (wrong_class, ["'text' of the step 'report' takes str", "'data' of 'load' is list"]),
        (same_name, ["'flag' of the step 'negate' takes bool", "'output' of 'is_large' is numpy.bool"]),
        (wrong_literal, ["'scale' of the step 'total' is wrong", "'much'"]),
        (literal_for_an_artifact, ["'data' of the step 'where' is wrong", "Artifact"]),
        (output_of_none, ["'text' of the step 'report'", "has none"]),
        (inside_a_list, ["'data' of the step 'total'", "inside a list"]),
        (truth, ["'total'", "not known while the pipeline is wired"]),
        (equality, ["'total'", "not known while the pipeline is wired"]),
        (order, ["'total'", "not known while the pipeline is wired"]),
        (in_a_text, ["'total'", "not known while the pipeline is wired"]),
        (odd_after, ["'after' of the step 'load'", "not 'total'"]),
        (step_in_after, ["'after' of the step 'load'", "not <step 'report'>"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_wrong_wiring_is_refused_by_name_and_nothing_runs(function: Callable[[], None], words: list[str]) -> None:
    with pytest.raises(PipelineError) as caught:
        wired(function)()
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert RAN == []
    assert Client().list_pipeline_runs() == []


def test_a_handle_of_another_pipeline_is_refused() -> None:
    kept: list[Any] = []

    @pipeline
    def first() -> None:
        kept.append(load())

    @pipeline
    def second() -> None:
        total(kept[0])

    first.plan()
    with pytest.raises(PipelineError, match="'data' of the step 'total' is the output of a step in another pipeline"):
        second.plan()


def test_a_pipeline_in_a_pipelines_function_is_refused_and_the_next_one_works() -> None:
    @pipeline
    def inner() -> None:
        load()

    @pipeline
    def outer() -> None:
        inner()

    with pytest.raises(PipelineError, match="cannot be called in another pipeline's function"):
        outer.plan()
    assert len(inner.plan().invocations) == 1


def test_a_pipelines_own_arguments_are_checked() -> None:
    @pipeline(name="training")
    def flow(rows: int, scale: float = 0.5) -> None:
        total(load(rows), scale)

    assert dict(flow.plan("4").parameters) == {"rows": 4, "scale": 0.5}
    with pytest.raises(PipelineError, match="The argument 'rows' of the pipeline 'training' is wrong"):
        flow.plan("many")
    with pytest.raises(PipelineError, match=r"The pipeline 'training' is called wrongly: missing .* 'rows'"):
        flow.plan()


def test_a_pipeline_without_steps_is_refused() -> None:
    with pytest.raises(PipelineError, match="'empty' calls no step"):

        @pipeline
        def empty() -> None: ...

        empty()


def test_what_the_function_of_a_pipeline_raises_is_passed_on() -> None:
    @pipeline
    def flow() -> None:
        load()
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        flow.plan()
    assert load(1) == [0]  # nothing is being recorded any more


def many(*values: int) -> int: ...
def options(**values: int) -> int: ...
def waits(after: int) -> int: ...
def yields(): yield 1  # fmt: skip


async def sleeps() -> int: ...


@pytest.mark.parametrize("function", [many, options, waits, yields, sleeps])
def test_a_function_that_can_be_no_step_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(PipelineError, match=function.__name__):
        step(function)


@pytest.mark.parametrize("name", ["a/b", "..", "über", "<lambda>", "x" * 201])
def test_a_name_that_can_be_no_path_is_refused(name: str) -> None:
    with pytest.raises(PipelineError, match="cannot name a step"):
        step(name=name)(lambda: None)
    with pytest.raises(PipelineError, match="cannot name a pipeline"):
        pipeline(name=name)(lambda: None)
