"""One connection: HTTP/1.1 as httptools reads it, its requests answered one after the other.

A protocol of our own, because of what a generic one costs: turning each request into ASGI's messages and back, with
timers of its own, took longer than everything else that is done to answer it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from typing import Any, Protocol

import httptools

from .bounds import HEAD_TIMEOUT, KEEP_ALIVE
from .http_exchange import Exchange
from .routing import Request, Response, Send

logger = logging.getLogger("stackkit.serving.http")

_LONGEST_HEAD = 64 * 1024
"""Bytes of a head, and of what is neither head nor body: a chunk's extensions, and the trailers behind a body."""

_NOT_HTTP = b"The request is not valid HTTP."


class Application(Protocol):
    """Answers a request by calling ``send``, once; not at all when the client has gone."""

    async def __call__(self, request: Request, send: Send) -> None: ...


class Connections:
    """The connections of one server that are open. While it drains, each reply says that its connection closes."""

    def __init__(self) -> None:
        self.open: set[Connection] = set()
        self.is_draining = False
        self._emptied = asyncio.Event()

    def lost(self, connection: Connection) -> None:
        self.open.discard(connection)
        if not self.open:
            self._emptied.set()

    async def wait_closed(self) -> None:
        """Wait until none is open, when no more are accepted."""
        if self.open:
            self._emptied.clear()
            await self._emptied.wait()


