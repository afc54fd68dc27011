"""A part of the input: what the model is given at once, and where in the file it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ..payloads import Payload


class Place(Protocol):
    """Where rows stand in the file, in words for people, who count from 1."""

    def __str__(self) -> str:
        """All of the rows."""

    def of(self, row: int) -> str:
        """One of them, counted from 0."""


@dataclass(frozen=True)
class Chunk:
    """Rows of a table, or instances of another kind, that are given to the model at once.

    A document that was written as one request is one chunk, whatever it holds: it has neither ``rows`` nor a
    ``place``. ``params`` are those that it names.
    """

    data: Payload
    rows: int | None
    place: Place | None
    params: Any = None

    def diagnose(self) -> str | None:
        """Which row the server's reader cannot make sense of, and why; None when that is not known."""
        return None


@dataclass(frozen=True)
class Rows:
    """Some of the file's rows, of which ``first`` stand before them."""

    first: int
    count: int

    def __str__(self) -> str:
        first, last = self.first + 1, self.first + self.count
        return f"row {last}" if first == last else f"rows {first} to {last}"

    def of(self, row: int) -> str:
        return f"row {self.first + row + 1}"
