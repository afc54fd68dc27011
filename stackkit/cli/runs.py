"""``stackkit pipeline runs``: what pipelines did."""

from __future__ import annotations

import re

import click

from .groups import Group
from .output import Column, Section, as_text, columns_of, output_option, print_details, print_list

_HEADER = re.compile(r"^Traceback \(most recent call last\):$", re.MULTILINE)
_FIELDS = ("id", "name", "pipeline_name", "stack_name", "status", "parameters", "started", "ended", "steps")
_LISTED = ("name", "pipeline_name", "status", "stack_name", "started", "ended")


@click.group("pipeline", cls=Group)
def pipeline() -> None:
    """Look at pipeline runs."""


@pipeline.group("runs", cls=Group)
def runs() -> None:
    """Look at pipeline runs."""


@runs.command("list")
@click.option("--pipeline", "pipeline_name", metavar="NAME", help="Only runs of this pipeline.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many at most.")
@output_option
def list_runs(pipeline_name: str | None, limit: int, output: str) -> None:
    """List the newest runs."""
    from ..client import Client

    rows = [run.as_dict() for run in Client().list_pipeline_runs(pipeline_name, limit)]
    empty = "There is no pipeline run yet." if pipeline_name is None else "That pipeline has no runs."
    print_list(rows, output, columns=columns_of(*_LISTED), fields=_FIELDS, empty=empty)


@runs.command("describe")
@click.argument("run")
@output_option
def describe(run: str, output: str) -> None:
    """Show a run, its steps and what they recorded. RUN is its name or UUID."""
    from ..client import Client

    values = Client().get_pipeline_run(run).as_dict()
    steps = values["steps"]
    outputs = [
        {"step": step["name"], "output": name, **made} for step in steps for name, made in step["outputs"].items()
    ]
    logged = [
        {"step": step["name"], "key": key, "value": value}
        for step in steps
        for key, value in step["run_metadata"].items()
    ]
    print_details(
        values,
        output,
        properties={field.upper(): values[field] for field in _FIELDS if field != "steps"},
        sections=[
            Section("Steps", [*columns_of("name", "status", "started", "ended"), Column("error", text=_reason)], steps),
            Section("Outputs", columns_of("step", "output", "type", "uri"), outputs),
            Section("Metadata", columns_of("step", "key", "value"), logged),
        ],
    )


def _reason(traceback: str | None) -> str:
    """The line of a traceback that says what went wrong; the other formats have all of it.

    It is the first behind the last traceback's frames. What follows in a message is a hint, or the end of a log.
    """
    raised = _HEADER.split(traceback or "")[-1].splitlines()
    return as_text(next((line for line in raised if line and not line.startswith(" ")), None))