class Connection(asyncio.Protocol):
    """Has the requests that come answered by ``application``, in their order.

    After ``deadline``, by the loop's clock, it is to be closed: the client has had its time to say something.
    """

    def __init__(self, application: Application, connections: Connections) -> None:
        self.deadline = math.inf
        self.loop = asyncio.get_running_loop()
        self.transport: Any = None
        self._application = application
        self._connections = connections
        self._parser: Any = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: dict[str, str] = {}
        self._is_in_head = False
        self._undigested = 0
        """Bytes since the parser last came to the end of something."""
        self._unsent = 0
        """Bytes that the client had not taken of what it was sent, when the deadline was set."""
        self._takes_more = True
        self._coming: Exchange | None = None
        """Whose request came last, perhaps not yet whole."""
        self._current: Exchange | None = None
        """Whose request is being answered."""
        self._pipeline: deque[Exchange] = deque()
        """What has come while another request was being answered."""
        self._task: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None

    def is_ending(self) -> bool:
        """Whether the next reply is to be the last."""
        return self._connections.is_draining and not self._pipeline

    async def room(self) -> None:
        """Wait for a client that is slow to take what was sent, until it has taken most of it or is gone."""
        if self._writable is not None:
            self._wait_for_client(KEEP_ALIVE)
            await self._writable
            self.deadline = math.inf

    @property
    def is_answering(self) -> bool:
        """Whether a request is being answered."""
        return self._current is not None

    def is_overdue(self, now: float) -> bool:
        """Whether the client has had its time; one that takes what it is sent, however slowly, is given more."""
        if self.deadline >= now:
            return False
        if self.transport.get_write_buffer_size() < self._unsent:
            self._wait_for_client(KEEP_ALIVE)
            return False
        return True

    def end_when_idle(self) -> None:
        """Close now, or after the reply that is being made."""
        if self._current is None:
            self.transport.close()
        elif self._coming is not None:
            self._coming.keeps_alive = False

    def close(self) -> None:
        """Close without waiting for the client to take what was sent."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    # called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._connections.open.add(self)
        self.deadline = self.loop.time() + HEAD_TIMEOUT

    def connection_lost(self, _: Exception | None) -> None:
        self._connections.lost(self)
        for exchange in (self._current, self._coming):
            if exchange is not None:
                exchange.lose()
        self._pipeline.clear()
        self.resume_writing()
        self._parser = self._coming = None  # each holds this object in turn

    def data_received(self, data: bytes) -> None:
        if not self._takes_more:
            return
        was_in_head = self._is_in_head
        self._undigested += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            logger.info("what is not HTTP is refused (%s)", type(error).__name__)
            self._refuse()
            return
        if self._undigested > _LONGEST_HEAD:
            logger.info("a request with a head or trailers of more than %d bytes is refused", _LONGEST_HEAD)
            self._takes_more = False
            self.transport.close()
        elif self._is_in_head and self._current is None and not was_in_head:
            self._wait_for_client(HEAD_TIMEOUT)

    def eof_received(self) -> bool:
        """A client that says no more may still be there for the replies to what it has said. In TLS it may not."""
        last = self._coming
        if self._current is None or last is None or not last.is_complete or self.transport.get_extra_info("ssl_object"):
            return False
        self._takes_more = last.keeps_alive = False
        return True

    def pause_writing(self) -> None:
        self._writable = self.loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # called by the parser

    def on_message_begin(self) -> None:
        self._is_in_head = True
        self._undigested = 0
        self._url = b""
        self._headers = {}

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:  # what follows a body may say nothing that matters
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser.should_upgrade():
            return
        self._is_in_head = False
        self._undigested = 0
        headers, self._headers = self._headers, {}
        is_old = parser.get_http_version() == "1.0"
        exchange = Exchange(self, keeps_alive=not is_old and parser.should_keep_alive(), is_old=is_old)
        exchange.expects_continue = headers.get("expect", "").lower() == "100-continue"
        method = parser.get_method().decode("ascii")
        exchange.is_head = method == "HEAD"
        path, query = _split(self._url)
        exchange.request = Request(method, path, headers, exchange, query=query)
        self._coming = exchange
        if self._current is None:
            self._begin(exchange)
        else:
            self._pipeline.append(exchange)
            self.transport.pause_reading()

    def on_body(self, piece: bytes) -> None:
        self._undigested = 0
        if self._coming is not None:
            self._coming.take(piece)

    def on_message_complete(self) -> None:
        exchange = self._coming
        if exchange is None or self._is_in_head:
            return
        self._undigested = 0
        self._takes_more = exchange.keeps_alive
        exchange.complete()
        if exchange.is_answered and not exchange.keeps_alive:
            self.transport.close()

    # what is made of it

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_upgrade() + data[upgrade.args[0] :]
            else:
                return

    def _without_upgrade(self) -> bytes:
        """The head of a request once more, as one that asks for no other protocol, and a new parser for it: the one
        before took the request's body for that protocol. Raises HttpParserError for CONNECT, which is nothing else.
        """
        method = self._parser.get_method()
        if self._headers.pop("upgrade", None) is None:
            raise httptools.HttpParserError("there is no upgrade to do without")
        lines = [f"{name}: {value}\r\n" for name, value in self._headers.items()]
        self._parser = httptools.HttpRequestParser(self)
        return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, self._url, "".join(lines).encode("latin-1"))

    def _refuse(self) -> None:
        """What came is not HTTP: end with the requests before it, and say so where there are none."""
        self._takes_more = False
        last = self._coming
        if self._current is None:
            self._write_refusal(Exchange(self, keeps_alive=False))
            self.transport.close()
        elif last is not None:
            last.keeps_alive = False
            if not last.is_complete:
                last.lose()

    def _write_refusal(self, exchange: Exchange) -> None:
        exchange.write(Response(400, _NOT_HTTP, "text/plain; charset=utf-8"), _NOT_HTTP)

    def _begin(self, exchange: Exchange) -> None:
        self._current = exchange
        self.deadline = math.inf
        self._task = self.loop.create_task(self._answer(exchange))

    async def _answer(self, exchange: Exchange) -> None:
        try:
            await self._application(exchange.request, exchange.send)
        except Exception:
            logger.exception("a request was not answered to its end")
            self.transport.abort()
        self._end(exchange)

    def _end(self, exchange: Exchange) -> None:
        """Go on with the next request, or wait for it."""
        exchange.finish()
        self._current = self._task = None
        if self.transport.is_closing():
            return
        if not exchange.is_begun:  # it broke off in the middle of its body
            self._write_refusal(exchange)
        if self._pipeline:
            self._begin(self._pipeline.popleft())
        else:
            is_idle = exchange.is_complete and not self._is_in_head
            self._wait_for_client(KEEP_ALIVE if is_idle else HEAD_TIMEOUT)
            if not exchange.keeps_alive and (exchange.is_complete or not self._takes_more):
                self.transport.close()  # as soon as the client has taken the reply
                return
        if not self._pipeline:
            self.transport.resume_reading()

    def _wait_for_client(self, seconds: float) -> None:
        self.deadline = self.loop.time() + seconds
        self._unsent = self.transport.get_write_buffer_size()


def _split(url: bytes) -> tuple[str, str]:
    """The path, still percent-encoded, and the query of a request's target. Raises HttpParserError."""
    if not url.startswith(b"/"):  # with scheme and host, as to a proxy
        parsed = httptools.parse_url(url)
        path, query = parsed.path or b"/", parsed.query or b""
    else:
        path, _, query = url.partition(b"#")[0].partition(b"?")
    # what is not ASCII has no business there, and must not look like a line's end in the log
    return path.decode("ascii", "backslashreplace"), query.decode("latin-1")
