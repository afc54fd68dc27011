from __future__ import annotations

import asyncio
import gzip
import io
import logging
import random
import threading
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackkit.serving import __version__
from stackkit.serving.app import App
from stackkit.serving.scoring import gunzip

JSON = {"content-type": "application/json"}
Call = Callable[..., Any]
MakeApp = Callable[..., App]


def double(data: Any) -> Any:
    return [2 * value for value in data]


def fail(error: BaseException) -> Callable[[Any], Any]:
    def predict(_: Any) -> Any:
        raise error

    return predict


def test_a_prediction(call: Call, make_app: MakeApp) -> None:
    reply = call(make_app(double), body={"inputs": [1, 2]})
    assert (reply.status, reply.content) == (200, {"predictions": [2, 4]})
    assert reply.headers["content-type"] == "application/json"
    assert int(reply.headers["content-length"]) == len(reply.body)


def test_a_body_may_come_in_pieces(call: Call, make_app: MakeApp) -> None:
    assert call(make_app(double), body={"inputs": [1, 2, 3, 4]}, chunks=5).content == {"predictions": [2, 4, 6, 8]}


@pytest.mark.parametrize("path", ["/ping", "/health"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_health_is_503_until_the_model_is_loaded(call: Call, make_app: MakeApp, path: str, method: str) -> None:
    loading = call(make_app(), path, method=method)
    assert loading.status == 503
    assert loading.headers["retry-after"] == "1"
    if method == "GET":
        assert loading.content["error_code"] == "TEMPORARILY_UNAVAILABLE"
    ready = call(make_app(double), path, method=method)
    assert (ready.status, ready.body) == (200, b"\n" if method == "GET" else b"")


def test_predictions_are_refused_until_the_model_is_loaded(call: Call, make_app: MakeApp) -> None:
    assert call(make_app(), body={"inputs": [1]}).status == 503


def test_the_version(call: Call, make_app: MakeApp) -> None:
    assert call(make_app(), "/version", method="GET").body.decode() == __version__


@pytest.mark.parametrize(
    ("path", "method", "location"),
    [
        ("/invocations/", "POST", "/invocations"),
        ("/invocations/", "GET", "/invocations"),
        ("/ping//", "HEAD", "/ping"),
        ("/p%69ng/", "GET", "/ping"),
    ],
)
def test_a_slash_at_the_end_is_redirected(call: Call, make_app: MakeApp, path: str, method: str, location: str) -> None:
    reply = call(make_app(double), path, {"inputs": [1]}, method=method)
    assert (reply.status, reply.headers["location"], reply.body) == (307, location, b"")


@pytest.mark.parametrize("path", ["/v2/", "/v2/health/live/", "/metrics/"])
def test_elsewhere_a_slash_at_the_end_makes_no_difference(call: Call, make_app: MakeApp, path: str) -> None:
    assert call(make_app(double), path, method="GET").status == 200


def test_an_unknown_path(call: Call, make_app: MakeApp) -> None:
    reply = call(make_app(double), "/predict", {"inputs": [1]})
    assert (reply.status, reply.content["error_code"]) == (404, "ENDPOINT_NOT_FOUND")


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [("/invocations", "GET", "POST"), ("/invocations", "HEAD", "POST"), ("/ping", "POST", "GET, HEAD")],
)
def test_a_wrong_method_is_told_the_right_one(
    call: Call, make_app: MakeApp, path: str, method: str, allowed: str
) -> None:
    reply = call(make_app(double), path, method=method)
    assert (reply.status, reply.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "APPLICATION/JSON",
        'application/json; charset="utf-8"',
        "application/json; charset=UTF-8",
        "application/json;",
        "application/json; format=pandas",
    ],
)
def test_content_types_are_read_as_http_says(call: Call, make_app: MakeApp, content_type: str) -> None:
    assert call(make_app(double), body={"inputs": [1]}, headers={"content-type": content_type}).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": ""},
        {"content-type": "text/plain"},
        {"content-type": "application/vnd.api+json"},
        {"content-type": "application/json; charset=latin-1"},
        {**JSON, "content-encoding": "br"},
    ],
)
def test_what_cannot_be_read_is_415(call: Call, make_app: MakeApp, headers: dict[str, str]) -> None:
    reply = call(make_app(double), body={"inputs": [1]}, headers=headers)
    assert (reply.status, reply.content["error_code"]) == (415, "BAD_REQUEST")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not valid JSON"),
        (b'{"inputs": [secret', "not valid JSON"),
        (b'{"inputs": "\xff"}', "not valid UTF-8"),
        (b"[1]", "must be a JSON object"),
        (b"{}", "it has none of them"),
        (b'{"inputs": [1], "instances": [1]}', "it has instances and inputs"),
        (b'{"dataframe_split": [1]}', "must be an object"),
        (b'{"dataframe_split": {"columns": ["a"]}}', "list of rows named data"),
        (b'{"dataframe_split": {"data": [], "dtype": 1}}', "nothing else"),
        (b'{"dataframe_split": {"data": [], "columns": "a"}}', "columns of dataframe_split must be a list"),
        (b'{"dataframe_records": {"a": 1}}', "must be a list"),
        (b'{"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}', "do not fit together"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"inputs": ' + b"1" * 5000 + b"}", "number that is too long"),
    ],
)
def test_a_malformed_payload_is_400_and_echoes_nothing(
    call: Call, make_app: MakeApp, body: bytes, message: str
) -> None:
    reply = call(make_app(double), body=body)
    assert reply.status == 400
    assert reply.content["error_code"] == "BAD_REQUEST"
    assert message in reply.content["message"]
    assert "secret" not in reply.content["message"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_says_itself_how_it_is_encoded(call: Call, make_app: MakeApp, encoding: str) -> None:
    assert call(make_app(double), body='{"inputs": [1]}'.encode(encoding)).content == {"predictions": [2]}


@pytest.mark.parametrize("extra", [{"signature_name": "x"}, {"client_request_id": "x"}, {"data": [3], "columns": []}])
def test_further_keys_are_dropped(call: Call, make_app: MakeApp, extra: dict[str, Any]) -> None:
    assert call(make_app(double), body={"inputs": [1], **extra}).content == {"predictions": [2]}


def test_a_chat_request_reaches_a_function_whole_and_its_reply_is_bare(call: Call, make_app: MakeApp) -> None:
    chat = {"messages": [{"role": "user", "content": "hi"}], "temperature": 0}
    assert call(make_app(lambda data: {"got": data}), body=chat).content == {"got": chat}


@pytest.mark.parametrize("error", [ValueError("two columns, please"), TypeError("two columns, please")])
def test_the_models_complaint_about_its_input_is_400(call: Call, make_app: MakeApp, error: Exception) -> None:
    reply = call(make_app(fail(error)), body={"inputs": [1]})
    assert (reply.status, reply.content["error_code"]) == (400, "BAD_REQUEST")
    assert "two columns, please" in reply.content["message"]


@pytest.mark.parametrize("error", [RuntimeError("secret"), KeyError("secret"), SystemExit("secret"), StopIteration()])
def test_any_other_failure_is_500_with_the_traceback_in_the_log_alone(
    call: Call, make_app: MakeApp, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(fail(error))
    reply = call(app, body={"inputs": [1]})
    assert (reply.status, reply.content["error_code"]) == (500, "INTERNAL_ERROR")
    assert b"secret" not in reply.body
    record = next(record for record in caplog.records if record.levelno == logging.ERROR)
    assert reply.content["request_id"] in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert call(app, "/ping", method="GET").status == 200


def test_a_prediction_that_json_cannot_say_is_500(call: Call, make_app: MakeApp) -> None:
    assert call(make_app(lambda _: {1, 2}), body={"inputs": [1]}).status == 500


def test_gzip_is_decoded(call: Call, make_app: MakeApp) -> None:
    headers = {**JSON, "content-encoding": "GZIP"}
    body = gzip.compress(b'{"inputs"') + gzip.compress(b": [4]}")
    assert call(make_app(double), body=body, headers=headers).content == {"predictions": [8]}


def test_gzip_of_many_members_is_decoded_in_small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows a member is copied: of millions of them, all that follows would be, each time."""
    sizes: list[int] = []
    original = zlib.decompressobj

    class Member:
        def __init__(self, wbits: int) -> None:
            self._member = original(wbits=wbits)

        def decompress(self, data: bytes, limit: int) -> bytes:
            sizes.append(len(data))
            return self._member.decompress(data, limit)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._member, name)

    monkeypatch.setattr(zlib, "decompressobj", Member)
    members = [b"", b"ab", random.Random(0).randbytes(40_000), b"", b"c"] * 500
    body = b"".join(gzip.compress(each, 1, mtime=0) for each in members[:50]) + gzip.compress(b"", mtime=0) * 3000
    assert gunzip(body, len(body)) == b"".join(members[:50])
    assert max(sizes) < 32 * 1024


@pytest.mark.parametrize("body", [b"{}", gzip.compress(b'{"inputs": [1]}', mtime=0)[:-9]], ids=["plain", "cut short"])
def test_what_is_no_gzip_is_400(call: Call, make_app: MakeApp, body: bytes) -> None:
    assert call(make_app(double), body=body, headers={**JSON, "content-encoding": "gzip"}).status == 400


@pytest.mark.parametrize(
    ("body", "headers", "chunks"),
    [
        (b"x" * 101, {**JSON, "content-length": "101"}, 1),
        (b"x" * 101, JSON, 10),
        (gzip.compress(b"x" * 1_000_000, mtime=0)[:100], {**JSON, "content-encoding": "gzip"}, 1),
        (
            gzip.compress(b"", mtime=0) * 4 + gzip.compress(b"x" * 101, mtime=0)[:20],
            {**JSON, "content-encoding": "gzip"},
            1,
        ),
    ],
    ids=["declared", "in pieces", "bomb", "bomb in parts"],
)
def test_a_body_beyond_the_limit_is_413(
    call: Call, make_app: MakeApp, body: bytes, headers: dict[str, str], chunks: int
) -> None:
    reply = call(make_app(double, max_body=100), body=body, headers=headers, chunks=chunks)
    assert (reply.status, reply.content["error_code"]) == (413, "BAD_REQUEST")


def test_a_parquet_file_that_unfolds_beyond_the_limit_is_413(call: Call, make_app: MakeApp) -> None:
    content = io.BytesIO()
    pd.DataFrame({"a": np.zeros(200_000, dtype="int8"), "b": "text"}).to_parquet(content)
    headers = {"content-type": "application/vnd.apache.parquet"}
    replies = [
        call(make_app(len, max_body=size), body=content.getvalue(), headers=headers) for size in (399_999, 500_000)
    ]
    assert len(content.getvalue()) < 50_000
    assert [reply.status for reply in replies] == [413, 200]
    assert replies[1].content == {"predictions": 200_000}
    assert call(make_app(len), body=b"PAR1", headers=headers).status == 400


def test_a_body_at_the_limit_is_answered(call: Call, make_app: MakeApp) -> None:
    body = b'{"inputs": [1]}'
    assert call(make_app(double, max_body=len(body)), body=body).status == 200


def test_a_call_that_takes_too_long_is_504(call: Call, make_app: MakeApp) -> None:
    released = threading.Event()
    app = make_app(lambda _: released.wait() and [], request_timeout=0.05)
    reply = call(app, body={"inputs": [1]})
    released.set()
    assert (reply.status, reply.content["error_code"]) == (504, "DEADLINE_EXCEEDED")


def test_a_full_queue_is_503_and_health_still_answers(make_app: MakeApp, ask: Callable[..., Awaitable[Any]]) -> None:
    began, released = threading.Event(), threading.Event()

    def wait(_: Any) -> Any:
        began.set()
        released.wait()
        return []

    app = make_app(wait, queue_capacity=1)

    async def scenario() -> list[int]:
        running = asyncio.create_task(ask(app, body={"inputs": [1]}))
        await asyncio.to_thread(began.wait)
        waiting = asyncio.create_task(ask(app, body={"inputs": [1]}))
        for _ in range(5):  # until it has come as far as the queue
            await asyncio.sleep(0)
        refused = await ask(app, body={"inputs": [1]})
        assert refused.headers["retry-after"] == "1"
        health = await ask(app, "/ping", method="GET")
        released.set()
        return [reply.status for reply in (refused, health, await running, await waiting)]

    assert asyncio.run(scenario()) == [503, 200, 200, 200]


@pytest.mark.parametrize(
    ("bound", "host", "status"),
    [
        ("127.0.0.1", "127.0.0.1:8000", 200),
        ("127.0.0.1", "localhost:8000", 200),
        ("127.0.0.1", "LocalHost", 200),
        ("127.0.0.1", "[::1]:8000", 200),
        ("127.0.0.1", "[::1]", 200),
        ("127.0.0.1", "evil.example:8000", 421),
        ("127.0.0.1", "127.0.0.1.evil.example", 421),
        ("127.0.0.1", "", 421),
        ("127.0.0.2", "127.0.0.2:8000", 200),
        ("127.0.0.1", "127.0.0.2:8000", 421),
        ("::1", "evil.example", 421),
        ("localhost", "evil.example", 421),
        ("0.0.0.0", "models.example", 200),
    ],
)
def test_a_loopback_server_answers_to_its_own_names_alone(
    call: Call, make_app: MakeApp, bound: str, host: str, status: int
) -> None:
    app = make_app(double, host=bound)
    assert call(app, body={"inputs": [1]}, headers={**JSON, "host": host}).status == status
