"""Where log lines go: a writer that never holds anybody up, and a file that is rotated by size."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path


class LogFormat(StrEnum):
    """How the server's lines look. What the model prints is passed on as it is."""

    TEXT = "text"
    JSON = "json"

    def formatter(self) -> logging.Formatter:
        return _JsonFormatter() if self is LogFormat.JSON else logging.Formatter(_TEXT)


_TEXT = "%(asctime)s %(levelname)s %(name)s[%(process)d]: %(message)s"

_CAPACITY = 4 * 1024 * 1024


class _JsonFormatter(logging.Formatter):
    """One object a line; a traceback is text in it."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": round(record.created, 3),
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


class LogWriter(logging.Handler):
    """Hands lines to ``write`` on a thread of its own.

    When the disk is slower than the lines come, those beyond 4 MiB are dropped and counted: the supervisor and the
    workers must never wait for it. An OSError of ``write`` costs the lines it was given, nothing more.
    """

    def __init__(self, write: Callable[[bytes], None], log_format: LogFormat = LogFormat.TEXT) -> None:
        super().__init__()
        self.setFormatter(log_format.formatter())
        self._write = write
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        self.put(self.format(record).encode("utf-8", "backslashreplace") + b"\n")

    def put(self, line: bytes) -> None:
        """Queue whole lines, their newlines included. Never waits; a no-op after ``close``."""
        with self._changed:
            if self._closing:
                return
            if self._size + len(line) > _CAPACITY:
                self._dropped += line.count(b"\n")
                return
            self._lines.append(line)
            self._size += len(line)
            self._changed.notify()

    def close(self) -> None:
        """Write what is queued and end the thread; give up on a disk that takes longer than 5 seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout=5)
        super().close()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._lines and not self._closing:
                    self._changed.wait()
                if not self._lines:
                    return
                data = b"".join(self._lines)
                if self._dropped:
                    data += b"(%d log lines were dropped: the log cannot be written fast enough)\n" % self._dropped
                self._lines.clear()
                self._size = self._dropped = 0
            try:
                self._write(data)
            except OSError:
                continue  # there is no better place to say it


class RotatingFile:
    """An append-only file that becomes ``<name>.1`` when it would exceed ``max_bytes``; ``backups`` pieces are kept.

    ``also`` are descriptors that are to lead to the file too, kept so across rotations: with 1 and 2 a crash of this
    very process is in the log.
    """

    def __init__(self, path: Path, max_bytes: int, backups: int, also: tuple[int, ...] = ()) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._backups = backups
        self._also = also
        self._open()

    def write(self, data: bytes) -> None:
        """Append ``data``, rotating between its lines as often as needed. Raises OSError."""
        fits = self._size + len(data) <= self._max_bytes
        for piece in [data] if fits else data.splitlines(keepends=True):
            if self._size and self._size + len(piece) > self._max_bytes:
                self._rotate()
            os.write(self._descriptor, piece)
            self._size += len(piece)

    def close(self) -> None:
        os.close(self._descriptor)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._descriptor).st_size
        for descriptor in self._also:
            os.dup2(self._descriptor, descriptor)

    def _rotate(self) -> None:
        pieces = [self._path, *(self._path.with_name(f"{self._path.name}.{n + 1}") for n in range(self._backups))]
        pieces[-1].unlink(missing_ok=True)
        for older, newer in zip(reversed(pieces), reversed(pieces[:-1]), strict=False):
            if newer.exists():
                newer.rename(older)
        before = self._descriptor
        self._open()  # where that fails, writing goes on to the old one
        os.close(before)


def stderr_writer(data: bytes) -> None:
    """Write all of ``data`` to this process's stderr. Raises OSError."""
    while data:
        data = data[os.write(2, data) :]
