"""Reading a server's rotated log."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from ..serving import claims

_POLL_SECONDS = 0.2


def read_log(folder: Path, *, follow: bool, tail: int | None, alive: Callable[[], bool]) -> Iterator[str]:
    """The lines of the log, oldest first: all or the last ``tail``, and with ``follow`` those to come while ``alive``.

    A rotation while following loses no line.
    """
    path = claims.log_path(folder)
    files = [*_rotated(path), path]
    lines = _lines(file for file in files if file.exists())
    position = _identity_and_size(path)
    yield from lines if tail is None else deque(lines, maxlen=tail)
    if follow:
        yield from _follow(path, position, alive)


def _rotated(path: Path) -> list[Path]:
    numbered = [
        (int(match[1]), file)
        for file in path.parent.glob(f"{path.name}.*")
        if (match := re.fullmatch(rf"{re.escape(path.name)}\.(\d+)", file.name))
    ]
    return [file for _, file in sorted(numbered, reverse=True)]


def _lines(files: Iterator[Path]) -> Iterator[str]:
    for file in files:
        with file.open(encoding="utf-8", errors="replace") as opened:
            for line in opened:
                yield line.rstrip("\n")


def _identity_and_size(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_ino, found.st_size


def _follow(path: Path, position: tuple[int, int], alive: Callable[[], bool]) -> Iterator[str]:
    inode, offset = position
    rest = ""
    while True:
        still_alive = alive()
        for file in (*_rotated(path)[-1:], path):
            found, size = _identity_and_size(file)
            if found == inode or (file == path and found):
                offset = offset if found == inode else 0
                inode = found
                if size > offset:
                    with file.open("rb") as opened:
                        opened.seek(offset)
                        data = opened.read(size - offset)
                    offset += len(data)
                    *lines, rest = (rest + data.decode("utf-8", "replace")).split("\n")
                    yield from lines
        if not still_alive and _identity_and_size(path) == (inode, offset):
            if rest:
                yield rest
            return
        # a regular file tells nobody that it grew; inotify would, on one operating system
        time.sleep(_POLL_SECONDS)
