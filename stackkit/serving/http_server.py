"""The server of one worker: accepts connections, closes those that are too slow, and ends without a client noticing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from .bounds import LINGER
from .http_connection import Application, Connection, Connections
from .listening import BACKLOG

if TYPE_CHECKING:
    import ssl


class Server:
    """Answers with ``application`` from ``serve`` until ``stop``. ``on_draining`` is called when no more connections
    are accepted, ``on_end`` after the last reply. To be made in the event loop.
    """

    def __init__(
        self,
        application: Application,
        on_draining: Callable[[], None],
        on_end: Callable[[], None],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._application = application
        self._on_draining = on_draining
        self._on_end = on_end
        self._tls = tls
        self._connections = Connections()
        self._stopping = asyncio.Event()
        self._listening: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections.open)

    async def serve(self, listener: socket.socket) -> None:
        """Accept connections until ``stop``; then no more, but answer for a while what still comes on open ones.

        A connection that is closed at once may have a request on its way, whose sender sees a reset.
        """
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(
            lambda: Connection(self._application, self._connections), sock=listener, ssl=self._tls, backlog=BACKLOG
        )
        await self._stopping.wait()
        self.stop_accepting()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._connections.wait_closed(), LINGER)
        for connection in list(self._connections.open):
            connection.end_when_idle()
        await self._connections.wait_closed()
        self._on_end()

    def stop(self) -> None:
        """Have ``serve`` come to its end."""
        self._stopping.set()

    def stop_accepting(self) -> None:
        if self._listening is not None:
            self._listening.close()
        self._connections.is_draining = True
        self._on_draining()

    def close_overdue(self, now: float) -> None:
        """Close the connections that have been silent, or in the middle of a request's head, for too long. ``now`` is
        by the loop's clock.
        """
        for connection in [each for each in self._connections.open if each.is_overdue(now)]:
            connection.close()


def tls_context(certfile: str, keyfile: str | None) -> ssl.SSLContext:
    """For a server with this certificate. Raises OSError for files that it cannot use."""
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certfile, keyfile)
    return context
