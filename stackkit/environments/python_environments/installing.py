"""Running an installer: its progress, its deadline, and its end with ours."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ...errors import DeploymentTimeoutError, ModelError
from .reasons import reason

_OTHER_PLACES = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")
_SILENCERS = ("PIP_QUIET",)  # its progress is shown, and its reason when it fails
_KEPT_LINES = 400
_PROGRESS = re.compile(r"(Collecting|Downloading|Building|Installing|Preparing|Resolved|Prepared|Installed)\b.*")


def run(
    command: Sequence[str], *, folder: Path, lock: int, progress: Callable[[str], None], deadline: float | None
) -> None:
    """Run an installer in ``folder`` to its end.

    ``lock`` is a locked descriptor that it inherits: if this process is killed, nobody touches the folder before the
    installer has ended. ``deadline`` is by time.monotonic(). Whatever ends this early ends the installer with all that
    it has started. Raises ModelError with the installer's own reason, and DeploymentTimeoutError.
    """
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=install_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(lock,),
            start_new_session=True,
        )
    except OSError as error:
        raise ModelError(f"{command[0]} cannot be started: {error.strerror or error}.") from error
    try:
        lines = _read(process, progress, deadline)
        status = process.wait()
    finally:
        with suppress(ProcessLookupError):  # what it started may still write
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    if status != 0:
        raise ModelError(reason(lines) or f"{Path(command[0]).name} ended with exit code {status}")


def install_environment() -> dict[str, str]:
    """The variables of an installer: this process's, with the settings of proxies, certificates, pip and uv among
    them, without what would mix another environment into the new one or silence the installer, and without our own.
    """
    passed = {
        name: value
        for name, value in os.environ.items()
        if name not in (*_OTHER_PLACES, *_SILENCERS) and not name.startswith("STACKKIT_")
    }
    return {**passed, "PYTHONUNBUFFERED": "1"}


def _read(process: subprocess.Popen[bytes], progress: Callable[[str], None], deadline: float | None) -> list[str]:
    """The last lines that it said, once it has closed its output."""
    stream = process.stdout
    if stream is None:
        return []
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if (left is not None and left <= 0) or not selector.select(left):
                raise DeploymentTimeoutError(
                    f"The model's environment was not built in time; it was still at: {kept[-1] if kept else 'start'}.",
                    "Give it more time with --timeout (timeout=…), or build it ahead: stackkit model prepare-env URI.",
                )
            received = os.read(stream.fileno(), 65536)
            *lines, rest = (rest + received).split(b"\n")
            if not received and rest:
                lines, rest = [rest], b""
            for line in lines:
                text = line.decode("utf-8", "replace").rstrip()
                kept.append(text)
                if found := _PROGRESS.search(text):
                    progress(found[0])
            if not received:
                return list(kept)
