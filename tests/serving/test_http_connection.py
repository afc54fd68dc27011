"""What a client may say on a connection, and what it is told, byte for byte."""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from stackkit.serving.bounds import HEAD_TIMEOUT, KEEP_ALIVE
from stackkit.serving.http_connection import Connection, Connections
from stackkit.serving.http_exchange import Exchange
from stackkit.serving.routing import BodyTooLargeError, ClientGoneError, Request, Response, Send

Scenario = Callable[[Connection], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\n"
LARGE = b"x" * 100_000


class Echo:
    """Answers with what it was asked, and keeps it. A path names something else to be done."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.released = asyncio.Event()
        self.gone: list[str] = []

    async def __call__(self, request: Request, send: Send) -> None:
        self.requests.append(request)
        if request.path == "/refuse":
            await send(Response(415, b"no", headers={"x-reason": "dislike"}))
            return
        if request.path == "/wait":
            await self.released.wait()
        if request.path == "/stream":
            await send(Response(200, self._pieces(), "text/event-stream"))
            return
        try:
            body = await request.incoming.body(200_000)
        except (BodyTooLargeError, ClientGoneError) as error:
            self.gone.append(type(error).__name__)
            if isinstance(error, BodyTooLargeError):
                await send(Response(413, b"much"))
            return
        await send(Response(200, body or request.path.encode(), "text/plain"))

    async def _pieces(self) -> AsyncIterator[bytes]:
        yield b"first"
        yield b""
        await self.released.wait()
        if self.requests[0].query == "fail":
            raise RuntimeError("in the middle")
        yield b"second"


@pytest.fixture
def hold(transport: Any) -> Callable[[Scenario], Echo]:
    """Run a scenario with a connection; what is sent on it is in ``transport``."""

    def run(scenario: Scenario) -> Echo:
        async def connected() -> Echo:
            echo = Echo()
            connection = Connection(echo, Connections())
            connection.connection_made(transport)
            await scenario(connection)
            transport.leave()
            connection.connection_lost(None)
            await settle()
            return echo

        return asyncio.run(asyncio.wait_for(connected(), 60))

    return run


async def settle() -> None:
    """Until all has been done that can be."""
    for _ in range(20):
        await asyncio.sleep(0)


def saying(*pieces: bytes) -> Scenario:
    async def scenario(connection: Connection) -> None:
        for piece in pieces:
            connection.data_received(piece)
            await settle()

    return scenario


def bodies(sent: bytes) -> list[bytes]:
    """The replies' bodies, whose lengths must be as declared."""
    found = []
    while sent:
        head, _, sent = sent.partition(b"\r\n\r\n")
        if head == b"HTTP/1.1 100 Continue":
            continue
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found.append(sent[:length])
        sent = sent[length:]
    return found


def post(path: bytes, body: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join([b"POST %b HTTP/1.1" % path, b"Host: x", b"Content-Length: %d" % len(body), *lines, b"", body])


def test_a_reply_as_it_is_written(hold: Any, transport: Any) -> None:
    hold(saying(post(b"/refuse", b"")))
    head, _, body = bytes(transport.sent).partition(b"\r\n\r\n")
    status, date, *lines = head.split(b"\r\n")
    assert status == b"HTTP/1.1 415 Unsupported Media Type"
    assert date.startswith(b"date: ")
    assert date.endswith(b" GMT")
    assert lines == [b"content-type: application/json", b"content-length: 2", b"x-reason: dislike"]
    assert body == b"no"
    assert not transport.was_closed


@pytest.mark.parametrize("cuts", [1, 2, 7, 1000])
def test_requests_may_come_in_any_pieces(hold: Any, transport: Any, cuts: int) -> None:
    chunked = b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nContent-Type: evil\r\n\r\n"
    said = post(b"/a", b"one", b"Content-Type: a/b") + chunked + post(b"/b?q=1#f", b"")
    size = -(-len(said) // cuts)
    echo = hold(saying(*(said[at : at + size] for at in range(0, len(said), size))))
    assert bodies(transport.sent) == [b"one", b"abcde", b"/b"]
    assert [(each.method, each.path, each.query) for each in echo.requests] == [
        ("POST", "/a", ""),
        ("POST", "/c", ""),
        ("POST", "/b", "q=1"),
    ]
    assert dict(echo.requests[0].headers) == {"host": "x", "content-length": "3", "content-type": "a/b"}
    assert dict(echo.requests[1].headers) == {"transfer-encoding": "chunked"}  # and nothing that followed the body
    assert dict(echo.requests[2].headers) == {"host": "x", "content-length": "0"}


def test_requests_are_answered_in_their_order_and_reading_stops_meanwhile(hold: Any, transport: Any) -> None:
    async def scenario(connection: Connection) -> None:
        connection.data_received(post(b"/wait", b"1") + post(b"/", b"2") + post(b"/", b"3"))
        await settle()
        assert (transport.sent, transport.is_reading, connection.deadline) == (b"", False, math.inf)
        connection._application.released.set()
        await settle()
        assert bodies(transport.sent) == [b"1", b"2", b"3"]
        assert transport.is_reading

    hold(scenario)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/a%20b/?x=%41", "/a%20b/", "x=%41"),
        (b"http://example.org/a?b", "/a", "b"),
        (b"http://example.org", "/", ""),
        (b"*", "*", ""),
    ],
)
def test_the_target_of_a_request(hold: Any, target: bytes, path: str, query: str) -> None:
    (request,) = hold(saying(b"OPTIONS %b HTTP/1.1\r\n\r\n" % target)).requests
    assert (request.path, request.query) == (path, query)


def test_a_reply_to_head_has_a_length_and_no_body(hold: Any, transport: Any) -> None:
    hold(saying(b"HEAD /abc HTTP/1.1\r\n\r\n"))
    assert b"\r\ncontent-length: 4\r\n" in transport.sent
    assert transport.sent.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n nonsense",
    ],
)
def test_the_last_reply_says_that_it_is(hold: Any, transport: Any, said: bytes) -> None:
    echo = hold(saying(said))
    assert len(echo.requests) == 1
    assert transport.sent.startswith(HEAD)
    assert b"\r\nconnection: close\r\n" in transport.sent
    assert transport.was_closed


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n".replace(b" ", b""),
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"CONNECT example.org:80 HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_not_http_is_400_and_the_end(hold: Any, transport: Any, said: bytes) -> None:
    hold(saying(said))
    assert transport.sent.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nconnection: close\r\n" in transport.sent
    assert bodies(transport.sent) == [b"The request is not valid HTTP."]
    assert transport.was_closed


