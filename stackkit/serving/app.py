"""The application: finds the handler of a request, bounds its time, and turns what is raised into its reply."""

from __future__ import annotations

import hmac
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence

from .access import AccessLog
from .deadlines import Deadlines
from .errors import ModelFailedError, RequestError
from .listening import is_loopback, url_host
from .metrics import DURATION, IN_FLIGHT, REQUESTS, Histogram, Metrics, Sample
from .routing import ClientGoneError, Request, Response, Route, Router, RouteTable, Send

logger = logging.getLogger("stackkit.serving.app")

_HEALTH = frozenset({"/ping", "/health", "/v2/health/live", "/v2/health/ready"})
_OPEN = _HEALTH | {"/docs", "/redoc"}
"""What is answered without the token. The page knows nothing of the model: it asks for the token itself."""
_POLLED = _HEALTH | {"/metrics"}
"""What machines ask every few seconds: in the log it would drown the rest, and the metrics count it."""


class App:
    """Answers what ``tables`` have handlers for. ``host`` is the address it is bound to, ``request_timeout`` is in
    seconds from the request's head to its reply's, ``max_body`` in bytes.
    """

    def __init__(
        self,
        tables: Sequence[RouteTable],
        *,
        host: str,
        request_timeout: float,
        max_body: int,
        metrics: Metrics,
        access_log: AccessLog,
        token: str | None = None,
    ) -> None:
        """With a ``token``, requests must bear it."""
        self._router = Router(tables)
        self._deadlines = Deadlines(request_timeout)
        self._request_timeout = request_timeout
        self._max_body = max_body
        self._access_log = access_log
        self._token = None if token is None else token.encode()
        self._traffic = _Traffic(metrics)
        # A web page can have its own host name resolve to 127.0.0.1 and would then be of the same origin as this
        # server. The browser still says which name it asked for.
        self._hosts = {"127.0.0.1", "localhost", "[::1]", url_host(host).lower()} if is_loopback(host) else None

    async def __call__(self, request: Request, send: Send) -> None:
        began = time.perf_counter()
        request.max_body = self._max_body
        route = self._router.find(request.path)
        outcome = "gone"
        self._traffic.in_flight.add(1)
        try:
            response = await self._respond(request, route)
            outcome = str(response.status)
            await send(response)
        except ClientGoneError:
            pass
        finally:
            seconds = time.perf_counter() - began
            self._traffic.in_flight.add(-1)
            self._traffic.count(route, outcome, seconds)
            if outcome != "200" or route is None or route.pattern not in _POLLED:
                self._access_log.add(request, outcome, seconds)

    async def _respond(self, request: Request, route: Route | None) -> Response:
        try:
            self._check_host(request)
            self._check_token(route, request)
            handler = _handler(route, request)
            with self._deadlines.limit():
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
        table = self._router.table_of(request.path) if route is None else route.table
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

    def _check_token(self, route: Route | None, request: Request) -> None:
        """Raises RequestError (401) for a request without the token, unless it only asks whether the server lives."""
        if self._token is None or (route is not None and route.pattern in _OPEN):
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token):
            challenge = {"www-authenticate": "Bearer"}
            raise RequestError(401, "UNAUTHENTICATED", "The request bears no valid token.", headers=challenge)


class _Traffic:
    """The numbers of the requests, each looked up by name only once."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.in_flight = metrics.sample(IN_FLIGHT)
        self._requests: dict[tuple[str, str], Sample] = {}
        self._durations: dict[str, Histogram] = {}

    def count(self, route: Route | None, outcome: str, seconds: float) -> None:
        pattern = "none" if route is None else route.pattern
        requests = self._requests.get((pattern, outcome))
        if requests is None:
            requests = self._metrics.sample(REQUESTS, route=pattern, status=outcome)
            self._requests[pattern, outcome] = requests
            self._durations[pattern] = self._metrics.histogram(DURATION, route=pattern)
        requests.add(1)
        self._durations[pattern].observe(seconds)


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
