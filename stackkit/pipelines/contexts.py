"""What a running step can learn about its run, and add to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from ..errors import PipelineError
from .json_values import json_value


@dataclass(frozen=True)
class StepContext:
    """The step that runs: where it belongs, and its metadata."""

    run_name: str
    pipeline_name: str
    step_name: str
    _record: Callable[[str, Any], None] = field(repr=False)

    def log_metadata(self, key: str, value: Any) -> None:
        """Record a JSON value under ``key`` at once, in place of the one before; it stays should the step fail.

        numpy's numbers are taken as Python's; NaN and the infinities become text. Raises PipelineError for a key that
        is empty or longer than 255 characters, and for a value that has no JSON form.
        """
        if not 0 < len(key) <= 255:
            raise PipelineError(f"A metadata key has 1 to 255 characters, not {len(key)}.")
        try:
            self._record(key, json_value(value, _plain_number))
        except (TypeError, ValueError) as error:
            raise PipelineError(
                f"The metadata {key!r} of the step {self.step_name!r} has no JSON form: {error}.",
                "Log numbers, texts, lists and dicts, and return anything else as an output.",
            ) from error


_running: ContextVar[StepContext | None] = ContextVar("stackkit_step_context", default=None)


def get_step_context() -> StepContext:
    """The context of the step that is running. Raises PipelineError outside of a pipeline's step."""
    context = current_step_context()
    if context is None:
        raise PipelineError(
            "There is no step context: no pipeline is running this code.",
            "Call get_step_context() in a step's function, in the thread that the step was started in.",
        )
    return context


def current_step_context() -> StepContext | None:
    """The context of the step that is running, None outside of one."""
    return _running.get()


@contextmanager
def running_step(context: StepContext) -> Iterator[None]:
    """Make ``context`` the one that ``get_step_context`` gives."""
    token = _running.set(context)
    try:
        yield
    finally:
        _running.reset(token)


def _plain_number(value: Any) -> Any:
    item = getattr(value, "item", None)
    if not callable(item):
        raise TypeError(f"a {type(value).__name__} is none of JSON's types")
    return item()
