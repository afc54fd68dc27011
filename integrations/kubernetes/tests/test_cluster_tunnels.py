"""What is carried through a port forward: whole, both ways at once, and to its end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
import websocket
from stackkit_kubernetes.cluster import tunnels
from websocket import ABNF

MUCH = bytes(range(256)) * 2**13  # 2 MiB, more than any socket buffers


def frame(data: bytes, opcode: int = ABNF.OPCODE_BINARY, fin: int = 1) -> bytes:
    """A frame as a server sends it: not masked."""
    return ABNF(fin, 0, 0, 0, opcode, 0, data).format()


BEGIN = frame(b"\x00\x90\x1f") + frame(b"\x01\x90\x1f")  # the port, on each channel


class Ends:
    """The two ends of a tunnel: a client's, and a server's that speaks frames."""

    def __init__(self) -> None:
        self.client, inner = socket.socketpair()
        self.server, outer = socket.socketpair()
        for end in (self.client, self.server):
            end.settimeout(10)
        remote = websocket.WebSocket()
        remote.sock = outer
        self._reader = websocket.WebSocket()
        self._reader.sock = self.server

        def run() -> None:
            with inner:
                tunnels.carry(inner, remote)

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def next_frame(self) -> ABNF:
        return self._reader.recv_frame()

    def receive(self, count: int) -> bytes:
        got = b""
        while len(got) < count and (chunk := self.client.recv(2**16)):
            got += chunk
        return got


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.client.close()
    made.server.close()
    made.thread.join(10)
    assert not made.thread.is_alive()


def test_data_goes_both_ways_and_the_ports_are_left_out(ends: Ends) -> None:
    ends.server.sendall(BEGIN + frame(b"\x00hello"))
    assert ends.receive(5) == b"hello"
    ends.client.sendall(b"GET /ping")
    sent = ends.next_frame()
    assert (sent.opcode, sent.data) == (ABNF.OPCODE_BINARY, b"\x00GET /ping")


def test_much_goes_both_ways_at_once(ends: Ends) -> None:
    def speak() -> None:
        ends.server.sendall(BEGIN + b"".join(frame(b"\x00" + MUCH[at : at + 9999]) for at in range(0, len(MUCH), 9999)))

    def ask() -> None:
        ends.client.sendall(MUCH)

    heard: list[bytes] = []

    def hear() -> None:
        while sum(map(len, heard)) < len(MUCH):
            heard.append(bytes(ends.next_frame().data)[1:])

    threads = [threading.Thread(target=each, daemon=True) for each in (speak, ask, hear)]
    for thread in threads:
        thread.start()
    assert ends.receive(len(MUCH)) == MUCH
    for thread in threads:
        thread.join(10)
    assert b"".join(heard) == MUCH


def test_a_message_in_parts_and_a_frame_in_pieces(ends: Ends) -> None:
    whole = BEGIN + frame(b"\x00he", fin=0) + frame(b"llo", ABNF.OPCODE_CONT)
    for at in range(len(whole)):
        ends.server.sendall(whole[at : at + 1])
    assert ends.receive(5) == b"hello"


def test_a_ping_is_answered(ends: Ends) -> None:
    ends.server.sendall(BEGIN + frame(b"are you there", ABNF.OPCODE_PING))
    answered = ends.next_frame()
    assert (answered.opcode, answered.data) == (ABNF.OPCODE_PONG, b"are you there")


@pytest.mark.parametrize(
    "end",
    [frame(b"\x01no one listens"), frame(b"", ABNF.OPCODE_CLOSE), b""],
    ids=["an error", "a close", "a broken connection"],
)
def test_what_came_before_the_end_is_carried(ends: Ends, end: bytes) -> None:
    ends.server.sendall(BEGIN + frame(b"\x00hello") + end)
    if not end:
        ends.server.close()
    assert ends.receive(2**16) == b"hello"


def test_a_client_that_goes_ends_it(ends: Ends) -> None:
    ends.server.sendall(BEGIN)
    ends.client.close()
    with pytest.raises((websocket.WebSocketException, OSError)):
        ends.next_frame()
