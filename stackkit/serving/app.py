"""The ASGI application: routes, limits, and every error as MLflow's ``{"error_code", "message"}``."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from . import __version__
from .dispatcher import Dispatcher, QueueFullError
from .errors import RequestError
from .listening import is_loopback, url_host
from .media_types import media_type
from .models import Model
from .scoring import ModelFailedError, Scorer, ScoringRequest

logger = logging.getLogger("stackkit.serving.app")

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

QUEUE_CAPACITY = 256
"""Requests that may wait for the model; one more is answered 503."""


@dataclass(frozen=True)
class Response:
    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    method: str
    headers: Mapping[str, str]
    """By lower-case name; of a repeated header the last one."""
    receive: Receive


class ClientGoneError(Exception):
    """The client closed the connection before its request was whole."""


class App:
    """Answers 503 until ``serve`` has been given the model. ``host`` is the address it is bound to,
    ``request_timeout`` is in seconds, ``max_body`` in bytes.
    """

    def __init__(
        self, *, host: str, request_timeout: float, max_body: int, queue_capacity: int = QUEUE_CAPACITY
    ) -> None:
        self._request_timeout = request_timeout
        self._max_body = max_body
        self._queue_capacity = queue_capacity
        self._dispatcher: Dispatcher[ScoringRequest, bytes] | None = None
        # A web page can have its own host name resolve to 127.0.0.1 and would then be of the same origin as this
        # server. The browser still says which name it asked for.
        self._hosts = {"127.0.0.1", "localhost", "[::1]", url_host(host).lower()} if is_loopback(host) else None
        self._routes: dict[str, dict[str, Callable[[Request], Awaitable[Response]]]] = {
            "/ping": {"GET": self._health, "HEAD": self._health},
            "/health": {"GET": self._health, "HEAD": self._health},
            "/version": {"GET": self._version, "HEAD": self._version},
            "/invocations": {"POST": self._invocations},
        }

    def serve(self, model: Model) -> None:
        """Answer with this model from now on. May be called from any thread."""
        self._dispatcher = Dispatcher(Scorer(model, self._max_body).score, self._queue_capacity)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            response = await self._respond(scope["path"], Request(scope["method"], headers, receive))
        except ClientGoneError:
            _log(scope, "gone", began)
            return
        lines = {"content-type": response.content_type, "content-length": str(len(response.body)), **response.headers}
        await send(
            {
                "type": "http.response.start",
                "status": response.status,
                "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines.items()],
            }
        )
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else response.body})
        _log(scope, str(response.status), began)

    async def _respond(self, path: str, request: Request) -> Response:
        try:
            self._check_host(request)
            handlers = self._routes.get(path.rstrip("/"))
            if handlers is None:
                return _error(404, "ENDPOINT_NOT_FOUND", "There is no such path.")
            handler = handlers.get(request.method)
            if handler is None:
                allowed = {"allow": ", ".join(handlers)}
                return _error(405, "BAD_REQUEST", "This path does not answer that method.", headers=allowed)
            return await handler(request)
        except RequestError as error:
            return _error(error.status, error.code, error.message)
        except ClientGoneError:
            raise
        except Exception as error:
            request_id = uuid.uuid4().hex
            cause = error.__cause__ if isinstance(error, ModelFailedError) else error
            logger.error("request %s failed", request_id, exc_info=cause)  # noqa: TRY400 - the model's, not ours
            message = f"The prediction failed; the server's log says why under request id {request_id}."
            return _error(500, "INTERNAL_ERROR", message, request_id=request_id)

    def _check_host(self, request: Request) -> None:
        """Raises RequestError when a server of this machine alone is asked for by a name that is not this machine's.

        421 rather than 403: nobody lacks a permission, the request was led to the wrong server.
        """
        host = request.headers.get("host")
        if self._hosts is None or host is None:  # HTTP/1.0; browsers always name the host
            return
        name = host.lower()
        if not name.endswith("]"):
            name = name.rpartition(":")[0] or name
        if name not in self._hosts:
            raise RequestError(421, "BAD_REQUEST", "This server answers only to the address it listens on.")

    async def _health(self, _: Request) -> Response:
        if self._dispatcher is None:
            return _loading()
        return Response(200, b"\n")

    async def _version(self, _: Request) -> Response:
        return Response(200, __version__.encode(), "text/plain; charset=utf-8")

    async def _invocations(self, request: Request) -> Response:
        kind = media_type(request.headers.get("content-type"))
        is_gzipped = _is_gzipped(request.headers.get("content-encoding"))
        dispatcher = self._dispatcher
        if dispatcher is None:
            return _loading()
        try:
            async with asyncio.timeout(self._request_timeout):
                body = await self._read_body(request)
                return Response(200, await dispatcher.submit(ScoringRequest(body, kind, is_gzipped)))
        except QueueFullError:
            return _unavailable("Too many requests are waiting for the model.")
        except TimeoutError:
            message = f"The request took longer than {self._request_timeout:g} seconds."
            return _error(504, "DEADLINE_EXCEEDED", message)

    async def _read_body(self, request: Request) -> bytes:
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._max_body:
            raise self._too_large()
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self._max_body:
                raise self._too_large()
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)

    def _too_large(self) -> RequestError:
        return RequestError(413, "BAD_REQUEST", f"The body is larger than {self._max_body} bytes.")


def _is_gzipped(header: str | None) -> bool:
    coding = (header or "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip"):
        raise RequestError(415, "BAD_REQUEST", "The request's Content-Encoding is not supported: expected gzip.")
    return coding != "identity"


def _loading() -> Response:
    return _unavailable("The model is still loading.")


def _unavailable(message: str) -> Response:
    return _error(503, "TEMPORARILY_UNAVAILABLE", message, headers={"retry-after": "1"})


def _error(status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None, **extra: str) -> Response:
    body = json.dumps({"error_code": code, "message": message, **extra}).encode()
    return Response(status, body, headers=headers or {})


def _log(scope: Scope, outcome: str, began: float) -> None:
    # the path as it was sent, still percent-encoded: decoded, it could hold a line break and forge a line
    path = scope.get("raw_path", b"").decode("ascii", "backslashreplace")
    logger.info("%s %s %s %.1f ms", scope["method"], path, outcome, (time.perf_counter() - began) * 1000)
