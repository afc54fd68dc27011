from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stackkit.serving import http_server
from stackkit.serving.app import App
from stackkit.serving.http_server import Server

PING = b"GET /ping HTTP/1.1\r\nhost: localhost\r\n\r\n"


def with_server(app: App, scenario: Callable[[Server, int], Awaitable[None]]) -> list[str]:
    """Run ``scenario`` with a server in this process and the port it listens on, then end the server."""
    events: list[str] = []

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            config = http_server.configure(app, None, None)
            server = Server(config, on_draining=lambda: events.append("draining"), on_end=lambda: events.append("end"))
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            while not server.started:
                await asyncio.sleep(0.001)
            try:
                await scenario(server, listener.getsockname()[1])
            finally:
                server.should_exit = True
                await serving

    asyncio.run(asyncio.wait_for(run(), 60))
    return events


@pytest.fixture
def app(make_app: Callable[..., App]) -> App:
    return make_app(lambda data: data)


async def is_closed(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), 60) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("sent", [b"", b"GET /ping HTTP/1.1\r\n", PING + b"GET /pi"])
def test_a_head_that_does_not_come_in_time_closes_its_connection(
    app: App, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(server: Server, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        if sent.startswith(PING):
            await reader.readuntil(b"\r\n\r\n\n")
        while not server.server_state.connections:
            await asyncio.sleep(0.001)
        server.close_slow_heads()
        assert len(server.server_state.connections) == 1  # not yet
        monkeypatch.setattr(http_server, "HEAD_TIMEOUT", -1.0)
        server.close_slow_heads()
        assert await is_closed(reader)
        writer.close()

    with_server(app, scenario)


def test_a_connection_between_two_requests_is_not_slow(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(server: Server, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        monkeypatch.setattr(http_server, "HEAD_TIMEOUT", -1.0)
        for _ in range(2):
            writer.write(PING)
            assert (await reader.readuntil(b"\r\n\r\n\n")).startswith(b"HTTP/1.1 200")
            server.close_slow_heads()
        writer.close()

    with_server(app, scenario)


def test_a_head_that_is_too_long_closes_its_connection(app: App) -> None:
    async def scenario(_: Server, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /ping HTTP/1.1\r\n" + b"x: y\r\n" * 20_000)
        assert await is_closed(reader)
        writer.close()

    with_server(app, scenario)


def test_a_body_may_be_longer_than_a_head(make_app: Callable[..., App]) -> None:
    async def scenario(_: Server, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = b'{"inputs": "' + b"x" * 200_000 + b'"}'
        head = b"host: localhost\r\ncontent-type: application/json\r\ncontent-length: %d" % len(body)
        for _ in range(2):
            writer.write(b"POST /invocations HTTP/1.1\r\n" + head + b"\r\n\r\n" + body)
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        writer.close()

    with_server(make_app(len), scenario)


def test_a_server_that_ends_answers_open_connections_for_a_while(app: App) -> None:
    replies: list[Any] = []

    async def scenario(server: Server, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(PING)
        await reader.readuntil(b"\r\n\r\n\n")
        server.should_exit = True
        while server.servers[0].is_serving():
            await asyncio.sleep(0.001)
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", port)
        writer.write(PING)
        replies.append(await reader.readuntil(b"\r\n\r\n\n"))
        writer.close()

    assert with_server(app, scenario) == ["draining", "end"]
    assert replies[0].startswith(b"HTTP/1.1 200")
