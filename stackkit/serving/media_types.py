"""Content-Type, read as HTTP says: the type in any letter case, parameters perhaps quoted, a semicolon too many."""

from __future__ import annotations

from .errors import RequestError

JSON = "application/json"
CSV_TYPES = ("text/csv", "application/csv")
PARQUET = "application/vnd.apache.parquet"
MEDIA_TYPES = (JSON, *CSV_TYPES, PARQUET)


def media_type(header: str | None) -> str:
    """The media type in lower case, one of MEDIA_TYPES. Raises RequestError (415) for any other type or charset.

    Parameters other than charset are ignored.
    """
    name, *parameters = (header or "").split(";")
    name = name.strip().lower()
    if name not in MEDIA_TYPES:
        given = "The request has no Content-Type" if not name else "The request's Content-Type is not supported"
        raise _unsupported(f"{given}: expected one of {', '.join(MEDIA_TYPES)}.")
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        charset = value.strip().strip('"').lower()
        if key.strip().lower() == "charset" and charset not in ("utf-8", "utf8", "us-ascii", "ascii"):
            raise _unsupported("Only the charset utf-8 is supported.")
    return name


def is_gzipped(header: str | None) -> bool:
    """Whether a Content-Encoding is gzip's. Raises RequestError (415) for any other but identity."""
    coding = (header or "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip"):
        raise RequestError(415, "BAD_REQUEST", "The request's Content-Encoding is not supported: expected gzip.")
    return coding != "identity"


def _unsupported(message: str) -> RequestError:
    return RequestError(415, "BAD_REQUEST", message)
