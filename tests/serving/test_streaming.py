"""Server-sent events from a model that yields its answer in chunks."""

from __future__ import annotations

import asyncio
import contextvars
import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from stackkit.serving.app import App
from stackkit.serving.loaders.python_loader import PythonModel
from stackkit.serving.routing import Request, Response

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


class Client:
    """Sends one request to the application and hears the pieces of its reply."""

    def __init__(self, body: Any) -> None:
        self._body = json.dumps(body).encode()
        self._gone = asyncio.Event()
        self.heard: list[bytes] = []
        self.response: Response

    async def ask(self, app: App, headers: Mapping[str, str], leave_after: int | None = None) -> None:
        """``leave_after`` so many pieces."""
        self._leave_after = leave_after
        await app(Request("POST", "/invocations", headers, self), self._hear)

    async def body(self, _: int) -> bytes:
        return self._body

    async def gone(self) -> None:
        await self._gone.wait()

    async def _hear(self, response: Response) -> None:
        self.response = response
        if isinstance(response.body, bytes):
            self.heard.append(response.body)
            return
        async for piece in response.body:
            self.heard.append(piece)
            if len(self.heard) == self._leave_after:
                self._gone.set()
            await asyncio.sleep(0)


def exchange(
    app: App, body: Any, headers: Mapping[str, str] = EVENTS, leave_after: int | None = None
) -> tuple[int, Response, list[bytes]]:
    client = Client(body)
    asyncio.run(client.ask(app, headers, leave_after))
    return client.response.status, client.response, client.heard


def test_chunks_are_events(app: App) -> None:
    status, response, pieces = exchange(app, {"inputs": ["a", "b"]})
    assert (status, response.content_type) == (200, "text/event-stream")
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
    assert exchange(app, {"inputs": ["a"]}, {**EVENTS, "accept": accept})[1].content_type != "text/event-stream"


def test_a_model_that_cannot_stream_answers_whole(serve_model: Callable[..., App]) -> None:
    status, response, _ = exchange(serve_model(PythonModel("test", len)), {"inputs": ["a"]})
    assert (status, response.content_type) == (200, "application/json")


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

    _, _, pieces = exchange(serve_model(PythonModel("test", len, endless)), {"inputs": []}, leave_after=3)
    assert 3 <= len(pieces) < 10
    assert ended == [len(pieces) - 1]


def test_streams_take_turns_and_keep_their_context(serve_model: Callable[..., App]) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")

    def chunks(data: Any) -> Iterator[str]:
        name.set(data[0])
        for _ in range(3):
            yield name.get()

    app = serve_model(PythonModel("test", lambda _: name.get(), chunks))

    async def scenario() -> list[list[bytes]]:
        plain = {"content-type": "application/json"}
        clients = [Client({"inputs": ["a"]}), Client({"inputs": ["b"]}), Client({"inputs": [0]})]
        ways = (EVENTS, EVENTS, plain)
        await asyncio.gather(*(client.ask(app, headers) for client, headers in zip(clients, ways, strict=True)))
        return [client.heard for client in clients]

    first, second, plain = asyncio.run(scenario())
    assert first == [b'data: "a"\n\n'] * 3 + [b"data: [DONE]\n\n"]
    assert second == [b'data: "b"\n\n'] * 3 + [b"data: [DONE]\n\n"]
    assert plain == [b'{"predictions": "nobody"}']


def test_a_stream_has_its_turn_however_many_wait(serve_model: Callable[..., App]) -> None:
    turn, began = threading.Semaphore(0), threading.Event()
    calls: list[Any] = []

    def whole(data: Any) -> Any:
        began.set()
        turn.acquire()
        calls.append(data)
        return data

    def chunks(_: Any) -> Iterator[str]:
        for number in range(3):
            calls.append(f"chunk {number}")
            yield f"chunk {number}"

    app = serve_model(PythonModel("test", whole, chunks), queue_capacity=1)

    async def scenario() -> None:
        streamed = Client({"inputs": []})
        plain = {"content-type": "application/json"}
        others: list[asyncio.Task[None]] = []

        async def hear(response: Response) -> None:
            assert not isinstance(response.body, bytes)
            async for piece in response.body:
                streamed.heard.append(piece)
                if not others:  # the model is busy, and the queue is full
                    others.append(asyncio.create_task(Client({"inputs": 1}).ask(app, plain)))
                    await asyncio.to_thread(began.wait)
                    others.append(asyncio.create_task(Client({"inputs": 2}).ask(app, plain)))
                    await asyncio.sleep(0)
                    refused = Client({"inputs": 3})
                    await refused.ask(app, plain)
                    assert refused.response.status == 503
                    asyncio.get_running_loop().call_soon(turn.release, 2)

        await app(Request("POST", "/invocations", EVENTS, streamed), hear)
        await asyncio.gather(*others)
        assert streamed.heard[-1] == b"data: [DONE]\n\n"

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert calls == ["chunk 0", 1, 2, "chunk 1", "chunk 2"]


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
