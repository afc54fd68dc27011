"""Noticing a database's server that has vanished without a word, as behind a firewall or after a failover.

Without this the kernel asks after an idle connection once in two hours, and sends again into the void for a quarter of
one: a watcher would stand still as long, and nobody would renew a lease.
"""

from __future__ import annotations

import socket
from typing import Any

_IDLE_SECONDS, _INTERVAL_SECONDS, _PROBES = 10, 5, 4
SILENT_SECONDS = _IDLE_SECONDS + _INTERVAL_SECONDS * _PROBES
"""After how long without any sign of it a server counts as gone. One that is merely busy gives signs of life."""

POSTGRESQL_OPTIONS = {
    "keepalives_idle": _IDLE_SECONDS,
    "keepalives_interval": _INTERVAL_SECONDS,
    "keepalives_count": _PROBES,
    "tcp_user_timeout": SILENT_SECONDS * 1000,
}
"""As libpq names them."""

_SOCKET_OPTIONS = {
    "TCP_KEEPIDLE": _IDLE_SECONDS,
    "TCP_KEEPALIVE": _IDLE_SECONDS,  # as macOS calls it
    "TCP_KEEPINTVL": _INTERVAL_SECONDS,
    "TCP_KEEPCNT": _PROBES,
    "TCP_USER_TIMEOUT": SILENT_SECONDS * 1000,  # Linux alone has it
}


def on_mysql_connect(connection: Any, record: object) -> None:
    """Set it on a connection of PyMySQL, which has no options for it."""
    opened: socket.socket = connection._sock
    if opened.family not in (socket.AF_INET, socket.AF_INET6):
        return
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _SOCKET_OPTIONS.items():
        if hasattr(socket, name):
            opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
