"""``models transform`` and ``models transforms``: a model run over data in a platform's storage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .attributes import key_values, typed
from .durations import Seconds
from .groups import Group
from .interaction import note, waiting
from .output import columns_of, output_option, print_details, print_list

if TYPE_CHECKING:
    from ..model_deployers import BatchTransforms, Transform

_FIELDS = ("name", "state", "model_uri", "input_uri", "output_uri", "created", "ended", "message", "details")
_LISTED = ("state", "name", "model_uri", "output_uri", "created")

deployer_option = click.option("--deployer", help="The model deployer.  [default: the active stack's]")
timeout_option = click.option(
    "--timeout", type=Seconds(min=0), metavar="SECONDS", help="How long to wait.  [default: until the end]"
)


@click.command("transform")
@click.argument("model_uri")
@click.option("--input", "input_uri", required=True, metavar="URI", help="Where the data is.")
@click.option("--output", "output_uri", required=True, metavar="URI", help="Where the answers go.")
@deployer_option
@click.option(
    "-c",
    "--config",
    metavar="KEY=VALUE",
    multiple=True,
    callback=key_values,
    help="A field of the flavor's transforms.",
)
@click.option("--again", is_flag=True, help="Run it again although the same has completed.")
@click.option("--wait/--no-wait", default=True, help="Wait for the end, or return when it has begun.")
@timeout_option
def transform(
    model_uri: str,
    input_uri: str,
    output_uri: str,
    deployer: str | None,
    config: Mapping[str, str],
    again: bool,
    wait: bool,
    timeout: float | None,
) -> None:
    """Run a model over data in the platform's storage, and print the job's name.

    It is a job of the platform and no server. Asking for the same again finds the job that runs or has completed.
    Ctrl-C ends the wait, not the job.
    """
    jobs = _transforms(deployer)
    fields = {**typed(jobs.config_class, config), "model_uri": model_uri}
    fields |= {"input_uri": input_uri, "output_uri": output_uri}
    with waiting(f"transforming {input_uri}") as progress:
        found = jobs.run(again=again, wait=wait, timeout=timeout, progress=progress, **fields)
    note(f"{found.state.value.capitalize()}: {found.output_uri}")
    click.echo(found.name)


@click.group("transforms", cls=Group)
def transforms() -> None:
    """See, await and stop batch transforms."""


@transforms.command("list")
@deployer_option
@output_option
def list_transforms(deployer: str | None, output: str) -> None:
    """List the batch transforms of a deployer's platform, newest first."""
    print_list(
        map(_shown, _transforms(deployer).list()),
        output,
        columns=columns_of(*_LISTED),
        fields=_FIELDS,
        empty="There is no batch transform yet. "
        "Run one: stackkit model-deployer models transform MODEL_URI --input URI --output URI",
    )


@transforms.command("describe")
@click.argument("name")
@deployer_option
@output_option
def describe(name: str, deployer: str | None, output: str) -> None:
    """Show all that is known of a batch transform."""
    print_details(_shown(_transforms(deployer).get(name)), output)


@transforms.command("wait")
@click.argument("name")
@deployer_option
@timeout_option
@output_option
def wait_for(name: str, deployer: str | None, timeout: float | None, output: str) -> None:
    """Wait until a batch transform has ended; fails when it did."""
    with waiting(f"waiting for {name}") as progress:
        found = _transforms(deployer).wait(name, timeout=timeout, progress=progress)
    print_details(_shown(found), output)


@transforms.command("stop")
@click.argument("name")
@deployer_option
@timeout_option
def stop(name: str, deployer: str | None, timeout: float | None) -> None:
    """Stop a batch transform, and remove what was made for it except for its output."""
    with waiting(f"stopping {name}") as progress:
        found = _transforms(deployer).stop(name, timeout=timeout, progress=progress)
    note(f"{found.name}: {found.state.value}")


def _transforms(deployer: str | None) -> BatchTransforms:
    from ..client import Client

    return Client().model_deployer(deployer).transforms


def _shown(found: Transform) -> dict[str, Any]:
    return asdict(found)
