"""Server-sent events from a model that yields its answer in chunks."""

from __future__ import annotations

import asyncio
import contextvars
import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stackkit.serving.app import App
from stackkit.serving.loaders.python_loader import PythonModel

EVENTS = {"content-type": "application/json", "accept": "text/event-stream"}


def words(data: Any) -> Iterator[Any]:
    for word in data:
        if word == "bad":
            raise ValueError("no such word")
        if word == "broken":
            raise RuntimeError("secret")
        yield {"word": word} if word != "unsayable" else {1, 2}


@pytest.fixture
def app(serve_model: Callable[..., App]) -> App:
    return serve_model(PythonModel("test", lambda data: ["whole", data], words))


def exchange(
    app: App, body: Any, headers: dict[str, str] = EVENTS, after: Callable[[int], None] = lambda _: None
) -> tuple[int, dict[str, str], list[bytes]]:
    """One request; ``after`` is called with the number of pieces that came so far, and may make the client leave."""
    gone = asyncio.Event()
    sent: list[Any] = []

    async def receive() -> Any:
        if not sent and not request:
            request.append(True)
            return {"type": "http.request", "body": json.dumps(body).encode()}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if message.get("body"):
            try:
                after(sum(bool(each.get("body")) for each in sent))
            except ConnectionError:
                gone.set()
            await asyncio.sleep(0)

    request: list[bool] = []
    lines = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/invocations", "raw_path": b"/invocations", "headers": lines}
    asyncio.run(app(scope, receive, send))
    received = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], received, [message["body"] for message in sent[1:] if message["body"]]


def test_chunks_are_events(app: App) -> None:
    status, headers, pieces = exchange(app, {"inputs": ["a", "b"]})
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert "content-length" not in headers
    assert pieces == [b'data: {"word": "a"}\n\n', b'data: {"word": "b"}\n\n', b"data: [DONE]\n\n"]


def test_no_chunk_at_all(app: App) -> None:
    assert exchange(app, {"inputs": []})[2] == [b"data: [DONE]\n\n"]


def test_a_chat_request_may_ask_for_it_in_its_body(serve_model: Callable[..., App]) -> None:
    app = serve_model(PythonModel("test", lambda data: data["messages"], lambda data: words(data["messages"])))
    plain = {"content-type": "application/json"}
    assert exchange(app, {"messages": ["a"], "stream": True}, plain)[2][0] == b'data: {"word": "a"}\n\n'
    assert exchange(app, {"messages": ["a"], "stream": False}, plain)[2] == [b'["a"]']


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/*", "text/event-stream;q=0.5, application/json"])
def test_who_does_not_ask_for_events_gets_the_whole(app: App, accept: str) -> None:
    assert exchange(app, {"inputs": ["a"]}, {**EVENTS, "accept": accept})[1]["content-type"] != "text/event-stream"


def test_a_model_that_cannot_stream_answers_whole(serve_model: Callable[..., App]) -> None:
    status, headers, _ = exchange(serve_model(PythonModel("test", len)), {"inputs": ["a"]})
    assert (status, headers["content-type"]) == (200, "application/json")


def test_what_fails_before_the_first_chunk_has_a_status(app: App) -> None:
    assert exchange(app, {"inputs": ["bad"]})[0] == 400
    assert exchange(app, {"inputs": ["broken"]})[0] == 500


@pytest.mark.parametrize(
    ("word", "code"), [("bad", "BAD_REQUEST"), ("broken", "INTERNAL_ERROR"), ("unsayable", "INTERNAL_ERROR")]
)
def test_what_fails_later_is_an_event(app: App, word: str, code: str) -> None:
    status, _, pieces = exchange(app, {"inputs": ["a", word, "b"]})
    assert (status, len(pieces)) == (200, 2)
    assert pieces[1].startswith(b"event: error\ndata: ")
    assert json.loads(pieces[1].removeprefix(b"event: error\ndata: "))["error_code"] == code
    assert b"secret" not in pieces[1]


def test_a_model_that_nobody_listens_to_any_more_is_told(serve_model: Callable[..., App]) -> None:
    ended: list[int] = []

    def endless(_: Any) -> Iterator[int]:
        count = 0
        try:
            while True:
                yield count
                count += 1
        finally:
            ended.append(count)

    def leave(pieces: int) -> None:
        if pieces == 3:
            raise ConnectionError

    _, _, pieces = exchange(serve_model(PythonModel("test", len, endless)), {"inputs": []}, after=leave)
    assert 3 <= len(pieces) < 10
    assert ended == [len(pieces) - 1]


def test_streams_take_turns_and_keep_their_context(serve_model: Callable[..., App]) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")

    def chunks(data: Any) -> Iterator[str]:
        name.set(data[0])
        for _ in range(3):
            yield name.get()

    app = serve_model(PythonModel("test", lambda _: name.get(), chunks))

    async def ask(body: Any, headers: dict[str, str], heard: list[bytes]) -> None:
        messages = [{"type": "http.request", "body": json.dumps(body).encode()}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            return await asyncio.Event().wait()

        async def send(message: Any) -> None:
            if message.get("body"):
                heard.append(message["body"])

        lines = [(key.encode(), value.encode()) for key, value in headers.items()]
        path = {"path": "/invocations", "raw_path": b"/invocations"}
        await app({"type": "http", "method": "POST", "headers": lines, **path}, receive, send)

    async def scenario() -> list[list[bytes]]:
        heard: list[list[bytes]] = [[], [], []]
        plain = {"content-type": "application/json"}
        await asyncio.gather(
            ask({"inputs": ["a"]}, EVENTS, heard[0]),
            ask({"inputs": ["b"]}, EVENTS, heard[1]),
            ask({"inputs": [0]}, plain, heard[2]),
        )
        return heard

    first, second, plain = asyncio.run(scenario())
    assert first == [b'data: "a"\n\n'] * 3 + [b"data: [DONE]\n\n"]
    assert second == [b'data: "b"\n\n'] * 3 + [b"data: [DONE]\n\n"]
    assert plain == [b'{"predictions": "nobody"}']


def test_a_running_server_sends_each_chunk_as_it_comes(tmp_path: Path, start_server: Callable[..., Any]) -> None:
    path = tmp_path / "talk.py"
    path.write_text(
        "import os, time\n"
        "class Talk:\n"
        "    def predict(self, data):\n"
        "        return data\n"
        "    def predict_stream(self, data):\n"
        "        yield 'first'\n"
        "        while not os.path.exists(data[0]):\n"
        "            time.sleep(0.01)\n"
        "        yield 'second'\n"
    )
    port = start_server(f"{path}:Talk").wait_ready().port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    flag = tmp_path / "go"
    connection.request("POST", "/invocations", json.dumps({"inputs": [str(flag)]}), EVENTS)
    response = connection.getresponse()
    assert response.readline() == b'data: "first"\n'
    flag.touch()
    assert response.read() == b'\ndata: "second"\n\ndata: [DONE]\n\n'
    connection.close()
