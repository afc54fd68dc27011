"""Pipeline runs as the database knows them: what ran, how it ended, and what it gave."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, RowMapping

from ..errors import NotFoundError
from ..store import Database
from ..store import runs as rows
from .artifacts import Artifact


class RunStatus(StrEnum):
    """How a run or a step is.

    A pending step has not begun; a skipped one never will, because one before it failed. One whose process was killed
    stays as it was: running.
    """

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class MetadataValue:
    """A JSON value that a step logged."""

    value: Any


@dataclass(frozen=True)
class StepRun:
    """One step of a run. ``error`` is the traceback of a step that failed; times are UTC."""

    id: str
    name: str
    status: RunStatus
    started: datetime | None
    ended: datetime | None
    error: str | None
    outputs: Mapping[str, Artifact]
    run_metadata: Mapping[str, MetadataValue]

    def as_dict(self) -> dict[str, Any]:
        """Everything about the step by field name; an output is its URI and type."""
        return {
            "name": self.name,
            "status": self.status.value,
            "started": self.started,
            "ended": self.ended,
            "error": self.error,
            "outputs": {name: {"uri": one.uri, "type": one.type} for name, one in self.outputs.items()},
            "run_metadata": {key: logged.value for key, logged in self.run_metadata.items()},
        }


@dataclass(frozen=True)
class PipelineRun:
    """One run of a pipeline, as it was when it was read. ``steps`` are in the order in which they run."""

    id: str
    name: str
    pipeline_name: str
    stack_name: str
    status: RunStatus
    parameters: Mapping[str, Any]
    started: datetime
    ended: datetime | None
    steps: Mapping[str, StepRun]

    def as_dict(self) -> dict[str, Any]:
        """Everything about the run by field name, its steps as a list."""
        return {
            "id": self.id,
            "name": self.name,
            "pipeline_name": self.pipeline_name,
            "stack_name": self.stack_name,
            "status": self.status.value,
            "parameters": dict(self.parameters),
            "started": self.started,
            "ended": self.ended,
            "steps": [step.as_dict() for step in self.steps.values()],
        }


class RunStore:
    """The pipeline runs of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name_or_id: str) -> PipelineRun:
        """A run by its name or UUID. Raises NotFoundError."""
        with self._database.read() as connection:
            row = rows.get(connection, name_or_id)
            if row is None:
                raise NotFoundError(
                    f"There is no pipeline run {name_or_id!r}.", "See what there is: stackkit pipeline runs list."
                )
            return self._assembled(connection, [row])[0]

    def list(self, pipeline_name: str | None = None, limit: int = 20) -> Sequence[PipelineRun]:
        """The newest runs, the newest first."""
        with self._database.read() as connection:
            return self._assembled(connection, rows.newest(connection, pipeline_name, limit))

    def _assembled(self, connection: Connection, found: Sequence[RowMapping]) -> Sequence[PipelineRun]:
        ids = [row["id"] for row in found]
        logged: dict[str, dict[str, MetadataValue]] = defaultdict(dict)
        for row in rows.metadata_of(connection, ids):
            logged[row["step_id"]][row["key"]] = MetadataValue(row["value"])
        outputs: dict[str, dict[str, Artifact]] = defaultdict(dict)
        for row in rows.artifacts_of(connection, ids):
            outputs[row["step_id"]][row["name"]] = Artifact.from_row(row, self._database)
        steps: dict[str, dict[str, StepRun]] = defaultdict(dict)
        for row in rows.steps_of(connection, ids):
            steps[row["run_id"]][row["name"]] = StepRun(
                id=row["id"],
                name=row["name"],
                status=RunStatus(row["status"]),
                started=row["started"],
                ended=row["ended"],
                error=row["error"],
                outputs=outputs[row["id"]],
                run_metadata=logged[row["id"]],
            )
        return [PipelineRun(**{**row, "status": RunStatus(row["status"])}, steps=steps[row["id"]]) for row in found]
