"""The lines of a file, cut without looking at what is in them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import IO

_BYTES = "latin-1"
"""Reads each byte as one character. What may end a line, or be a quote, is never part of another one in UTF-8."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf".decode(_BYTES)


@contextmanager
def lines_of(content: IO[bytes]) -> Iterator[Iterator[str]]:
    """The lines with what ends them, be it \\n, \\r\\n or \\r; ``content`` stays open."""
    text = io.TextIOWrapper(content, encoding=_BYTES, newline="")
    try:
        yield text
    finally:
        text.detach()


def to_bytes(lines: Sequence[str]) -> bytes:
    """The bytes that the lines were read from."""
    return "".join(lines).encode(_BYTES)


@dataclass(frozen=True)
class Lines:
    """Some of the file's lines, of which ``first`` stand before them; lines without anything on them are no rows.

    ``starts`` says in which of the lines each row begins, where a row may be several.
    """

    first: int
    lines: Sequence[str]
    starts: Sequence[int] | None = None

    @property
    def rows(self) -> int:
        if self.starts is not None:
            return len(self.starts)
        return len(self.lines) - sum(map(str.isspace, self.lines))

    def start(self, row: int) -> int:
        """In which of the lines a row begins."""
        if self.starts is not None:
            return self.starts[row]
        begins = (number for number, line in enumerate(self.lines) if not line.isspace())
        return next(islice(begins, row, None))

    def __str__(self) -> str:
        first, last = self.first + 1, self.first + len(self.lines)
        return f"line {last}" if first == last else f"lines {first} to {last}"

    def of(self, row: int) -> str:
        return f"line {self.first + self.start(row) + 1}"
