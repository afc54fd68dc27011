"""Text that is safe to print."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """``text`` without control characters: a name or a server's words could otherwise steer the terminal."""
    return _CONTROL.sub("�", text)
