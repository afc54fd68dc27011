"""``stackkit serve``: a model server in the foreground."""

from __future__ import annotations

import os

import click

from .interaction import note, waiting


@click.command("serve")
@click.argument("model_uri")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="The port; 0 takes any free one."
)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="How many processes answer.")
@click.option(
    "--request-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="How long one request may take.",
)
def serve(model_uri: str, host: str, port: int, workers: int, request_timeout: float) -> None:
    """Serve a model in the foreground, until Ctrl-C.

    The server is in no table and ends with this command. To have one that stays: model-deployer models deploy.
    """
    from ..client import Client

    with waiting("resolving the model") as progress:
        command, environment = Client().serve_command(
            model_uri, host=host, port=port, workers=workers, request_timeout=request_timeout, progress=progress
        )
    note(f"Serving {model_uri}; Ctrl-C ends it.")
    os.execve(command[0], command, environment)  # noqa: S606 - the server takes this process's place and signals
