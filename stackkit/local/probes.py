"""Asking a server on this machine whether it answers, and who has a port that is taken."""

from __future__ import annotations

import http.client
import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil

_TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True)
class Answer:
    """What ``/ping`` said: ready, still loading, or in words why neither."""

    ready: bool
    loading: bool
    message: str


def base_url(host: str, port: int) -> str:
    """The URL under which a server bound to ``host`` is reached from this machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"


def answers(url: str) -> Answer:
    """Ask the server at ``url`` for ``/ping``. Raises nothing: a failure is an answer too."""
    try:
        status = _ping(url)
    except (OSError, http.client.HTTPException) as error:
        return Answer(ready=False, loading=False, message=f"{type(error).__name__}: {error}")
    loading = status == http.client.SERVICE_UNAVAILABLE
    return Answer(ready=status == http.client.OK, loading=loading, message=f"it answered {status}")


def _ping(url: str, tries: int = 2) -> int:
    parts = urlsplit(url)
    # no proxy, no redirects, and nothing to import: this runs for each server of every list
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status
    except ConnectionResetError:
        # the worker that had taken the question died of something; the next one takes it again
        if tries == 1:
            raise
        return _ping(url, tries - 1)
    finally:
        connection.close()


def who_listens(port: int) -> str | None:
    """The process that listens on a TCP port of this machine, in words; None when that cannot be seen."""
    try:
        listening = [
            connection.pid
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid
        ]
        return f"{psutil.Process(listening[0]).name()} (PID {listening[0]})" if listening else None
    except psutil.Error:
        return None
