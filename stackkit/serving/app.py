"""The ASGI application: finds the handler of a request, bounds its time, and turns what is raised into its reply."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

from .errors import ModelFailedError, RequestError
from .listening import is_loopback, url_host
from .routing import ClientGoneError, Receive, Request, Response, Route, Router, RouteTable

logger = logging.getLogger("stackkit.serving.app")

Scope = Mapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class App:
    """Answers what ``tables`` have handlers for. ``host`` is the address it is bound to, ``request_timeout`` is in
    seconds from the request's head to its reply's, ``max_body`` in bytes.
    """

    def __init__(self, tables: Sequence[RouteTable], *, host: str, request_timeout: float, max_body: int) -> None:
        self._router = Router(tables)
        self._request_timeout = request_timeout
        self._max_body = max_body
        # A web page can have its own host name resolve to 127.0.0.1 and would then be of the same origin as this
        # server. The browser still says which name it asked for.
        self._hosts = {"127.0.0.1", "localhost", "[::1]", url_host(host).lower()} if is_loopback(host) else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        # the path as it was sent, still percent-encoded: decoded, it could hold a line break and forge a log line
        path = scope["raw_path"].decode("ascii", "backslashreplace")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope.get("query_string", b"").decode("latin-1")
        request = Request(scope["method"], path, headers, receive, self._max_body, query)
        try:
            response = await self._respond(request)
        except ClientGoneError:
            _log(request, "gone", began)
            return
        await _send(response, send, is_head=request.method == "HEAD")
        _log(request, str(response.status), began)

    async def _respond(self, request: Request) -> Response:
        route = self._router.find(request.path)
        table = self._router.table_of(request.path) if route is None else route.table
        try:
            self._check_host(request)
            handler = _handler(route, request)
            async with asyncio.timeout(self._request_timeout):
                return await handler(request)
        except RequestError as error:
            refusal = error
        except ClientGoneError:
            raise
        except TimeoutError:
            message = f"The request took longer than {self._request_timeout:g} seconds."
            refusal = RequestError(504, "DEADLINE_EXCEEDED", message)
        except Exception as error:
            refusal = _failure(error)
        return Response(refusal.status, table.write_error(refusal), headers=refusal.headers)

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


def _handler(route: Route | None, request: Request) -> Callable[[Request], Awaitable[Response]]:
    if route is None:
        raise RequestError(404, "ENDPOINT_NOT_FOUND", "There is no such path.")
    handler = route.methods.get(request.method)
    if handler is None:
        allowed = {"allow": ", ".join(route.methods)}
        raise RequestError(405, "BAD_REQUEST", "This path does not answer that method.", headers=allowed)
    request.parameters = route.parameters
    return handler


def _failure(error: Exception) -> RequestError:
    """What the caller is told of a failure that is not his: an id, under which the log has the rest."""
    request_id = uuid.uuid4().hex
    cause = error.__cause__ if isinstance(error, ModelFailedError) else error
    logger.error("request %s failed", request_id, exc_info=cause)
    message = f"The prediction failed; the server's log says why under request id {request_id}."
    return RequestError(500, "INTERNAL_ERROR", message, details={"request_id": request_id})


async def _send(response: Response, send: Send, *, is_head: bool) -> None:
    body = response.body
    lines = {"content-type": response.content_type, **response.headers}
    if isinstance(body, bytes):
        lines["content-length"] = str(len(body))
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    if isinstance(body, AsyncIterable):
        async for piece in body:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        body = b""
    await send({"type": "http.response.body", "body": b"" if is_head else body})


def _log(request: Request, outcome: str, began: float) -> None:
    elapsed = (time.perf_counter() - began) * 1000
    logger.info("%s %s %s %.1f ms", request.method, request.path, outcome, elapsed)
