"""uvicorn, bounded in what it waits for and taught to end without a client noticing."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .bounds import HEAD_TIMEOUT, KEEP_ALIVE, LINGER

logger = logging.getLogger("stackkit.serving.http")

_LONGEST_HEAD = 64 * 1024


class _Protocol(HttpToolsProtocol):
    """Knows since when it waits for a request's head, and how much of it has come."""

    _head_since: float | None = None
    _head_size = 0

    def waits_since_before(self, limit: float) -> bool:
        """Whether a head is overdue, and nothing else of the connection's is under way."""
        is_answering = self.cycle is not None and not self.cycle.response_complete
        return self._head_since is not None and self._head_since < limit and not is_answering

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        if self._head_since is not None:
            self._head_size += len(data)
        super().data_received(data)
        if self._head_since is not None and self._head_size > _LONGEST_HEAD:
            logger.info("a request whose head is longer than %d bytes is refused", _LONGEST_HEAD)
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head_since is None:
            self._head_since = self.loop.time()

    def on_headers_complete(self) -> None:
        self._head_since = None
        self._head_size = 0
        super().on_headers_complete()


def configure(app: Any, certfile: str | None, keyfile: str | None) -> uvicorn.Config:
    """How it is served; with TLS when there is a certificate."""
    return uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(KEEP_ALIVE),
        ssl_certfile=certfile,
        ssl_keyfile=keyfile,
    )


class Server(uvicorn.Server):
    """``on_draining`` is called when no more connections are accepted, ``on_end`` after the last reply."""

    def __init__(self, config: uvicorn.Config, on_draining: Callable[[], None], on_end: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_draining = on_draining
        self._on_end = on_end

    def close_slow_heads(self) -> None:
        """Close the connections whose request's head takes too long to come."""
        limit = asyncio.get_running_loop().time() - HEAD_TIMEOUT
        for connection in list(self.server_state.connections):
            if isinstance(connection, _Protocol) and connection.waits_since_before(limit):
                connection.transport.close()

    def stop_accepting(self) -> None:
        for server in self.servers:
            server.close()
        self._on_draining()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, answer for a while what still comes on open connections, then end.

        A connection that is closed at once may have a request on its way, whose sender sees a reset.
        """
        self.stop_accepting()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LINGER
        while self.server_state.connections and loop.time() < deadline:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)
        self._on_end()
