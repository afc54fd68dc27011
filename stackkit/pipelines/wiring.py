"""How a pipeline is wired: calling its function records which steps it calls, with what, and in which order.

Everything that can be checked is checked while it is recorded, so that the error points at the line of the pipeline
that is wrong, and no step has run by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import PipelineError
from .signatures import UNKNOWN, bind, check_value, describe, may_take, wants_artifact

if TYPE_CHECKING:
    from .steps import Step


@dataclass(frozen=True, eq=False)
class StepOutput:
    """A handle to an output that a step will have given: to be passed on to other steps.

    ``name`` is None for a step that gives nothing; such a handle can only be waited for, with ``after=``.
    """

    step: str
    name: str | None
    annotation: Any = field(repr=False)
    recording: Recording = field(repr=False)

    def _is_not_known(self, *_: object) -> NoReturn:
        raise PipelineError(
            f"What the step {self.step!r} gives is not known while the pipeline is wired.",
            "Look at it inside a step that takes it as an argument.",
        )

    # whoever decides by a handle, or writes it into a text, means what it stands for
    __bool__ = __lt__ = __le__ = __gt__ = __ge__ = __format__ = _is_not_known

    def __eq__(self, other: object) -> bool:
        return self is other if isinstance(other, StepOutput) else self._is_not_known()

    __hash__ = object.__hash__


@dataclass(frozen=True)
class Invocation:
    """One call of a step in a pipeline.

    ``name`` is unique in the pipeline. ``arguments`` are values or handles, those with defaults may be missing.
    ``upstream`` names the invocations that have to be completed first.
    """

    name: str
    step: Step
    arguments: Mapping[str, Any]
    upstream: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """A wired pipeline. ``invocations`` are in dependency order: each comes after those that its ``upstream`` names."""

    pipeline_name: str
    parameters: Mapping[str, Any]
    invocations: tuple[Invocation, ...]


class Recording:
    """The steps that a pipeline's function has called so far.

    A handle exists only once its step has been called, so the order of the calls is a dependency order and there are
    no cycles.
    """

    def __init__(self) -> None:
        self.invocations: list[Invocation] = []

    def record(
        self, step: Step, args: tuple[Any, ...], kwargs: Mapping[str, Any], after: object
    ) -> StepOutput | tuple[StepOutput, ...]:
        """Add a call of ``step``; returns a handle for each of its outputs, or one to wait for.

        Raises PipelineError naming the step and the argument that is unknown, missing or does not fit.
        """
        what = f"the step {step.name!r}"
        bound = bind(step.signature, what, args, kwargs)
        arguments = {name: self._checked(step, what, name, value) for name, value in bound.items()}
        awaited = [value for value in arguments.values() if isinstance(value, StepOutput)]
        awaited += self._waited_for([] if after is None else after, what)
        upstream = tuple(dict.fromkeys(handle.step for handle in awaited))
        name = self._free_name(step.name)
        self.invocations.append(Invocation(name, step, arguments, upstream))
        handles = [StepOutput(name, output, given, self) for output, given in step.outputs.annotations.items()]
        if step.outputs.as_tuple:
            return tuple(handles)
        return handles[0] if handles else StepOutput(name, None, None, self)

    def _checked(self, step: Step, what: str, argument: str, value: Any) -> Any:
        annotation = step.annotations.get(argument, UNKNOWN)
        if not isinstance(value, StepOutput):
            if next(_handles_in(value), None) is not None:
                raise PipelineError(
                    f"The argument {argument!r} of {what} holds the output of another step inside a "
                    f"{type(value).__name__}.",
                    "Give each output as an argument of its own.",
                )
            return check_value(annotation, value, what, argument)
        self._check_own(value, what, argument)
        if value.name is None:
            raise PipelineError(
                f"The argument {argument!r} of {what} is given the output of {value.step!r}, which has none.",
                f"Annotate what {value.step!r} returns, or wait for it with after=.",
            )
        if not wants_artifact(annotation) and not may_take(annotation, value.annotation):
            raise PipelineError(
                f"The argument {argument!r} of {what} takes {describe(annotation)}, "
                f"but the output {value.name!r} of {value.step!r} is {describe(value.annotation)}.",
                "Change one of the two annotations, or pass another output.",
            )
        return value

    def _waited_for(self, after: object, what: str) -> list[StepOutput]:
        if isinstance(after, list | tuple):  # the handles of a step with several outputs are a tuple
            return [handle for each in after for handle in self._waited_for(each, what)]
        if not isinstance(after, StepOutput):
            raise PipelineError(
                f"The argument 'after' of {what} takes what other steps returned, not {after!r}.",
                "Give it one handle or a list of them.",
            )
        self._check_own(after, what, "after")
        return [after]

    def _check_own(self, handle: StepOutput, what: str, argument: str) -> None:
        if handle.recording is not self:
            raise PipelineError(
                f"The argument {argument!r} of {what} is the output of a step in another pipeline.",
                "Load it from that pipeline's run: run.steps[…].outputs[…].load().",
            )

    def _free_name(self, name: str) -> str:
        taken = {invocation.name for invocation in self.invocations}
        number, free = 1, name
        while free in taken:
            number += 1
            free = f"{name}_{number}"
        return free


_recording: ContextVar[Recording | None] = ContextVar("stackkit_recording", default=None)


def current_recording() -> Recording | None:
    """The recording of the pipeline that is being wired, None when there is none."""
    return _recording.get()


@contextmanager
def recording() -> Iterator[Recording]:
    """Record the steps that are called in this block. Raises PipelineError inside another pipeline's function."""
    if _recording.get() is not None:
        raise PipelineError(
            "A pipeline cannot be called in another pipeline's function.", "Call its steps there, or it afterwards."
        )
    started = Recording()
    token = _recording.set(started)
    try:
        yield started
    finally:
        _recording.reset(token)


def _handles_in(value: object) -> Iterator[StepOutput]:
    if isinstance(value, StepOutput):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _handles_in(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _handles_in(item)
