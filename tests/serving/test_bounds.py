"""What is slow, hangs, or has no business here: on servers as they run."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from certificates import write_self_signed

from stackkit.serving.app import App
from stackkit.serving.claims import WorkerPhase

Start = Callable[..., Any]
JSON = {"content-type": "application/json"}


@pytest.fixture
def hanging(tmp_path: Path) -> str:
    path = tmp_path / "hanging.py"
    path.write_text(
        "import ctypes, os, threading\n"
        "def predict(data):\n"
        "    if data == 'hang':\n"
        "        threading.Event().wait()\n"
        "    if data == 'hang and let nothing else run':\n"
        "        ctypes.PyDLL(None).pause()\n"
        "    return os.getpid()\n"
    )
    return f"{path}:predict"


def test_a_call_that_never_returns_costs_one_worker_and_the_next_request_is_answered(
    start_server: Start, hanging: str
) -> None:
    server = start_server(hanging, request_timeout=1.0)  # in which a busy machine answers what does not hang
    before = server.wait_ready().workers[0].pid
    assert server.request("/invocations", {"inputs": "hang"}).status == 504
    server.wait(lambda state: state.workers[0].restarts == 1)
    reply = server.request("/invocations", {"inputs": "go on"})
    assert (reply.status, reply.content["predictions"] != before) == (200, True)
    assert "has not returned in" in server.log
    assert "stackkit_worker_restarts_total 1\n" in server.request("/metrics").body.decode()


def test_requests_behind_a_call_that_hangs_are_refused_when_it_is_given_up(start_server: Start, hanging: str) -> None:
    server = start_server(hanging, request_timeout=2.0)
    server.wait_ready()
    replies: list[int] = []
    first = threading.Thread(target=lambda: replies.append(server.request("/invocations", {"inputs": "hang"}).status))
    first.start()
    first.join()  # after its 2 seconds; it is given up after 3
    behind = server.request("/invocations", {"inputs": "wait"})
    assert replies == [504]
    assert behind.status in (503, 504)
    server.wait(lambda state: state.workers[0].restarts == 1 and state.workers[0].phase is WorkerPhase.READY)


def test_a_call_that_lets_nothing_else_run_is_noticed_by_the_supervisor(start_server: Start, hanging: str) -> None:
    server = start_server(hanging, request_timeout=1.0)
    port = server.wait_ready().port
    body = json.dumps({"inputs": "hang and let nothing else run"}).encode()
    with socket.create_connection(("127.0.0.1", port)) as client:
        head = f"content-type: application/json\r\ncontent-length: {len(body)}"
        client.sendall(f"POST /invocations HTTP/1.1\r\nhost: localhost\r\n{head}\r\n\r\n".encode() + body)
        server.wait(lambda state: state.workers[0].restarts == 1 and state.workers[0].phase is WorkerPhase.READY)
    assert "worker 0 gives no sign of life: killed" in server.log
    assert server.request("/invocations", {"inputs": "go on"}).status == 200


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Basic s3cret"}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": "Bearer s\xe9cret"}, 401),
        ({"authorization": "Bearer s3cret"}, 200),
        ({"authorization": "bearer  s3cret"}, 200),
    ],
)
def test_a_server_with_a_token_answers_those_who_bear_it(
    make_app: Callable[..., App], call: Callable[..., Any], header: dict[str, str], status: int
) -> None:
    app = make_app(lambda data: data, token="s3cret")
    reply = call(
        app, body={"inputs": [1]}, headers={**JSON, **{k: v.encode().decode("latin-1") for k, v in header.items()}}
    )
    assert reply.status == status
    if status == 401:
        assert (reply.headers["www-authenticate"], reply.content["error_code"]) == ("Bearer", "UNAUTHENTICATED")
        assert "s3cret" not in reply.body.decode()


@pytest.mark.parametrize(
    ("path", "status"),
    [("/ping", 200), ("/health", 200), ("/docs", 200), ("/openapi.json", 401), ("/metrics", 401), ("/nothing", 401)],
)
def test_only_health_and_the_page_that_asks_for_it_are_open_without_the_token(
    make_app: Callable[..., App], call: Callable[..., Any], path: str, status: int
) -> None:
    assert call(make_app(lambda data: data, token="s3cret"), path, method="GET").status == status


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_self_signed(tmp_path_factory.mktemp("tls"))


def test_tls_and_a_token_file(
    start_server: Start, echo_model: str, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    certfile, keyfile = certificate
    server = start_server(echo_model, certfile=str(certfile), keyfile=str(keyfile), token_file=str(tmp_path / "token"))
    port = server.wait_ready().port
    url, context = f"https://localhost:{port}/invocations", ssl.create_default_context(cafile=certfile)
    request = urllib.request.Request(url, b'{"inputs": 1}', {**JSON, "authorization": "Bearer s3cret"})
    with urllib.request.urlopen(request, context=context, timeout=60) as response:
        assert json.load(response)["predictions"]["data"] == 1
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        urllib.request.urlopen(urllib.request.Request(url, b"{}", JSON), context=context, timeout=60)
    refused.value.close()
    assert "s3cret" not in server.log
    assert f"serving at https://127.0.0.1:{port}" in server.log


def test_a_token_file_that_is_empty_or_absent_serves_nobody(
    start_server: Start, echo_model: str, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("\n")
    for name, reason in (("token", "holds no token"), ("absent", "No such file or directory")):
        server = start_server(echo_model, token_file=str(tmp_path / name))
        assert reason in server.wait(lambda state: state.phase == "failed").error
