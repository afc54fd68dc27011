"""The command line and the environment that a model server is started with.

Every command is an argument list for an exec, never a line for a shell. ``-P`` keeps the working directory, and with
it whatever file happens to lie there, off the server's import path.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def serve_command(
    reference: str,
    *,
    format: str | None = None,  # noqa: A002 - what the field and the command line's option are called
    host: str,
    port: int,
    workers: int,
    request_timeout: float,
    python: str | None = None,
) -> list[str]:
    """The command that serves a model in the foreground until it is signalled.

    ``reference`` is ``ResolvedModel.reference``, ``format`` its format (None: the server finds out), ``port`` 0 lets
    the operating system choose, ``request_timeout`` is in seconds. ``python`` is the interpreter that runs it (None:
    this one).
    """
    command = [
        *_server(python),
        reference,
        "--host",
        host,
        "--port",
        str(port),
        "--workers",
        str(workers),
        "--request-timeout",
        f"{request_timeout:g}",
    ]
    return command if format is None else [*command, "--format", format]


def claim_command(folder: Path, token: str, starter: int) -> list[str]:
    """The command that starts a managed model server in the background: it locks ``folder``, checks that the launch
    written there bears ``token``, and exits 0 once a daemon of its own holds the folder.

    ``starter`` is the reading end of a pipe, to be passed on, whose writing end the caller holds open until then: a
    caller who is killed before leaves no server behind that comes up when nobody expects it any more.
    """
    return [*_server(None), "--claim", str(folder), token, "--starter", str(starter)]


def server_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment variables of a model server: this process's, with ``extra`` on top.

    Our own STACKKIT_* variables are left out: the database's URL and the secret key are no business of the model's.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STACKKIT_")}
    return {**inherited, **extra}


def _server(python: str | None) -> list[str]:
    return [python or sys.executable, "-P", "-m", "stackkit.serving"]
