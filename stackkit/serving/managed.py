"""The managed mode: claim a folder, go to the background, and serve what its launch.json says.

The order is the point. The lock is taken before launch.json is read, and nothing is bound before its token has been
compared: of two starts that race, the one whose token the owner has since replaced ends without a trace.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import NoReturn

from . import claims
from .claims import ClaimError, Launch, Phase, ServerState
from .logs import LogFormat, LogWriter, RotatingFile
from .supervisor import Supervisor

logger = logging.getLogger("stackkit.serving.managed")

_CLAIMED = b"claimed"


def start(folder: Path, token: str, starter: int | None = None) -> int:
    """Start the supervisor of ``folder`` in the background.

    ``starter`` is a pipe whose other end is closed when whoever asked for this start has ended. One who ended before
    the lock was held cannot know of the server, and whoever looked meanwhile saw none: then nothing is started.

    Returns 0 once it holds the folder's lock and has found its own token there; otherwise 1, the reason on stderr.
    What becomes of the server from then on is in the folder's state.json.
    """
    folder = folder.absolute()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _background(folder, token, starter, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answer = answers.read()
    if answer == _CLAIMED:
        return 0
    reason = answer.decode("utf-8", "replace") or "the supervisor ended before it held the lock"
    sys.stderr.write(f"{reason}\n")
    os.waitpid(child, 0)
    return 1


def _background(folder: Path, token: str, starter: int | None, answers: int) -> NoReturn:
    status = 1
    try:
        try:
            launch, file = _claim(folder, token, starter)
        except (ClaimError, OSError) as error:
            os.write(answers, str(error).encode())
        else:
            os.write(answers, _CLAIMED)
            os.close(answers)
            status = _serve(folder, launch, file)
    finally:
        # the caller's stack lies below: its handlers and buffers are the parent's business
        os._exit(status)


def _claim(folder: Path, token: str, starter: int | None) -> tuple[Launch, RotatingFile]:
    """Leave the terminal, take the lock, and see whether this start is still wanted. Raises ClaimError, OSError."""
    os.setsid()
    for number in (signal.SIGHUP, signal.SIGUSR1):  # the supervisor will listen to the latter
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    os.chdir(folder)
    _release_terminal()
    _refuse_orphan(folder, starter)  # so that nobody sees a server in what is about to end
    claims.hold_lock(folder)
    try:
        launch = claims.read_launch(folder)
    except ClaimError as error:
        claims.write_state(folder, _unreadable(token, str(error)))
        raise
    if launch.token != token:
        raise ClaimError(f"this start of {folder} was superseded by another one")
    _refuse_orphan(folder, starter)
    if starter is not None:
        os.close(starter)
    path = claims.log_path(folder)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    return launch, RotatingFile(path, launch.log_max_bytes, launch.log_backups, also=(1, 2))


def _refuse_orphan(folder: Path, starter: int | None) -> None:
    """Raises ClaimError when whoever asked for this start has ended."""
    if starter is not None and select.select([starter], [], [], 0)[0]:  # nothing is ever written to it: this is its end
        raise ClaimError(f"whoever asked for this start of {folder} has ended")


def _serve(folder: Path, launch: Launch, file: RotatingFile) -> int:
    writer = LogWriter(file.write, LogFormat(launch.log_format))
    root = logging.getLogger("stackkit.serving")
    root.setLevel(logging.INFO)
    root.addHandler(writer)
    try:
        outcome = Supervisor(
            launch, writer, report=partial(claims.write_state, folder), reread=partial(claims.read_launch, folder)
        ).run()
    except Exception:
        logger.exception("the supervisor failed")
        raise
    finally:
        writer.close()
    return 1 if outcome.phase is Phase.FAILED else 0


def _unreadable(token: str, error: str) -> ServerState:
    return ServerState(
        token=token,
        revision=0,
        phase=Phase.FAILED,
        pid=os.getpid(),
        host="",
        port=None,
        error=error,
        since=time.time(),
    )


def _release_terminal() -> None:
    """Let go of the caller's streams: whoever reads them must not have to wait for this process."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