def test_another_protocol_that_is_offered_is_not_taken_and_the_request_answered(hold: Any, transport: Any) -> None:
    offer = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAA")
    echo = hold(saying(post(b"/", b"one", *offer) + post(b"/", b"two"), post(b"/", b"three", *offer)))
    assert bodies(transport.sent) == [b"one", b"two", b"three"]
    assert "upgrade" not in echo.requests[0].headers


def test_a_client_is_told_to_go_on_when_its_body_is_wanted(hold: Any, transport: Any) -> None:
    async def scenario(connection: Connection) -> None:
        said = post(b"/", b"body", b"Expect: 100-continue")
        connection.data_received(said[:-4])
        await settle()
        assert transport.sent == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.data_received(said[-4:])
        await settle()
        assert bodies(transport.sent) == [b"body"]

    hold(scenario)


def test_a_client_is_not_told_to_go_on_when_its_body_is_not_wanted(hold: Any, transport: Any) -> None:
    hold(saying(post(b"/refuse", b"body", b"Expect: 100-continue")[:-4]))
    assert bodies(transport.sent) == [b"no"]
    # or else its next request would be taken for the body that it has never sent
    assert b"\r\nconnection: close\r\n" in transport.sent


def test_the_rest_of_a_body_that_nobody_wants_is_passed_over(hold: Any, transport: Any) -> None:
    async def scenario(connection: Connection) -> None:
        said = post(b"/refuse", LARGE)
        connection.data_received(said[:1000])
        await settle()
        assert bodies(transport.sent) == [b"no"]
        assert 0 < connection.deadline - connection.loop.time() <= HEAD_TIMEOUT
        connection.data_received(said[1000:] + post(b"/", b"next"))
        await settle()
        assert bodies(transport.sent) == [b"no", b"next"]
        assert connection.deadline - connection.loop.time() > HEAD_TIMEOUT

    hold(scenario)


