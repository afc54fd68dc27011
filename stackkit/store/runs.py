"""The rows of pipeline runs: their steps, and what those recorded and gave.

Every function takes a connection and does one statement or a few; what a status means is the business of
``stackkit.pipelines``.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from .clock import now
from .tables import artifacts, run_metadata, run_steps, runs


def insert_run(connection: Connection, values: Mapping[str, Any], steps: Sequence[str], step_status: str) -> bool:
    """Add a run that starts now, and its steps in their order; False, and no change, when its name is taken."""
    try:
        with connection.begin_nested():
            connection.execute(insert(runs).values(**values, started=now()))
    except IntegrityError:
        return False
    for position, name in enumerate(steps):
        connection.execute(
            insert(run_steps).values(
                id=str(uuid.uuid4()), run_id=values["id"], name=name, position=position, status=step_status
            )
        )
    return True


def start_step(connection: Connection, step_id: str, status: str) -> None:
    connection.execute(update(run_steps).where(run_steps.c.id == step_id).values(status=status, started=now()))


def end_step(connection: Connection, step_id: str, status: str, error: str | None = None) -> None:
    values = {"status": status, "ended": now(), "error": error}
    connection.execute(update(run_steps).where(run_steps.c.id == step_id).values(**values))


def end_run(connection: Connection, run_id: str, status: str, *, pending: str, skipped: str) -> None:
    """End a run; its steps that are still ``pending`` become ``skipped``."""
    connection.execute(update(runs).where(runs.c.id == run_id).values(status=status, ended=now()))
    never_started = (run_steps.c.run_id == run_id, run_steps.c.status == pending)
    connection.execute(update(run_steps).where(*never_started).values(status=skipped))


def put_metadata(connection: Connection, step_id: str, key: str, value: Any) -> None:
    """Record a JSON value for a step, in place of the one that ``key`` had."""
    same = (run_metadata.c.step_id == step_id, run_metadata.c.key == key)
    connection.execute(delete(run_metadata).where(*same))
    connection.execute(insert(run_metadata).values(step_id=step_id, key=key, value=value))


def insert_artifact(connection: Connection, values: Mapping[str, Any]) -> None:
    """Record an output of a step (``step_id``, ``name``, ``uri``, ``type``, ``materializer``)."""
    connection.execute(insert(artifacts).values(id=str(uuid.uuid4()), created=now(), **values))


def get(connection: Connection, name_or_id: str) -> RowMapping | None:
    query = select(runs).where(or_(runs.c.name == name_or_id, runs.c.id == name_or_id))
    return connection.execute(query).mappings().first()


def newest(connection: Connection, pipeline_name: str | None, limit: int) -> Sequence[RowMapping]:
    """The runs that were started last, the newest first."""
    query = select(runs).order_by(runs.c.started.desc(), runs.c.name.desc()).limit(limit)
    if pipeline_name is not None:
        query = query.where(runs.c.pipeline_name == pipeline_name)
    return connection.execute(query).mappings().all()


def steps_of(connection: Connection, run_ids: Sequence[str]) -> Sequence[RowMapping]:
    """The steps of these runs, each run's in their order."""
    query = select(run_steps).where(run_steps.c.run_id.in_(run_ids)).order_by(run_steps.c.position)
    return connection.execute(query).mappings().all()


def metadata_of(connection: Connection, run_ids: Sequence[str]) -> Sequence[RowMapping]:
    """The metadata of these runs' steps, by key."""
    query = (
        select(run_metadata)
        .join(run_steps, run_steps.c.id == run_metadata.c.step_id)
        .where(run_steps.c.run_id.in_(run_ids))
        .order_by(run_metadata.c.key)
    )
    return connection.execute(query).mappings().all()


def artifacts_of(connection: Connection, run_ids: Sequence[str]) -> Sequence[RowMapping]:
    """The outputs of these runs' steps, by name."""
    query = (
        select(artifacts)
        .join(run_steps, run_steps.c.id == artifacts.c.step_id)
        .where(run_steps.c.run_id.in_(run_ids))
        .order_by(artifacts.c.name)
    )
    return connection.execute(query).mappings().all()
