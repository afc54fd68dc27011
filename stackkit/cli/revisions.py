"""``models update | promote | abort | rollback | history``: a server's configurations, and what happened to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from .attributes import key_values, typed
from .interaction import note, timeout_option, waiting
from .models import HISTORY, HISTORY_COLUMNS, describe_service, find
from .output import Column, as_text, columns_of, output_option, print_list, without_blanks

if TYPE_CHECKING:
    from ..model_deployers import Service

_REVISION: tuple[str, ...] = ("number", "created", "model_uri", "model_digest", "config")


def _besides(config: Mapping[str, Any]) -> str:
    """What a configuration says beyond the columns beside it."""
    return as_text({field: value for field, value in without_blanks(config).items() if field not in _REVISION})


_REVISION_COLUMNS = [*columns_of(*_REVISION[:-1]), Column("config", text=_besides)]


@click.command("update")
@click.argument("uuid")
@click.option("--model-uri", help="The new model.  [default: the same URI, looked at anew]")
@click.option("--model-version", help="The new model's version.")
@click.option(
    "-c", "--config", metavar="KEY=VALUE", multiple=True, callback=key_values, help="A field that changes; see deploy."
)
@click.option(
    "--canary",
    type=click.IntRange(min=1, max=99),
    metavar="PERCENT",
    help="Have it answer that part of the requests, beside what serves, until it is promoted or aborted.",
)
@timeout_option
@output_option
def update(
    uuid: str,
    config: Mapping[str, str],
    canary: int | None,
    timeout: float | None,
    output: str,
    **named: str | None,
) -> None:
    """Give a server a new revision: what is not named stays as it is.

    When the new revision does not start, the old one serves again, and the error says why. With --canary alone the
    canary that is there answers another part of the requests.
    """
    service = find(uuid)
    given = {name: value for name, value in named.items() if value is not None}
    # one key of a nested field leaves the others as they are
    changes = {**given, **typed(service.deployer.service_config_class, config, service.stored()["config"])}
    with waiting(f"updating {service.name}") as progress:
        service = service.deployer.update_model_server(
            service, canary=canary, timeout=timeout, progress=progress, **changes
        )
    if service.canary is None:
        _note_revision(service)
    else:
        number, percent = service.canary.revision, service.canary.percent
        note(f"Revision {number} of {service.name!r} answers about {percent} % of its requests.")
    describe_service(service, output)


@click.command("promote")
@click.argument("uuid")
@timeout_option
@output_option
def promote(uuid: str, timeout: float | None, output: str) -> None:
    """Have a server's canary serve alone, in the place of the revision beside it."""
    service = find(uuid)
    with waiting(f"promoting the canary of {service.name}") as progress:
        service = service.deployer.promote_model_server(service, timeout=timeout, progress=progress)
    _note_revision(service)
    describe_service(service, output)


@click.command("abort")
@click.argument("uuid")
@timeout_option
@output_option
def abort(uuid: str, timeout: float | None, output: str) -> None:
    """Remove a server's canary, so that the revision beside it serves alone again."""
    service = find(uuid)
    with waiting(f"aborting the canary of {service.name}") as progress:
        service = service.deployer.abort_model_server(service, timeout=timeout, progress=progress)
    _note_revision(service)
    describe_service(service, output)


@click.command("rollback")
@click.argument("uuid")
@click.option("--to", type=click.IntRange(min=1), metavar="N", help="The revision.  [default: the one before]")
@timeout_option
@output_option
def rollback(uuid: str, to: int | None, timeout: float | None, output: str) -> None:
    """Have an earlier revision serve again, configuration and bytes, as a new one."""
    service = find(uuid)
    with waiting(f"rolling back {service.name}") as progress:
        service = service.deployer.rollback_model_server(service, to=to, timeout=timeout, progress=progress)
    _note_revision(service)
    describe_service(service, output)


@click.command("history")
@click.argument("uuid")
@click.option("--revisions", is_flag=True, help="The configurations that served, in place of what happened.")
@output_option
def history(uuid: str, revisions: bool, output: str) -> None:
    """Show what happened to a server, by its whole UUID also when it is gone."""
    from ..client import Client

    servers = Client().servers
    found = servers.revisions(uuid) if revisions else servers.history(uuid)
    fields = _REVISION if revisions else HISTORY
    print_list(
        ({field: each[field] for field in fields} for each in found),
        output,
        columns=_REVISION_COLUMNS if revisions else HISTORY_COLUMNS,
        fields=fields,
        empty="Nothing has happened yet.",
    )


def _note_revision(service: Service) -> None:
    note(f"Revision {service.revision} of {service.name!r}: {service.prediction_url or service.status.state.value}")
