from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from stackkit.serving.listening import ListenError, is_loopback, listen, url_host


@contextlib.contextmanager
def listening(*arguments: object, **more: object) -> Iterator[list[socket.socket]]:
    sockets = listen(*arguments, **more)  # type: ignore[arg-type]
    try:
        yield sockets
    finally:
        for each in sockets:
            each.close()


def test_all_slots_share_one_port_chosen_by_the_system() -> None:
    with listening("127.0.0.1", 0, 3) as sockets:
        ports = {each.getsockname()[1] for each in sockets}
        assert len(sockets) == 3
        assert len(ports) == 1
        assert ports != {0}


def test_sockets_say_that_they_are_tcp() -> None:
    with listening("127.0.0.1", 0, 2) as sockets:
        assert {each.proto for each in sockets} == {socket.IPPROTO_TCP}


def test_connections_reach_every_slot() -> None:
    with listening("127.0.0.1", 0, 2) as sockets, contextlib.ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(socket.create_connection(sockets[0].getsockname()))
        for each in sockets:
            each.settimeout(10)
            stack.enter_context(each.accept()[0])


def test_a_taken_port_is_named_even_when_its_owner_would_share_it() -> None:
    with listening("127.0.0.1", 0, 2) as sockets:
        port = sockets[0].getsockname()[1]
        with pytest.raises(ListenError, match=rf"^port {port} on 127\.0\.0\.1 is taken$"):
            listen("127.0.0.1", port, 2)


def test_the_preferred_port_is_taken_when_free() -> None:
    with listening("127.0.0.1", 0, 1) as sockets:
        port = sockets[0].getsockname()[1]
    with listening("127.0.0.1", 0, 2, preferred_port=port) as sockets:
        assert sockets[0].getsockname()[1] == port


def test_a_taken_preferred_port_gives_way_to_a_later_one() -> None:
    with listening("127.0.0.1", 0, 1) as sockets:
        port = sockets[0].getsockname()[1]
        with listening("127.0.0.1", 0, 1, preferred_port=port) as others:
            assert others[0].getsockname()[1] != port


def test_a_port_that_was_asked_for_is_not_exchanged() -> None:
    with listening("127.0.0.1", 0, 1) as sockets:
        port = sockets[0].getsockname()[1]
        with pytest.raises(ListenError, match="taken"):
            listen("127.0.0.1", port, 1, preferred_port=port + 1)


def test_a_host_of_another_machine_is_refused() -> None:
    with pytest.raises(ListenError, match=r"cannot listen on 192\.0\.2\.1:0"):
        listen("192.0.2.1", 0, 1)


def test_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with listening("::1", 0, 2) as sockets:
        assert sockets[1].getsockname()[:2] == sockets[0].getsockname()[:2]
        socket.create_connection(sockets[0].getsockname()[:2]).close()


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_url_host() -> None:
    assert [url_host("::1"), url_host("127.0.0.1")] == ["[::1]", "127.0.0.1"]
