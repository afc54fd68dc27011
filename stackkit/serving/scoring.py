"""One request from its body to its reply's body: decode, call the model, encode. Runs on the model's thread."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import payloads, replies
from .errors import BadRequestError, RequestError
from .models import Model
from .payloads import Payload, Shape

JSON = "application/json"
CSV_TYPES = ("text/csv", "application/csv")
PARQUET = "application/vnd.apache.parquet"
MEDIA_TYPES = (JSON, *CSV_TYPES, PARQUET)


class ModelFailedError(Exception):
    """The model's own code raised what is no complaint about its input; the cause is its exception."""


@dataclass(frozen=True)
class ScoringRequest:
    """A request's body as it came. ``media_type`` is one of MEDIA_TYPES."""

    body: bytes
    media_type: str
    is_gzipped: bool = False


class Scorer:
    """Answers scoring requests with one model; ``max_body`` bounds what a compressed body may become, in bytes."""

    def __init__(self, model: Model, max_body: int) -> None:
        self._model = model
        self._max_body = max_body

    def score(self, request: ScoringRequest) -> bytes:
        """The reply's body, as JSON. Raises RequestError for the caller's mistakes, else ModelFailedError."""
        data, params = self._decode(request)
        return self._encode(self._predict(data, params), wrapped=data.shape is not Shape.WHOLE)

    def _decode(self, request: ScoringRequest) -> tuple[Payload, Mapping[str, Any] | None]:
        body = gunzip(request.body, self._max_body) if request.is_gzipped else request.body
        if request.media_type == JSON:
            return payloads.decode_json(body, self._model.chat_keys)
        if request.media_type == PARQUET:
            return Payload(Shape.PARQUET, body), None
        return payloads.decode_csv(body), None

    def _predict(self, data: Payload, params: Mapping[str, Any] | None) -> Any:
        try:
            return self._model.predict(data, params)
        except RequestError:
            raise
        except (ValueError, TypeError) as error:
            raise BadRequestError(f"The model refused the input: {error}") from error
        except BaseException as error:
            # SystemExit and KeyboardInterrupt too: a model that calls exit() must not end the server
            raise ModelFailedError from error

    def _encode(self, predictions: Any, *, wrapped: bool) -> bytes:
        try:
            return replies.encode(predictions, wrapped=wrapped)
        except (TypeError, ValueError, RecursionError) as error:
            raise ModelFailedError from error


def gunzip(body: bytes, limit: int) -> bytes:
    """Decompress, never past ``limit`` bytes. Raises RequestError: 413 when there is more, 400 for what is no gzip."""
    decompressed = bytearray()
    rest = body
    try:
        while True:  # a gzip file may be several, one after the other
            stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            decompressed += stream.decompress(rest, limit + 1 - len(decompressed))
            if len(decompressed) > limit:
                raise RequestError(413, "BAD_REQUEST", f"The body is larger than {limit} bytes when decompressed.")
            if not stream.eof:
                raise BadRequestError("The body is not a complete gzip stream.")
            rest = stream.unused_data
            if not rest:
                return bytes(decompressed)
    except zlib.error:
        raise BadRequestError("The body is not a gzip stream.") from None
