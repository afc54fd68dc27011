"""How far it is, on one line of a terminal that is written over and over. Standard library only."""

from __future__ import annotations

import shutil
import time
from typing import TextIO

_INTERVAL = 0.1
_WIDTH = 24
_CLEAR = "\r\x1b[K"


class ProgressBar:
    """Says nothing where ``stream`` is no terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_shown = stream.isatty()
        self._begun = time.monotonic()
        self._next = 0.0

    def show(self, rows: int, part: float | None) -> None:
        """``rows`` have been predicted, which are that ``part`` of the file, from 0 to 1; None when nobody knows."""
        now = time.monotonic()
        if not self._is_shown or now < self._next:
            return
        self._next = now + _INTERVAL
        minutes, seconds = divmod(int(now - self._begun), 60)
        text = f"{rows:,} rows  {minutes}:{seconds:02}"
        if part is not None:
            filled = round(min(part, 1.0) * _WIDTH)
            text = f"{'━' * filled}{'─' * (_WIDTH - filled)} {min(part, 1.0):4.0%}  {text}"
        self._write(_CLEAR + text[: shutil.get_terminal_size().columns - 1])

    def say(self, text: str) -> None:
        """Show a text until there is something to show; the line is not ended."""
        if self._is_shown:
            self._write(_CLEAR + text)

    def clear(self) -> None:
        if self._is_shown:
            self._write(_CLEAR)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
