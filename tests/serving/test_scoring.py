"""Bodies and replies of /invocations in the other formats that a caller may ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stackkit.serving.app import App


def send(app: App, call: Callable[..., Any], body: object, kind: str, accept: str) -> Any:
    return call(app, body=body, headers={"content-type": kind, "accept": accept})


@pytest.mark.parametrize(
    ("accept", "kind", "body"),
    [
        ("*/*", "application/json", b'{"predictions": [2, 4]}'),
        ("text/csv", "text/csv", b"2\n4\n"),
        ("application/jsonlines", "application/jsonlines", b"2\n4\n"),
    ],
)
def test_the_reply_is_negotiated(
    make_app: Callable[..., App], call: Callable[..., Any], accept: str, kind: str, body: bytes
) -> None:
    app = make_app(lambda data: [2 * value for value in data])
    reply = send(app, call, {"inputs": [1, 2]}, "application/json", accept)
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, kind, body)


def test_errors_are_json_whatever_is_asked_for(make_app: Callable[..., App], call: Callable[..., Any]) -> None:
    reply = send(make_app(len), call, b"{", "application/json", "text/csv")
    assert (reply.status, reply.headers["content-type"]) == (400, "application/json")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a": 1}\n{"a": 2}\n', {"DataFrame": [{"a": 1}, {"a": 2}]}),
        (b"[1, 2]\r\n\r\n[3, 4]", {"list": [[1, 2], [3, 4]]}),
        (b'{"a": 1}\n7', {"list": [{"a": 1}, 7]}),
    ],
)
def test_json_lines_are_rows(
    make_app: Callable[..., App], call: Callable[..., Any], body: bytes, expected: dict[str, Any]
) -> None:
    app = make_app(lambda data: {type(data).__name__: data})
    reply = send(app, call, body, "application/jsonlines", "application/json")
    assert reply.content == {"predictions": expected}


def test_lines_that_are_no_json_are_400(make_app: Callable[..., App], call: Callable[..., Any]) -> None:
    assert send(make_app(len), call, b"{}\n{", "application/jsonlines", "*/*").status == 400
