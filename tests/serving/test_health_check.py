"""An image's health check, against a server that says what it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from stackkit.serving import health_check


@pytest.fixture
def answer() -> Iterator[Callable[[int], str]]:
    """Start a server that answers ``/ping`` with a status; gives its port."""
    servers: list[tuple[HTTPServer, Thread]] = []

    def start(status: int) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if self.path == "/ping" else 404)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        servers.append((server, thread))
        return str(server.server_port)

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_only_a_server_that_is_ready_is_healthy(
    answer: Callable[[int], str], status: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert health_check.main({"PORT": answer(status)}) == code
    assert f"it answers {status} " in capsys.readouterr().out


def test_the_port_is_the_servers_own(answer: Callable[[int], str]) -> None:
    assert health_check.main({"PORT": "1", "STACKKIT_SERVING_PORT": answer(200)}) == 0


@pytest.mark.parametrize("variables", [{"PORT": "1"}, {"PORT": "x"}, {"STACKKIT_SERVING_NOTHING": "1"}])
def test_a_server_that_does_not_answer_is_not(variables: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert health_check.main(variables) == 1
    assert capsys.readouterr().out.startswith("it does not answer: ")
