from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from stackkit.serving.app import App
from stackkit.serving.bounds import HEAD_TIMEOUT, KEEP_ALIVE
from stackkit.serving.http_server import Server

PING = b"GET /ping HTTP/1.1\r\nhost: localhost\r\n\r\n"


def with_server(
    app: App,
    scenario: Callable[[Server, int], Awaitable[None]],
    new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
) -> list[str]:
    """Run ``scenario`` with a server in this process and the port it listens on, then end the server."""
    events: list[str] = []

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = Server(app, on_draining=lambda: events.append("draining"), on_end=lambda: events.append("end"))
            serving = asyncio.create_task(server.serve(listener))
            try:
                await scenario(server, listener.getsockname()[1])
            finally:
                server.stop()
                await serving

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(run(), 60))
    return events


@pytest.fixture
def app(make_app: Callable[..., App]) -> App:
    return make_app(lambda data: data)


async def is_closed(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), 60) == b""
    except ConnectionError:
        return True


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("sent", [b"", b"GET /ping HTTP/1.1\r\n", PING + b"GET /pi"])
def test_a_head_that_does_not_come_in_time_closes_its_connection(app: App, sent: bytes) -> None:
    async def scenario(server: Server, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        if sent.startswith(PING):
            await reader.readuntil(b"\r\n\r\n\n")
        while not server.connections:
            await asyncio.sleep(0.001)
        server.close_overdue(now())
        assert server.connections == 1  # not yet
        server.close_overdue(now() + HEAD_TIMEOUT + 1)
        assert await is_closed(reader)
        writer.close()

    with_server(app, scenario)


def test_a_connection_between_two_requests_may_be_idle_for_longer(app: App) -> None:
    async def scenario(server: Server, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(PING)
            assert (await reader.readuntil(b"\r\n\r\n\n")).startswith(b"HTTP/1.1 200")
            server.close_overdue(now() + HEAD_TIMEOUT + 1)
        server.close_overdue(now() + KEEP_ALIVE + 1)
        assert await is_closed(reader)
        writer.close()

    with_server(app, scenario)


LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


@LOOPS
def test_a_client_that_says_no_more_is_answered(
    make_app: Callable[..., App], new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    replies: list[bytes] = []
    released = threading.Event()

    async def scenario(server: Server, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = b'{"inputs": 1}'
        head = b"POST /invocations HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        writer.write((head + b"content-length: %d\r\n\r\n" % len(body) + body) * 2)
        writer.write_eof()
        _, other = await asyncio.open_connection("127.0.0.1", port)
        while server.connections < 2:  # by then it has seen the end of the first
            await asyncio.sleep(0.001)
        released.set()
        replies.append(await reader.read())
        writer.close()
        other.close()

    with_server(make_app(lambda data: released.wait() and data), scenario, new_loop)
    assert replies[0].count(b'{"predictions": 1}') == 2
    assert replies[0].count(b"connection: close") == 1


@LOOPS
@pytest.mark.parametrize("connection", ["close", "keep-alive"])
def test_a_client_that_takes_nothing_of_a_reply_is_not_waited_for(
    make_app: Callable[..., App], connection: str, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def scenario(server: Server, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        head = f"POST /invocations HTTP/1.1\r\nhost: localhost\r\nconnection: {connection}\r\n"
        body = b'{"inputs": 1}'
        writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        await reader.readexactly(1000)
        server.close_overdue(now())
        assert server.connections == 1
        server.close_overdue(now() + KEEP_ALIVE + 1)  # it has taken some
        server.close_overdue(now() + 2 * KEEP_ALIVE + 1)
        while server.connections:
            await asyncio.sleep(0.001)
        writer.close()

    with_server(make_app(lambda _: "x" * 20_000_000), scenario, new_loop)


def test_a_server_that_ends_answers_open_connections_for_a_while(app: App) -> None:
    replies: list[Any] = []

    async def scenario(server: Server, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(PING)
        await reader.readuntil(b"\r\n\r\n\n")
        server.stop()
        while True:
            try:
                _, another = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                break
            another.close()
            with contextlib.suppress(ConnectionError):  # the kernel may have accepted it, and nobody else
                await another.wait_closed()
        writer.write(PING)
        replies.append(await reader.readuntil(b"\r\n\r\n\n"))
        assert await is_closed(reader)
        writer.close()

    assert with_server(app, scenario) == ["draining", "end"]
    assert replies[0].startswith(b"HTTP/1.1 200")
    assert b"\r\nconnection: close\r\n" in replies[0]
