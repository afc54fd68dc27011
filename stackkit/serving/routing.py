"""Which handler answers a path: requests and responses as handlers see them, and the tables that name the handlers.

Each protocol is a module with a ``routes(service)`` that returns its RouteTable; the path alone decides between them.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import unquote

from .errors import RequestError

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class ClientGoneError(Exception):
    """The client closed the connection before its request was whole."""


class BodyTooLargeError(Exception):
    """A request's body is larger than it may be."""


class Incoming(Protocol):
    """Where a request comes from."""

    async def body(self, limit: int) -> bytes:
        """The whole body; to be called once. Raises BodyTooLargeError when it is longer than ``limit`` bytes,
        ClientGoneError when it is not whole.
        """

    async def gone(self) -> None:
        """Return when the client has closed the connection."""


@dataclass(slots=True)
class Response:
    """A body that is an iterable of pieces is sent as they come, without a length."""

    status: int
    body: bytes | AsyncIterable[bytes]
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Request:
    """One request. Its body is read on demand, at most ``max_body`` bytes of it."""

    method: str
    path: str
    """As it was sent, still percent-encoded: decoded, it could hold a line break and forge a log line."""
    headers: Mapping[str, str]
    """By lower-case name; of a repeated header the last one."""
    incoming: Incoming
    max_body: int = 0
    query: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """What the path held in place of the pattern's ``{names}``."""
    size: int = 0
    """Bytes of the body, or of what it unfolds to; known when it has been read."""
    batch_size: int | None = None
    """How many rows the model was called with to answer it, for the log; None when it was not called."""

    async def body(self) -> bytes:
        """The body as it came. Raises RequestError (413) when it is too large, ClientGoneError when it is not whole."""
        declared = self.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self.max_body:
            raise self._too_large()
        try:
            body = await self.incoming.body(self.max_body)
        except BodyTooLargeError:
            raise self._too_large() from None
        self.size = len(body)
        return body

    def _too_large(self) -> RequestError:
        return RequestError(413, "BAD_REQUEST", f"The body is larger than {self.max_body} bytes.")


Send = Callable[[Response], Awaitable[None]]
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class RouteTable:
    """One protocol's handlers, by path pattern and method, and how it writes errors.

    In a pattern ``{name}`` stands for one segment of a path. Paths that begin with ``prefix`` and are in no table get
    this table's kind of error; the longest prefix wins. A slash at the end of a path makes no difference, but where
    the table ``redirects_slash``: there the answer to any method is 307 and the path without it.
    """

    handlers: Mapping[str, Mapping[str, Handler]]
    write_error: Callable[[RequestError], bytes]
    prefix: str = ""
    redirects_slash: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """Where a path leads. ``pattern`` is the text in the table, the name under which requests are counted."""

    pattern: str
    methods: Mapping[str, Handler]
    table: RouteTable
    parameters: Mapping[str, str] = field(default_factory=dict)


class Router:
    """Finds the route of a path among the tables; a pattern without names is preferred to one with."""

    def __init__(self, tables: Sequence[RouteTable]) -> None:
        self._tables = sorted(tables, key=lambda table: -len(table.prefix))
        self._fixed: dict[str, Route] = {}
        self._patterns: list[tuple[list[str], Route]] = []
        for table in tables:
            for pattern, methods in table.handlers.items():
                route = Route(pattern, methods, table)
                if "{" in pattern:
                    self._patterns.append((pattern.split("/"), route))
                else:
                    self._fixed[pattern] = route

    def find(self, raw_path: str) -> Route | None:
        """The route of a path as it was sent, still percent-encoded: an encoded slash is part of a name."""
        path = raw_path.rstrip("/")
        if (route := self._fixed.get(path) or self._fixed.get(unquote(path))) is not None:
            return _redirect(route) if route.table.redirects_slash and path != raw_path else route
        segments = path.split("/")
        for pattern, route in self._patterns:
            if (names := _match(pattern, segments)) is not None:
                return Route(route.pattern, route.methods, route.table, names)
        return None

    def table_of(self, path: str) -> RouteTable:
        """The table whose kind of error a path gets that leads nowhere."""
        return next(table for table in self._tables if path.startswith(table.prefix))


def _redirect(route: Route) -> Route:
    """From a path with a slash at its end to the one without, which holds nothing of the request."""

    async def answer(_: Request) -> Response:
        return Response(307, b"", headers={"location": route.pattern})

    return Route(route.pattern, dict.fromkeys(_METHODS, answer), route.table)


def _match(pattern: Sequence[str], segments: Sequence[str]) -> dict[str, str] | None:
    if len(pattern) != len(segments):
        return None
    names = {}
    for expected, given in zip(pattern, segments, strict=True):
        if expected.startswith("{"):
            if not given:
                return None
            names[expected[1:-1]] = unquote(given)
        elif expected != given:
            return None
    return names
