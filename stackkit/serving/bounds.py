"""How long what hangs is waited for."""

from __future__ import annotations

HEAD_TIMEOUT = 15.0
"""Seconds that a client may take to send a request's head, from its first byte or from connecting."""

KEEP_ALIVE = 75.0
"""Seconds that a connection may be idle between two requests."""

LINGER = 1.0
"""Seconds that a worker which is to end still answers on connections that are open."""

LOAD_PATIENCE = 30.0
"""Seconds for which connections to a worker that replaces another wait for it to load; then they are refused (503)."""

HEARTBEAT = 1.0
"""Seconds between two signs of life that a worker gives the supervisor."""


def stuck_after(request_timeout: float) -> float:
    """Seconds after which a call of the model is taken never to return: its own request was answered 504 well before,
    and every other one waits for it.
    """
    return request_timeout + min(request_timeout / 2, 10.0)
