"""One request on a connection and the reply to it: the one's body as it comes, the other as it is written."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterable
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

from .routing import BodyTooLargeError, ClientGoneError, Request, Response

if TYPE_CHECKING:
    from .http_connection import Connection

_EARLY_BODY = 64 * 1024
"""Bytes of a body that are taken in before it is asked for."""

_JOINED_BODY = 64 * 1024
"""Bytes of a reply that are copied behind its head, so that both are one write."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class Exchange:
    """``is_complete`` when the whole request has come, ``is_begun`` when some of the reply was written, ``is_answered``
    when nobody is interested in the request any more. Unless it ``keeps_alive`` the connection ends with it.
    """

    __slots__ = (
        "_connection",
        "_gone",
        "_is_lost",
        "_limit",
        "_pieces",
        "_size",
        "_whole",
        "expects_continue",
        "is_answered",
        "is_begun",
        "is_complete",
        "is_head",
        "is_old",
        "keeps_alive",
        "request",
    )

    def __init__(self, connection: Connection, *, keeps_alive: bool, is_old: bool = False) -> None:
        """``is_old`` is a request of HTTP/1.0."""
        self.request: Request
        self.keeps_alive = keeps_alive
        self.is_old = is_old
        self.is_head = False
        self.expects_continue = False
        self.is_complete = False
        self.is_begun = False
        self.is_answered = False
        self._connection = connection
        self._is_lost = False
        self._pieces: list[bytes] = []
        self._size = 0
        self._limit = math.inf
        self._whole: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] | None = None

    # the request: what its handler calls

    async def body(self, limit: int) -> bytes:
        if not self.is_complete and not self._is_lost and self._size <= limit:
            self._limit = limit
            self._whole = self._connection.loop.create_future()
            if self.expects_continue:
                self.expects_continue = False
                self._connection.transport.write(_CONTINUE)
            self._connection.transport.resume_reading()
            await self._whole
        if self._size > limit:
            raise BodyTooLargeError
        if not self.is_complete:
            raise ClientGoneError
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def gone(self) -> None:
        if not self._is_lost:
            self._gone = self._connection.loop.create_future()
            await self._gone

    # the request: what its connection calls

    def take(self, piece: bytes) -> None:
        """Keep a piece of the body, unless nobody wants it any more."""
        if self.is_answered:
            return
        self._size += len(piece)
        if self._size > self._limit:
            self._pieces.clear()
            _wake(self._whole)
            return
        self._pieces.append(piece)
        if self._whole is None and self._size > _EARLY_BODY:
            self._connection.transport.pause_reading()

    def complete(self) -> None:
        self.is_complete = True
        _wake(self._whole)

    def finish(self) -> None:
        """Nobody wants the request any more."""
        self.is_answered = True
        self._pieces.clear()
        del self.request  # which holds this object in turn: requests are to leave no work to the garbage collector

    def lose(self) -> None:
        """The client has gone, or makes no sense any more."""
        self._is_lost = True
        _wake(self._whole)
        _wake(self._gone)

    # the reply

    async def send(self, response: Response) -> None:
        """Write the reply, or as much of it as the client is there to take."""
        await self._connection.room()
        if isinstance(response.body, bytes):
            self.write(response, response.body)
        else:
            await self._send_pieces(response, response.body)

    def write(self, response: Response, body: bytes) -> None:
        """Write a reply whose body is at hand."""
        transport = self._connection.transport
        head = self._head(response, f"content-length: {len(body)}\r\n")
        if transport.is_closing():
            return
        if self.is_head:
            transport.write(head)
        elif len(body) <= _JOINED_BODY:
            transport.write(head + body)
        else:
            transport.writelines((head, body))

    async def _send_pieces(self, response: Response, pieces: AsyncIterable[bytes]) -> None:
        self._write(self._head(response, "" if self.is_old else "transfer-encoding: chunked\r\n"))
        async for piece in pieces:
            await self._connection.room()
            if piece:  # an empty one would be the end
                self._write(piece if self.is_old else b"%x\r\n%b\r\n" % (len(piece), piece))
        if not self.is_old:
            self._write(b"0\r\n\r\n")

    def _write(self, data: bytes) -> None:
        if not self._connection.transport.is_closing():
            self._connection.transport.write(data)

    def _head(self, response: Response, framing: str) -> bytes:
        """The status line and the headers, of which none is what came in: their values need no look."""
        self.is_begun = True
        # a client that waits to be told to send its body may now send another request instead
        if self._connection.is_ending() or (self.expects_continue and not self.is_complete):
            self.keeps_alive = False
        status = response.status
        lines = f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\ndate: {_date()}\r\n"
        lines += f"content-type: {response.content_type}\r\n{framing}"
        for name, value in response.headers.items():
            lines += f"{name}: {value}\r\n"
        if not self.keeps_alive:
            lines += "connection: close\r\n"
        return f"{lines}\r\n".encode("latin-1")


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


_last_date = (0, "")


def _date() -> str:
    """The time as HTTP writes it, made once a second."""
    global _last_date
    second = int(time.time())
    if _last_date[0] != second:
        _last_date = (second, formatdate(second, usegmt=True))
    return _last_date[1]
