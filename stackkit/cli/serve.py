"""``stackkit serve``: a model server in the foreground."""

from __future__ import annotations

import os
from typing import Any

import click

from ..serving import claims
from ..serving.batching import DEFAULT_MAX_BATCH_SIZE, Batching
from ..serving.logs import LogFormat
from ..serving.signature import Casting
from .durations import Seconds
from .environment import manager_option, told
from .interaction import note, waiting

_FILE = click.Path(exists=True, dir_okay=False, readable=True, resolve_path=True)


@click.command("serve")
@click.argument("model_uri")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="The port; 0 takes any free one."
)
@click.option(
    "--workers", type=click.IntRange(min=1), help="How many processes answer.  [default: 1, or one for each of --gpus]"
)
@click.option(
    "--request-timeout",
    type=Seconds(min=0, min_open=True),
    default=claims.DEFAULT_REQUEST_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="How long one request may take.",
)
@click.option(
    "--max-body",
    type=click.IntRange(min=1),
    default=claims.DEFAULT_MAX_BODY,
    show_default=True,
    metavar="BYTES",
    help="How large a request may be.",
)
@click.option(
    "--batching",
    type=click.Choice([each.value for each in Batching]),
    default=Batching.AUTO.value,
    show_default=True,
    help="Answer requests that wait together by one call of the model: on, off, or where that is safe.",
)
@click.option(
    "--max-batch-size",
    type=click.IntRange(min=1),
    default=DEFAULT_MAX_BATCH_SIZE,
    show_default=True,
    metavar="ROWS",
    help="The most rows in one such call.",
)
@click.option(
    "--casting",
    type=click.Choice([each.value for each in Casting]),
    default=Casting.EXACT.value,
    show_default=True,
    help="Refuse input that would lose something, or cast it as MLflow does.",
)
@click.option("--token-file", type=_FILE, help="Holds the bearer token that requests must bear.")
@click.option("--certfile", type=_FILE, help="A certificate chain in PEM, for TLS.")
@click.option("--keyfile", type=_FILE, help="Its private key, when it is not in the same file.")
@click.option("--model-name", metavar="NAME", help="What clients call the model.  [default: its file's name]")
@click.option("--gpus", metavar="DEVICE,…", help="A device for each worker, as CUDA_VISIBLE_DEVICES names them.")
@click.option(
    "--log-format",
    type=click.Choice([each.value for each in LogFormat]),
    default=LogFormat.TEXT.value,
    show_default=True,
    help="Of the log.",
)
@manager_option
def serve(model_uri: str, env_manager: str | None, **options: Any) -> None:
    """Serve a model in the foreground, until Ctrl-C.

    The server is in no table and ends with this command. To have one that stays: model-deployer models deploy.
    """
    from ..client import Client

    if options["keyfile"] and not options["certfile"]:
        raise click.UsageError("--keyfile needs --certfile.")
    with waiting("resolving the model") as progress:
        server = Client().serve_command(model_uri, options, env_manager=env_manager, progress=progress)
    told(server.environment.differences, server.environment.manager)
    note(f"Serving {model_uri}; Ctrl-C ends it.")
    # the server takes this process's place and signals
    os.execve(server.arguments[0], server.arguments, server.variables)  # noqa: S606
