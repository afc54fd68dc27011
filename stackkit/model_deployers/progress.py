"""How an operation tells what it is waiting for."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]


def silent(text: str) -> None:
    """The progress of somebody who does not watch."""
