"""``model-deployer watch``, ``models prune`` and ``models adopt``: keeping the table and the platforms tidy."""

from __future__ import annotations

import signal
import threading
from datetime import timedelta

import click

from ..errors import DeploymentError, StackkitError
from .durations import Duration, Seconds
from .interaction import confirm_deletion, note, timeout_option, waiting, yes_option
from .models import describe_service
from .output import columns_of, output_option, print_list
from .text import printable


@click.command("watch")
@click.option(
    "--interval",
    type=Seconds(min=0.1),
    default=5,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait between two looks.",
)
def watch(interval: float) -> None:
    """Keep every server at its target, in the foreground, until Ctrl-C or SIGTERM.

    Starts again what died, with pauses, and finishes what was interrupted. After several deaths in a row it stops
    trying and says so. Any number of watchers may share a database.
    """
    from ..client import Client

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    note(f"Watching every {interval:g} seconds.")
    Client().watch(interval=interval, report=lambda line: click.echo(printable(line)), stop=stop)


@click.command("prune")
@click.option(
    "--older-than",
    type=Duration(),
    default="7d",
    show_default=True,
    metavar="DURATION",
    help="How long a server must have been in error or stopped, such as 30m, 12h or 7d.",
)
@yes_option
@timeout_option
def prune(older_than: timedelta, yes: bool, timeout: float | None) -> None:
    """Delete the servers that have been in error or stopped for long.

    What an interrupted deploy has left of its model's files goes without a question: no server names it.
    """
    from ..client import Client

    servers = Client().servers
    if swept := servers.sweep():
        note(f"Removed the files of {len(swept)} {'model' if len(swept) == 1 else 'models'} that no server names.")
    stale = servers.stale(older_than)
    if not stale:
        note("There is no server to prune.")
        return
    for service in stale:
        note(f"{service.id}  {service.status.state.value:8}  {service.name}")
    confirm_deletion(f"these {len(stale)} model servers", yes)
    failed = 0
    for service in stale:
        try:
            with waiting(f"deleting {service.name}"):
                is_pruned = servers.prune(service, timeout=timeout)
        except StackkitError as error:  # the others are not to wait until this one can be deleted
            failed += 1
            note(f"{service.name!r} could not be deleted: {error.message}")
            continue
        if is_pruned:
            click.echo(service.id)
        else:
            note(f"{service.name!r} was left alone: it is not what it was any more.")
    if failed:
        raise DeploymentError(
            f"{failed} of {len(stale)} model servers could not be deleted.",
            "Where the platform is gone for good, drop the row: stackkit model-deployer models delete UUID --forget.",
        )


@click.command("adopt")
@click.argument("uuid", required=False)
@click.option("--deployer", help="The model deployer.  [default: the active stack's]")
@output_option
def adopt(uuid: str | None, deployer: str | None, output: str) -> None:
    """Give a server that runs and lost its row that row back; without UUID, list such servers."""
    from ..client import Client

    found = Client().model_deployer(deployer)
    if uuid is None:
        print_list(
            ({"uuid": each.service_id, "model_name": each.config.get("model_name")} for each in found.find_orphans()),
            output,
            columns=columns_of("uuid", "model_name"),
            fields=("uuid", "model_name"),
            empty="Every server that runs has its row.",
        )
        return
    service = found.adopt_model_server(uuid)
    note(f"Adopted {service.name!r}: {service.prediction_url or service.status.state.value}")
    describe_service(service, output)
