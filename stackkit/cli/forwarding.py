"""``models port-forward``: a port of this machine that leads to a server."""

from __future__ import annotations

import contextlib
import signal
import threading

import click

from .interaction import note
from .models import find


@click.command("port-forward")
@click.argument("uuid")
@click.option("--port", type=click.IntRange(1, 65535), metavar="N", help="The local port.  [default: one that is free]")
def port_forward(uuid: str, port: int | None) -> None:
    """Open a local port that leads to a server, until Ctrl-C.

    It is on loopback; its address is printed.
    """
    service = find(uuid)
    stop = threading.Event()
    with service.deployer.port_forward(service, port) as url:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        click.echo(url)
        note(f"Forwarding to {service.name!r} until Ctrl-C.")
        with contextlib.suppress(KeyboardInterrupt):
            stop.wait()
