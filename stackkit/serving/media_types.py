"""Content-Type, Content-Encoding and Accept, read as HTTP says: types in any letter case, parameters perhaps quoted."""

from __future__ import annotations

import math
from functools import lru_cache

from .errors import RequestError

JSON = "application/json"
CSV_TYPES = ("text/csv", "application/csv")
JSON_LINES_TYPES = ("application/jsonlines", "application/x-ndjson")
PARQUET = "application/vnd.apache.parquet"
MEDIA_TYPES = (JSON, *CSV_TYPES, PARQUET, *JSON_LINES_TYPES)
"""What a request's body may be."""

EVENT_STREAM = "text/event-stream"

REPLY_TYPES = (JSON, *CSV_TYPES, *JSON_LINES_TYPES)
"""What a reply's body may be, in the order of our own preference."""


@lru_cache(maxsize=64)
def media_type(header: str | None) -> str:
    """The media type in lower case, one of MEDIA_TYPES. Raises RequestError (415) for any other type or charset.

    Parameters other than charset are ignored.
    """
    name, parameters = _parsed(header or "")
    if name not in MEDIA_TYPES:
        given = "The request has no Content-Type" if not name else "The request's Content-Type is not supported"
        raise _unsupported(f"{given}: expected one of {', '.join(MEDIA_TYPES)}.")
    if parameters.get("charset", "utf-8") not in ("utf-8", "utf8", "us-ascii", "ascii"):
        raise _unsupported("Only the charset utf-8 is supported.")
    return name


def reply_type(accept: str | None, *, can_stream: bool = False) -> str:
    """The one of REPLY_TYPES that the caller likes best, or EVENT_STREAM where it is named and ``can_stream``.

    JSON when nothing or nothing known is asked for: MLflow's server never looks at Accept, and its clients may send
    anything.
    """
    if accept is None or accept == "*/*":
        return JSON
    wishes = dict(map(_wish, accept.split(",")))
    if can_stream and 0 < wishes.get(EVENT_STREAM, 0) >= max(wishes.values()):
        return EVENT_STREAM
    best = max(REPLY_TYPES, key=lambda kind: _quality(kind, wishes))
    return best if _quality(best, wishes) > 0 else JSON


def is_gzipped(header: str | None) -> bool:
    """Whether a Content-Encoding is gzip's. Raises RequestError (415) for any other but identity."""
    coding = (header or "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip"):
        raise RequestError(415, "BAD_REQUEST", "The request's Content-Encoding is not supported: expected gzip.")
    return coding != "identity"


def _wish(text: str) -> tuple[str, float]:
    name, parameters = _parsed(text)
    try:
        quality = float(parameters.get("q", "1"))
    except ValueError:
        quality = 0.0
    return name, quality if math.isfinite(quality) else 0.0


def _quality(kind: str, wishes: dict[str, float]) -> float:
    """The most specific range that the type is in counts."""
    major, _, _ = kind.partition("/")
    return next((wishes[name] for name in (kind, f"{major}/*", "*/*") if name in wishes), 0.0)


def _parsed(text: str) -> tuple[str, dict[str, str]]:
    """The type and its parameters, all in lower case."""
    name, *rest = text.lower().split(";")
    pairs = (parameter.partition("=") for parameter in rest)
    return name.strip(), {key.strip(): value.strip().strip('"') for key, _, value in pairs}


def _unsupported(message: str) -> RequestError:
    return RequestError(415, "BAD_REQUEST", message)
