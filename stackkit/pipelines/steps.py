"""Steps: functions that a pipeline is made of."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, overload

from ..errors import PipelineError
from .signatures import Outputs, annotations_of, check_function, check_name, outputs_of
from .wiring import current_recording


class Step:
    """A function that can be a step of a pipeline.

    Called in a pipeline's function it is recorded, and returns a handle (``StepOutput``) for each of its outputs; the
    keyword ``after`` takes handles of steps to wait for beside those whose outputs it is given. Called anywhere else
    it just runs the function.
    """

    def __init__(self, function: Callable[..., Any], name: str | None = None) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.signature = check_function(function, "step")
        self.name = check_name(name or function.__name__, "a step")
        if "after" in self.signature.parameters:
            raise PipelineError(f"The step {self.name!r} has an argument named 'after'.", "Give it another name.")

    @cached_property
    def annotations(self) -> Mapping[str, Any]:
        """The annotations of its arguments, by name; see ``signatures.annotations_of``."""
        return annotations_of(self.function)

    @cached_property
    def outputs(self) -> Outputs:
        """What it gives. Raises PipelineError when that cannot be told."""
        return outputs_of(self.function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        recording = current_recording()
        if recording is None:
            kwargs.pop("after", None)
            return self.function(*args, **kwargs)
        after = kwargs.pop("after", None)
        return recording.record(self, args, kwargs, after)

    def __repr__(self) -> str:
        return f"<step {self.name!r}>"


@overload
def step(function: Callable[..., Any], /) -> Step: ...
@overload
def step(*, name: str | None = None) -> Callable[[Callable[..., Any]], Step]: ...
def step(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None
) -> Step | Callable[[Callable[..., Any]], Step]:
    """Make a function a step: ``@step``, or ``@step(name="…")`` in place of the function's own name.

    Outputs are what the function is annotated to return: one named "output", or by ``Annotated[Type, "name"]``;
    a tuple of such gives several; None gives none. Raises PipelineError for a function that can be no step.
    """
    if function is not None:
        return Step(function)
    return lambda wrapped: Step(wrapped, name)