def test_the_rest_of_the_last_request_is_awaited_before_the_end(hold: Any, transport: Any) -> None:
    async def scenario(connection: Connection) -> None:
        said = post(b"/refuse", b"body", b"Connection: close")
        connection.data_received(said[:-1])
        await settle()
        assert (bodies(transport.sent), transport.was_closed) == ([b"no"], False)
        connection.data_received(said[-1:])
        assert transport.was_closed

    hold(scenario)


def test_a_body_is_not_taken_in_before_it_is_wanted(hold: Any, transport: Any) -> None:
    async def scenario(connection: Connection) -> None:
        said = post(b"/wait", LARGE + LARGE)
        connection.data_received(said[:100_000])
        await settle()
        assert not transport.is_reading
        connection._application.released.set()
        await settle()
        assert transport.is_reading
        connection.data_received(said[100_000:])
        await settle()
        assert bodies(transport.sent) == [LARGE + LARGE]

    hold(scenario)


def test_a_body_that_is_too_large_is_refused_as_soon_as_it_is(hold: Any, transport: Any) -> None:
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%b\r\n" % (len(LARGE), LARGE)
    hold(saying(head, chunk, chunk, chunk, chunk, b"0\r\n\r\n", post(b"/", b"next")))
    assert bodies(transport.sent) == [b"much", b"next"]


def test_a_client_that_leaves_in_the_middle_of_its_request_is_sent_nothing(hold: Any, transport: Any) -> None:
    echo = hold(saying(post(b"/", b"body")[:-1]))
    assert echo.gone == ["ClientGoneError"]
    assert transport.sent == b""


def test_a_client_that_leaves_before_its_reply_is_sent_nothing(hold: Any, transport: Any) -> None:
    async def scenario(connection: Connection) -> None:
        connection.data_received(post(b"/wait", b""))
        await settle()
        gone = asyncio.ensure_future(connection._application.requests[0].incoming.gone())
        transport.leave()
        connection.connection_lost(None)
        await gone
        connection._application.released.set()

    hold(scenario)
    assert transport.sent == b""


def test_a_reply_waits_for_a_client_that_is_slow_to_take_the_one_before(hold: Any, transport: Any) -> None:
    async def scenario(connection: Connection) -> None:
        connection.pause_writing()
        connection.data_received(post(b"/", b"body"))
        await settle()
        assert transport.sent == b""
        assert 0 < connection.deadline - connection.loop.time() <= KEEP_ALIVE
        connection.resume_writing()
        await settle()
        assert bodies(transport.sent) == [b"body"]

    hold(scenario)


@pytest.mark.parametrize(
    ("version", "wanted"),
    [(b"1.1", b"5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n"), (b"1.0", b"firstsecond")],
)
def test_pieces_are_sent_as_they_come(hold: Any, transport: Any, version: bytes, wanted: bytes) -> None:
    async def scenario(connection: Connection) -> None:
        connection.data_received(b"GET /stream HTTP/%b\r\n\r\n" % version)
        await settle()
        assert b"first" in transport.sent
        assert b"second" not in transport.sent
        connection._application.released.set()
        await settle()

    hold(scenario)
    head, _, body = transport.sent.partition(b"\r\n\r\n")
    assert body == wanted
    assert b"content-length" not in head
    assert transport.was_closed is (version == b"1.0")


