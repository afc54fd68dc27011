"""The command line, the environment variables and the port that a model server is started with.

Every command is an argument list for an exec, never a line for a shell. ``-P`` keeps the working directory, and with
it whatever file happens to lie there, off the server's import path.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import InvalidConfigError

_GPUS = "CUDA_VISIBLE_DEVICES"
_FIRST_PORT, _PORTS = 20_000, 12_000  # below what the system gives to outgoing connections


def serve_command(reference: str, options: Mapping[str, str | int | float | None]) -> list[str]:
    """The command that serves a model in the foreground until it is signalled.

    ``reference`` is ``ResolvedModel.reference``. ``options`` are those of ``python -m stackkit.serving``, by the names
    of their fields in ``stackkit.serving.claims.Launch``; one that is None is left to the server.
    """
    return [*_server(None), reference, *_given(options)]


def predict_command(
    reference: str,
    source: Path,
    target: Path,
    params: Mapping[str, str],
    options: Mapping[str, str | int | None],
    python: str | None = None,
) -> list[str]:
    """The command that writes a model's predictions for the rows of ``source`` to ``target``.

    ``params`` are the model's; ``options`` are those of ``python -m stackkit.serving.batch``, of which one that is
    None is left to it. ``python`` is the interpreter that runs the model (None: this one).
    """
    given = [*_given(options), *(f"--param={name}={value}" for name, value in params.items())]
    return [*_server(python, "stackkit.serving.batch"), reference, f"--input={source}", f"--output={target}", *given]


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
    Where CUDA_VISIBLE_DEVICES is not set, it hides every GPU: a model takes none that nobody has named for it.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STACKKIT_")}
    return {_GPUS: "", **inherited, **extra}


def ports(service: uuid.UUID) -> Iterator[int]:
    """The ports that a service may be given when none was asked for: the same ones, in the same order, each time."""
    first = service.int % _PORTS
    return (_FIRST_PORT + (first + each) % _PORTS for each in range(_PORTS))


def check_gpus(gpus: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raises InvalidConfigError when one of ``gpus`` is hidden by CUDA_VISIBLE_DEVICES in ``environment``, a server's
    or this process's: whoever has set that has given it to somebody else.
    """
    visible = environment.get(_GPUS)
    if visible is None:
        return
    names = {name.strip() for name in visible.split(",")}
    if hidden := [gpu for gpu in gpus if gpu not in names]:
        raise InvalidConfigError(
            f"GPU {', '.join(hidden)} is hidden here: {_GPUS} is {visible!r}.",
            f"Name one of those, or change {_GPUS}.",
        )


def _server(python: str | None, module: str = "stackkit.serving") -> list[str]:
    return [python or sys.executable, "-P", "-m", module]


def _given(options: Mapping[str, str | int | float | None]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value is not None]
