from __future__ import annotations

import pytest

from stackkit.serving.errors import RequestError
from stackkit.serving.media_types import is_gzipped, media_type, reply_type


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("application/json", "application/json"),
        ("APPLICATION/JSON", "application/json"),
        ('application/json; charset="UTF-8"', "application/json"),
        ("application/json;", "application/json"),
        ("text/csv; header=present", "text/csv"),
        ("application/jsonlines", "application/jsonlines"),
    ],
)
def test_content_types(header: str, expected: str) -> None:
    assert media_type(header) == expected


@pytest.mark.parametrize(
    "header", [None, "", "text/plain", "application/vnd.api+json", "application/json; charset=latin-1", "text/csv,"]
)
def test_other_content_types_are_415(header: str | None) -> None:
    with pytest.raises(RequestError) as caught:
        media_type(header)
    assert caught.value.status == 415


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/html, */*;q=0.8", "application/json"),
        ("text/html", "application/json"),
        ("application/json", "application/json"),
        ("text/csv", "text/csv"),
        ("TEXT/CSV; charset=utf-8", "text/csv"),
        ("text/*", "text/csv"),
        ("application/*", "application/json"),
        ("application/jsonlines", "application/jsonlines"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("text/csv;q=0.5, application/jsonlines", "application/jsonlines"),
        ("text/csv, application/json", "application/json"),
        ("text/csv, application/json;q=0", "text/csv"),
        ("*/*, application/json;q=0", "text/csv"),
        ("text/csv;q=nan", "application/json"),
        ("text/csv;q=x", "application/json"),
    ],
)
def test_the_reply_is_of_the_type_that_the_caller_likes_best(accept: str | None, expected: str) -> None:
    assert reply_type(accept) == expected


@pytest.mark.parametrize("accept", ["text/event-stream;q=0", "application/json;q=0", "text/event-stream;q=x"])
def test_nobody_is_streamed_to_who_does_not_want_it(accept: str) -> None:
    assert reply_type(accept, can_stream=True) == "application/json"


def test_content_encodings() -> None:
    assert [is_gzipped(header) for header in (None, "identity", "gzip", " GZIP ", "x-gzip")] == [0, 0, 1, 1, 1]
    with pytest.raises(RequestError):
        is_gzipped("br")
