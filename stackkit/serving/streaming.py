"""Replies as server-sent events: one for each chunk that a model's ``predict_stream`` yields, then ``[DONE]``."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from .errors import ModelFailedError, RequestError
from .media_types import EVENT_STREAM
from .models import StreamingModel
from .payloads import Payload
from .replies import to_plain
from .routing import Request, Response
from .service import Service

logger = logging.getLogger("stackkit.serving.streaming")

_END = object()


async def stream(
    service: Service, model: StreamingModel, request: Request, data: Payload, params: Mapping[str, Any] | None
) -> Response:
    """The reply to a request whose chunks are sent as they come.

    The model is asked for one chunk at a time, so that other requests have their turn in between. What goes wrong
    before the first chunk is raised, as by ``Service.predict``; what goes wrong later is an event named ``error``.
    """
    chunks = _Chunks(service, model, data, params)
    first = await chunks.begin()
    return Response(200, _events(chunks, first, request), EVENT_STREAM, {"cache-control": "no-store"})


class _Chunks:
    """One iteration over a model's chunks, whose every step is a call of its own on the model's thread."""

    def __init__(
        self, service: Service, model: StreamingModel, data: Payload, params: Mapping[str, Any] | None
    ) -> None:
        self._service = service
        self._start: Callable[[], Iterator[Any]] = lambda: iter(model.stream(data, params))
        self._iterator: Iterator[Any] = iter(())
        # what the model's code sets in its context is not for the requests that have their turn in between
        self._context = contextvars.copy_context()

    async def begin(self) -> Any:
        """The first chunk, or _END. Raises as ``Service.run``, also when too many requests wait."""
        return await self._service.run(lambda: self._context.run(self._first))

    async def next(self) -> Any:
        """The next chunk, or _END; it waits for its turn however many do. Raises as ``Service.run``."""
        return await self._service.run(lambda: self._context.run(next, self._iterator, _END), is_begun=True)

    async def close(self) -> None:
        """Let the model's code know that nobody listens any more."""
        close: Any = getattr(self._iterator, "close", None)
        if close is not None:
            await self._service.run(lambda: self._context.run(close), is_begun=True)

    def _first(self) -> Any:
        self._iterator = self._start()
        return next(self._iterator, _END)


async def _events(chunks: _Chunks, chunk: Any, request: Request) -> AsyncIterator[bytes]:
    gone = asyncio.ensure_future(request.incoming.gone())
    try:
        while chunk is not _END:
            yield b"data: " + json.dumps(to_plain(chunk), allow_nan=False).encode() + b"\n\n"
            if gone.done():
                return
            chunk = await chunks.next()
        yield b"data: [DONE]\n\n"
    except (ModelFailedError, RequestError, TypeError, ValueError) as error:
        yield b"event: error\ndata: " + json.dumps(_described(error)).encode() + b"\n\n"
    finally:
        gone.cancel()
        if chunk is not _END:
            await chunks.close()


def _described(error: Exception) -> dict[str, str]:
    if isinstance(error, RequestError):
        return {"error_code": error.code, "message": error.message}
    request_id = uuid.uuid4().hex
    cause = error.__cause__ if isinstance(error, ModelFailedError) else error
    logger.error("request %s failed while it was streamed", request_id, exc_info=cause)
    message = f"The prediction failed; the server's log says why under request id {request_id}."
    return {"error_code": "INTERNAL_ERROR", "message": message}
