"""The listening sockets: one for each worker slot, all on one address."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterator

BACKLOG = 2048
"""Connections that may wait in one socket to be accepted."""
_PREFERRED_RANGE = 201


class ListenError(Exception):
    """The address cannot be listened on; the text says which and why."""


def listen(host: str, port: int, slots: int, preferred_port: int | None = None) -> list[socket.socket]:
    """One listening socket for each slot, on one port; connections are spread over them by the kernel.

    ``port`` 0 takes the first free one of ``preferred_port`` and the 200 that follow it, then any. Raises
    ListenError when the port is taken or the host is none of this machine's.
    """
    for candidate in _candidates(port, preferred_port):
        try:
            first = _claim(host, candidate)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                if candidate not in (port, 0):
                    continue
                raise ListenError(f"port {candidate} on {host} is taken") from error
            if error.errno == errno.EACCES and candidate not in (port, 0):
                continue
            raise ListenError(f"cannot listen on {url_host(host)}:{candidate}: {error.strerror}") from error
        sockets = [first]
        try:
            while len(sockets) < slots:
                sockets.append(_join(first))
            for each in sockets:
                each.listen(BACKLOG)
        except BaseException:
            for each in sockets:
                each.close()
            raise
        return sockets
    raise AssertionError("the last candidate either is bound or raises")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def url_host(host: str) -> str:
    """``host`` as it stands in a URL: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def _candidates(port: int, preferred_port: int | None) -> Iterator[int]:
    if port == 0 and preferred_port:
        yield from range(preferred_port, min(preferred_port + _PREFERRED_RANGE, 65536))
    yield port


def _claim(host: str, port: int) -> socket.socket:
    """Bind the first socket alone, so that a port somebody else shares counts as taken; then open it to the rest.

    SO_REUSEPORT from the start would bind happily beside another server of the same user, and each would get half
    of the other's connections.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
    )[0]
    claimed = _socket(family, kind, protocol)
    try:
        claimed.bind(address)
        claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except BaseException:
        claimed.close()
        raise
    return claimed


def _join(first: socket.socket) -> socket.socket:
    joined = _socket(first.family, first.type, first.proto)
    try:
        joined.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        joined.bind(first.getsockname())
    except BaseException:
        joined.close()
        raise
    return joined


def _socket(family: int, kind: int, protocol: int) -> socket.socket:
    # IPPROTO_TCP by name: event loops set TCP_NODELAY only on sockets that say they are TCP
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return made
