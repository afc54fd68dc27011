"""MLflow's scoring protocol: its paths, its bodies, and its errors ``{"error_code", "message"}``."""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Mapping
from typing import Any

from . import __version__, payloads, replies
from .errors import BadRequestError, ModelFailedError, RequestError
from .media_types import CSV_TYPES, EVENT_STREAM, JSON, JSON_LINES_TYPES, PARQUET, is_gzipped, media_type, reply_type
from .payloads import Payload, Shape
from .routing import Request, Response, RouteTable
from .service import Service, aside
from .streaming import stream

_GZIP = zlib.MAX_WBITS | 16
_SLICE = 16 * 1024
"""Bytes that are decompressed at a time: what follows one of a gzip file's members is copied at its end, and there may
be millions of them.
"""


def routes(service: Service) -> RouteTable:
    """The protocol's paths, answered by ``service``. Its kind of error is everybody's who has none of his own."""

    async def health(_: Request) -> Response:
        service.check_ready()
        return Response(200, b"\n")

    async def version(_: Request) -> Response:
        return Response(200, __version__.encode(), "text/plain; charset=utf-8")

    async def invocations(request: Request) -> Response:
        kind = media_type(request.headers.get("content-type"))
        is_compressed = is_gzipped(request.headers.get("content-encoding"))
        model = service.model
        streaming = service.streaming
        wanted = reply_type(request.headers.get("accept"), can_stream=streaming is not None)
        body = await request.body()
        if is_compressed:
            body = await aside(request, gunzip, body, request.max_body)
        if kind == PARQUET:
            request.size = await aside(request, unfolded, body, request.max_body)
        data, params = await aside(request, decode, body, kind, model.chat_keys)
        if streaming is not None and (wanted == EVENT_STREAM or asks_for_stream(data)):
            return await stream(service, streaming, request, data, params)
        predictions = await service.predict(request, data, params)
        body = await aside(request, encode, predictions, wanted, not data.is_whole)
        return Response(200, body, wanted)

    return RouteTable(
        {
            "/ping": {"GET": health, "HEAD": health},
            "/health": {"GET": health, "HEAD": health},
            "/version": {"GET": version, "HEAD": version},
            "/invocations": {"POST": invocations},
        },
        write_error,
        redirects_slash=True,
    )


def write_error(error: RequestError) -> bytes:
    return json.dumps({"error_code": error.code, "message": error.message, **error.details}).encode()


def decode(body: bytes, media_type: str, chat_keys: Collection[str]) -> tuple[Payload, Mapping[str, Any] | None]:
    """The data and the params in a body. Raises BadRequestError."""
    if media_type == JSON:
        return payloads.decode_json(body, chat_keys)
    if media_type in JSON_LINES_TYPES:
        return payloads.decode_json_lines(body), None
    return Payload(Shape.PARQUET if media_type == PARQUET else Shape.CSV, body), None


def asks_for_stream(data: Payload) -> bool:
    """Whether a chat request has ``"stream": true``."""
    return data.is_whole and data.value.get("stream") is True


def encode(predictions: Any, media_type: str, wrapped: bool) -> bytes:
    """The reply's body, in one of REPLY_TYPES. Raises ModelFailedError for predictions that JSON cannot say."""
    try:
        if media_type == JSON:
            return replies.encode(predictions, wrapped=wrapped)
        return replies.encode_csv(predictions) if media_type in CSV_TYPES else replies.encode_lines(predictions)
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelFailedError from error


def unfolded(body: bytes, limit: int) -> int:
    """Bytes that the table in a Parquet file has. Raises RequestError: 413 when they are more than ``limit``, 400 for
    what is no Parquet file.
    """
    size = payloads.parquet_size(body)
    if size > limit:
        raise RequestError(413, "BAD_REQUEST", f"The table in the body is larger than {limit} bytes.")
    return size


def gunzip(body: bytes, limit: int) -> bytes:
    """Decompress, never past ``limit`` bytes. Raises RequestError: 413 when there is more, 400 for what is no gzip."""
    decompressed = bytearray()
    member = zlib.decompressobj(wbits=_GZIP)
    try:
        for start in range(0, len(body), _SLICE):
            piece = body[start : start + _SLICE]
            while piece:
                if member.eof:  # a gzip file may be several, one after the other
                    member = zlib.decompressobj(wbits=_GZIP)
                decompressed += member.decompress(piece, limit + 1 - len(decompressed))
                if len(decompressed) > limit:
                    raise RequestError(413, "BAD_REQUEST", f"The body is larger than {limit} bytes when decompressed.")
                piece = member.unused_data
    except zlib.error:
        raise BadRequestError("The body is not a gzip stream.") from None
    if not member.eof:
        raise BadRequestError("The body is not a complete gzip stream.")
    return bytes(decompressed)
