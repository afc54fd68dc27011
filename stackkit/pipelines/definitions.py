"""Pipelines: functions that wire steps together."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, overload

from ..errors import PipelineError
from ..store import default_database
from .execution import execute
from .runs import PipelineRun
from .signatures import UNKNOWN, annotations_of, bind, check_function, check_name, check_value
from .wiring import Plan, recording


class Pipeline:
    """A function that calls steps. Calling the pipeline runs them on the active stack."""

    def __init__(self, function: Callable[..., Any], name: str | None = None) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.signature = check_function(function, "pipeline")
        self.name = check_name(name or function.__name__, "a pipeline")

    def plan(self, *args: Any, **kwargs: Any) -> Plan:
        """Wire the pipeline without running it.

        Raises PipelineError naming the step and the argument that is wrong, and whatever the function raises.
        """
        what = f"the pipeline {self.name!r}"
        given = bind(self.signature, what, args, kwargs)
        annotations = annotations_of(self.function)
        for name, value in given.items():
            given[name] = check_value(annotations.get(name, UNKNOWN), value, what, name)
        bound = self.signature.bind_partial()
        bound.arguments = given
        bound.apply_defaults()
        with recording() as recorded:
            self.function(*bound.args, **bound.kwargs)
        if not recorded.invocations:
            raise PipelineError(f"The pipeline {self.name!r} calls no step.", "Call one in its function.")
        return Plan(self.name, dict(bound.arguments), tuple(recorded.invocations))

    def __call__(self, *args: Any, **kwargs: Any) -> PipelineRun:
        """Wire the pipeline, run its steps, and return the run.

        Raises as ``plan`` does, before anything runs, and PipelineError when a step fails.
        """
        return execute(self.plan(*args, **kwargs), default_database())

    def __repr__(self) -> str:
        return f"<pipeline {self.name!r}>"


@overload
def pipeline(function: Callable[..., Any], /) -> Pipeline: ...
@overload
def pipeline(*, name: str | None = None) -> Callable[[Callable[..., Any]], Pipeline]: ...
def pipeline(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None
) -> Pipeline | Callable[[Callable[..., Any]], Pipeline]:
    """Make a function a pipeline: ``@pipeline``, or ``@pipeline(name="…")`` in place of the function's own name.

    What the function returns has no meaning. Raises PipelineError for a function that can be no pipeline.
    """
    if function is not None:
        return Pipeline(function)
    return lambda wrapped: Pipeline(wrapped, name)