def test_a_stream_that_breaks_off_is_not_made_to_look_whole(
    hold: Any, transport: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(connection: Connection) -> None:
        connection.data_received(b"GET /stream?fail HTTP/1.1\r\n\r\n")
        connection._application.released.set()
        await settle()

    hold(scenario)
    assert transport.sent.endswith(b"5\r\nfirst\r\n")
    assert transport.was_closed
    assert "in the middle" in caplog.text


def test_a_head_that_is_too_long_closes_its_connection(hold: Any, transport: Any) -> None:
    lines = b"x: y\r\n" * 5000
    hold(saying(b"GET / HTTP/1.1\r\n", lines, lines, lines))
    assert transport.was_closed
    assert transport.sent == b""


@pytest.mark.parametrize(
    "pieces",
    [[b"x: y\r\n" * 5000] * 3, [b"x: " + LARGE, LARGE], [b";" + LARGE, LARGE]],
    ids=["trailers", "a trailer", "a chunk's extension"],
)
def test_what_is_neither_head_nor_body_is_no_longer_than_a_head(hold: Any, transport: Any, pieces: list[bytes]) -> None:
    end = b"0" if pieces[0].startswith(b";") else b"0\r\n"
    echo = hold(saying(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n" + end, *pieces))
    assert transport.was_closed
    assert transport.sent == b""
    assert echo.gone == ["ClientGoneError"]


def test_what_comes_in_one_piece_with_the_beginning_of_a_head_is_none_of_it(hold: Any, transport: Any) -> None:
    said = post(b"/", LARGE) + post(b"/", b"next")
    hold(saying(said[:-30], said[-30:]))
    assert bodies(transport.sent) == [LARGE, b"next"]


@pytest.mark.parametrize("line", [b"Connection: close", b"Connection: keep-alive"])
def test_a_client_has_time_for_a_reply_while_it_takes_some_of_it(hold: Any, transport: Any, line: bytes) -> None:
    async def scenario(connection: Connection) -> None:
        transport.unsent = 100
        connection.data_received(post(b"/", b"body", line))
        await settle()
        later = connection.loop.time() + KEEP_ALIVE + 1
        assert not connection.is_overdue(connection.loop.time())
        transport.unsent = 99
        assert not connection.is_overdue(later)
        assert not connection.is_overdue(connection.loop.time())
        assert connection.is_overdue(later)

    hold(scenario)


def test_how_long_a_client_may_be_silent(hold: Any) -> None:
    async def scenario(connection: Connection) -> None:
        def left() -> float:
            return connection.deadline - connection.loop.time()

        assert 0 < left() <= HEAD_TIMEOUT
        connection.data_received(b"GET / HT")
        assert 0 < left() <= HEAD_TIMEOUT
        connection.data_received(b"TP/1.1\r\n\r\n")
        assert left() == math.inf
        await settle()
        assert HEAD_TIMEOUT < left() <= KEEP_ALIVE
        connection.data_received(b"G")
        begun = connection.deadline
        assert 0 < left() <= HEAD_TIMEOUT
        connection.data_received(b"E")
        assert connection.deadline == begun  # one byte at a time does not buy more time

    hold(scenario)


def test_while_a_server_drains_the_last_reply_that_is_due_says_so(hold: Any, transport: Any) -> None:
    async def scenario(connection: Connection) -> None:
        connection._connections.is_draining = True
        connection.data_received(post(b"/", b"1") + post(b"/", b"2"))
        await settle()

    hold(scenario)
    assert bodies(transport.sent) == [b"1", b"2"]
    assert transport.sent.count(b"\r\nconnection: close\r\n") == 1
    assert transport.was_closed


def test_a_connection_that_is_to_end_when_it_is_idle_ends_with_its_reply(hold: Any, transport: Any) -> None:
    async def scenario(connection: Connection) -> None:
        connection.data_received(b"GET /stream HTTP/1.1\r\n\r\n")
        await settle()
        connection.end_when_idle()
        assert not transport.was_closed
        connection._application.released.set()
        await settle()
        assert transport.was_closed

    hold(scenario)
    assert transport.sent.endswith(b"second\r\n0\r\n\r\n")


def test_an_idle_connection_ends_at_once(hold: Any, transport: Any) -> None:
    async def scenario(connection: Connection) -> None:
        connection.end_when_idle()
        assert transport.was_closed

    hold(scenario)


def test_requests_leave_no_garbage(hold: Any) -> None:
    def left() -> int:
        return sum(type(each) in (Exchange, Request) for each in gc.get_objects())

    async def scenario(connection: Connection) -> None:
        gc.collect()
        gc.disable()
        before = left()
        try:
            for _ in range(5):
                connection.data_received(post(b"/", b"body"))
                await settle()
                connection._application.requests.clear()
            assert left() - before <= 1  # the last one is kept for what may follow its body
        finally:
            gc.enable()

    hold(scenario)
