"""One line for each request, gathered and written ten times a second: one write each would cost more than the request
takes to be read and answered.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import time
from collections.abc import Callable

from .logs import LogFormat
from .routing import Request

_INTERVAL = 0.1
_NAME = "stackkit.serving.access"
_PID = os.getpid()


class AccessLog:
    """Says of each request what was asked, what became of it, how long that took and with how many rows the model was
    called for it; never what it held. ``write`` gets whole lines, and must not raise.
    """

    def __init__(self, write: Callable[[bytes], object], log_format: LogFormat = LogFormat.TEXT) -> None:
        self._write = write
        self._describe = _as_json if log_format is LogFormat.JSON else _as_text
        self._lines: list[str] = []

    def add(self, request: Request, outcome: str, seconds: float) -> None:
        """Note a request that has been answered. Called in the event loop, which writes it a little later."""
        if not self._lines:
            asyncio.get_running_loop().call_later(_INTERVAL, self.flush)
        self._lines.append(self._describe(request, outcome, seconds))

    def flush(self) -> None:
        """Write what has been noted."""
        lines, self._lines = self._lines, []
        if lines:
            self._write("".join(lines).encode("utf-8", "backslashreplace"))


def write_to_pipe(data: bytes) -> None:
    """Write lines to this process's stderr, in pieces so small that no other thread's line can come between."""
    while data:
        cut = data.rfind(b"\n", 0, select.PIPE_BUF) + 1 or select.PIPE_BUF
        os.write(2, data[:cut])
        data = data[cut:]


def _as_text(request: Request, outcome: str, seconds: float) -> str:
    batch = "" if request.batch_size is None else f" batch={request.batch_size}"
    now = time.time()
    return (
        f"{_clock(int(now))},{int(now % 1 * 1000):03d} INFO {_NAME}[{_PID}]: "
        f"{request.method} {request.path} {outcome} {seconds * 1000:.1f} ms{batch}\n"
    )


def _as_json(request: Request, outcome: str, seconds: float) -> str:
    entry = {
        "time": round(time.time(), 3),
        "level": "INFO",
        "logger": _NAME,
        "pid": _PID,
        "method": request.method,
        "path": request.path,
        "status": outcome,
        "ms": round(seconds * 1000, 3),
        "batch_rows": request.batch_size,
    }
    return json.dumps(entry) + "\n"


_last_clock = (0, "")


def _clock(second: int) -> str:
    """The local time as it stands in the other lines. It costs as much as the rest of the line: once a second only."""
    global _last_clock
    if _last_clock[0] != second:
        _last_clock = (second, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second)))
    return _last_clock[1]
