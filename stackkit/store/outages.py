"""Waiting for a database that went away in the middle of an operation."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ..errors import SchemaVersionError, StoreError

OUTAGE_SECONDS = 60.0
"""How long a database that went away is waited for."""

_PAUSES = (0.1, 2.0)

Result = TypeVar("Result")
Progress = Callable[[str], None]


def patiently(
    action: Callable[[], Result], progress: Progress = lambda text: None, *, seconds: float | None = None
) -> Result:
    """Do something with the database, again and again while that is away, for OUTAGE_SECONDS or ``seconds`` at most.

    A connection may break after the commit and before its answer, so that ``action`` must bear being done twice.
    ``progress`` is told what is waited for. Raises StoreError when the time is up.
    """
    deadline = time.monotonic() + (OUTAGE_SECONDS if seconds is None else seconds)
    pause, longest = _PAUSES
    while True:
        try:
            return action()
        except SchemaVersionError:
            raise  # nothing that passes by itself
        except StoreError as error:
            if time.monotonic() + pause >= deadline:
                raise
            progress(f"waiting for the database: {error.message}")
        time.sleep(pause)
        pause = min(pause * 2, longest)
