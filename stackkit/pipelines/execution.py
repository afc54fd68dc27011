"""Running a wired pipeline: each step's inputs, call and outputs, recorded as they happen."""

from __future__ import annotations

import inspect
import logging
import traceback
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ..errors import FlavorError, PipelineError, StackkitError
from ..stack import ComponentType, StackStore
from ..store import Database
from ..store import runs as rows
from .artifact_stores import BaseArtifactStore
from .artifacts import Artifact, keep
from .contexts import StepContext, running_step
from .json_values import json_value
from .orchestrators import BaseOrchestrator
from .runs import PipelineRun, RunStatus, RunStore
from .signatures import UNKNOWN, wants_artifact
from .wiring import Invocation, Plan, StepOutput

logger = logging.getLogger(__name__)

_LONGEST_ERROR = 100_000  # characters: an exception may quote a whole data set


def execute(plan: Plan, database: Database) -> PipelineRun:
    """Run ``plan`` on the active stack and return its run.

    Raises PipelineError when a step fails, its cause being what the step raised. What ends the run from outside, such
    as Ctrl-C, is recorded as an interruption and passed on.
    """
    stacks = StackStore(database)
    orchestrator = stacks.active_component(ComponentType.ORCHESTRATOR)
    if not isinstance(orchestrator, BaseOrchestrator):
        raise FlavorError(f"The flavor {orchestrator.record.flavor!r} is no orchestrator.")
    store = stacks.active_component(ComponentType.ARTIFACT_STORE)
    if not isinstance(store, BaseArtifactStore):
        raise FlavorError(f"The flavor {store.record.flavor!r} is no artifact store.")
    execution = Execution(plan, database, store, stacks.active().name)
    try:
        orchestrator.run(execution)
    except Exception:
        execution.end(RunStatus.FAILED)
        raise
    except BaseException:
        execution.end(RunStatus.INTERRUPTED)
        raise
    execution.end(RunStatus.COMPLETED)
    return execution.run


class Execution:
    """One run of ``plan``, recorded in ``database``. Making it records that the run has begun."""

    def __init__(self, plan: Plan, database: Database, store: BaseArtifactStore, stack_name: str) -> None:
        self.plan = plan
        self._database = database
        self._store = store
        self._runs = RunStore(database)
        self.run_id = str(uuid.uuid4())
        self.run_name = self._begin(stack_name)

    @property
    def run(self) -> PipelineRun:
        """The run as it is recorded by now. Reads the database."""
        return self._runs.get(self.run_id)

    def run_step(self, invocation: Invocation) -> None:
        """Run one step in this process, on what its upstream steps gave.

        Raises PipelineError naming the step when it fails, with what it raised as its cause.
        """
        recorded = self.run.steps
        step_id = recorded[invocation.name].id
        with self._database.write() as connection:
            rows.start_step(connection, step_id, RunStatus.RUNNING)
        logger.info("%s: %s has started", self.run_name, invocation.name)
        try:
            arguments = {
                name: self._given(invocation, name, value, recorded) for name, value in invocation.arguments.items()
            }
            bound = inspect.BoundArguments(invocation.step.signature, arguments)
            with running_step(self._context(invocation, step_id)):
                returned = invocation.step.function(*bound.args, **bound.kwargs)
            kept = self._keep(invocation, returned)
            with self._database.write() as connection:
                for output in kept:
                    rows.insert_artifact(connection, {"step_id": step_id, **output})
                rows.end_step(connection, step_id, RunStatus.COMPLETED)
        except Exception as error:
            self._end_step(step_id, RunStatus.FAILED, error)
            raise self._failure(invocation, error) from error
        except BaseException as error:
            self._end_step(step_id, RunStatus.INTERRUPTED, error)
            raise
        logger.info("%s: %s is completed", self.run_name, invocation.name)

    def end(self, status: RunStatus) -> None:
        """Record how the run ended; steps that have not begun by now are skipped."""
        with self._database.write() as connection:
            rows.end_run(connection, self.run_id, status, pending=RunStatus.PENDING, skipped=RunStatus.SKIPPED)

    def _begin(self, stack_name: str) -> str:
        values = {
            "id": self.run_id,
            "pipeline_name": self.plan.pipeline_name,
            "stack_name": stack_name,
            "status": RunStatus.RUNNING,
            "parameters": {name: _shown(value) for name, value in self.plan.parameters.items()},
        }
        names = [invocation.name for invocation in self.plan.invocations]
        while True:
            name = f"{self.plan.pipeline_name}-{datetime.now(UTC):%Y_%m_%d-%H_%M_%S_%f}"
            with self._database.write() as connection:
                if rows.insert_run(connection, {**values, "name": name}, names, RunStatus.PENDING):
                    return name  # another run of the same microsecond has the name otherwise

    def _given(self, invocation: Invocation, name: str, value: Any, recorded: Mapping[str, Any]) -> Any:
        if not isinstance(value, StepOutput) or value.name is None:
            return value
        artifact: Artifact = recorded[value.step].outputs[value.name]
        # read back even in this process, so that a step sees what was kept and none what another did to it since
        return artifact if wants_artifact(invocation.step.annotations.get(name, UNKNOWN)) else artifact.load()

    def _context(self, invocation: Invocation, step_id: str) -> StepContext:
        def record(key: str, value: Any) -> None:
            with self._database.write() as connection:
                rows.put_metadata(connection, step_id, key, value)

        return StepContext(self.run_name, self.plan.pipeline_name, invocation.name, record)

    def _keep(self, invocation: Invocation, returned: Any) -> list[dict[str, str]]:
        outputs = invocation.step.outputs
        values = returned if outputs.as_tuple else [returned][: len(outputs.annotations)]
        if outputs.as_tuple and (not isinstance(returned, tuple) or len(returned) != len(outputs.annotations)):
            raise PipelineError(
                f"The step {invocation.name!r} should return a tuple of {len(outputs.annotations)} "
                f"({', '.join(outputs.annotations)}), and returned {_described(returned)}.",
                "Return what its annotation says.",
            )
        kept = []
        for name, value in zip(outputs.annotations, values, strict=True):
            one = keep(self._store, f"{self.run_name}/{invocation.name}/{name}", value)
            kept.append({"name": name, "uri": one.uri, "type": one.type, "materializer": one.materializer})
        return kept

    def _end_step(self, step_id: str, status: RunStatus, error: BaseException) -> None:
        text = "".join(traceback.format_exception(error))[-_LONGEST_ERROR:]
        # not every database takes a NUL or half of a surrogate pair in a text
        text = text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
        with self._database.write() as connection:
            rows.end_step(connection, step_id, status, text)

    def _failure(self, invocation: Invocation, error: Exception) -> PipelineError:
        told, hint = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, None
        if isinstance(error, StackkitError):
            told, hint = error.message, error.hint
        return PipelineError(
            f"The step {invocation.name!r} of the run {self.run_name} failed: {told}",
            hint or f"See its traceback: stackkit pipeline runs describe {self.run_name}.",
        )


def _shown(value: Any) -> Any:
    """A pipeline's argument as it is recorded: as JSON where it has that form, else as Python would show it."""
    try:
        return json_value(value, repr)
    except ValueError:
        return repr(value)


def _described(returned: Any) -> str:
    return f"one of {len(returned)}" if isinstance(returned, tuple) else f"a {type(returned).__name__}"
