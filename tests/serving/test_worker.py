"""One worker without a supervisor: what it says and when it ends; and HTTP as it is on the wire."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import pytest

from stackkit.serving.metrics import Memory


@dataclass
class Worker:
    process: subprocess.Popen[bytes]
    control: socket.socket
    messages: IO[bytes]
    port: int

    def message(self) -> Any:
        return json.loads(self.messages.readline())


@pytest.fixture
def start_worker() -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def start(model: str, *, supervisor: int | None = None, max_body: int = 1000) -> Worker:
        ours, theirs = socket.socketpair()
        with socket.create_server(("127.0.0.1", 0)) as listener, theirs:
            port = listener.getsockname()[1]
            command = [sys.executable, "-P", "-m", "stackkit.serving.worker", model, "--slot", "0"]
            command += ["--listener", str(listener.fileno()), "--control", str(theirs.fileno())]
            command += ["--supervisor", str(supervisor or os.getpid()), "--host", "127.0.0.1"]
            command += ["--request-timeout", "60", "--max-body", str(max_body)]
            command += ["--batching", "auto", "--max-batch-size", "64", "--casting", "exact"]
            memory = Memory.create(1)
            command += ["--log-format", "text", "--patience", "0", "--metrics", str(memory), "--region", "0"]
            process = subprocess.Popen(command, pass_fds=(listener.fileno(), theirs.fileno(), memory))
            os.close(memory)
        workers.append(Worker(process, ours, ours.makefile("rb"), port))
        return workers[-1]

    yield start
    for worker in workers:
        worker.process.kill()
        worker.process.wait()
        worker.messages.close()
        worker.control.close()


def test_it_says_that_it_is_ready(start_worker: Callable[..., Worker], echo_model: str) -> None:
    assert start_worker(echo_model).message() == {"event": "ready"}


def test_it_says_why_it_is_not(start_worker: Callable[..., Worker]) -> None:
    worker = start_worker("absent_module:predict")
    message = worker.message()
    assert message["event"] == "failed"
    assert message["error"].startswith("ModelLoadError: there is no module absent_module")
    assert worker.process.wait() == 1


def test_it_ends_when_the_supervisor_closes_its_end(start_worker: Callable[..., Worker], echo_model: str) -> None:
    worker = start_worker(echo_model)
    worker.message()
    worker.control.shutdown(socket.SHUT_RDWR)
    assert worker.process.wait() == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_it_ends_when_the_supervisor_is_gone_already(start_worker: Callable[..., Worker], echo_model: str) -> None:
    worker = start_worker(echo_model, supervisor=1)
    assert worker.process.wait() == 1
    assert worker.messages.read() == b""


def test_an_idle_connection_does_not_hold_it_up(start_worker: Callable[..., Worker], echo_model: str) -> None:
    worker = start_worker(echo_model)
    worker.message()
    connection = http.client.HTTPConnection("127.0.0.1", worker.port)
    connection.request("GET", "/ping")
    assert connection.getresponse().read() == b"\n"
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait() in (0, -signal.SIGTERM)
    connection.close()


def test_connections_are_kept_through_errors_and_heads(start_worker: Callable[..., Worker], echo_model: str) -> None:
    worker = start_worker(echo_model)
    worker.message()
    connection = http.client.HTTPConnection("127.0.0.1", worker.port)
    json_type = {"Content-Type": "application/json"}
    requests: list[tuple[str, str, bytes | None, dict[str, str], int]] = [
        ("HEAD", "/ping", None, {}, 200),
        ("POST", "/invocations", b'{"inputs": 1}', {}, 415),
        ("POST", "/invocations", b"x" * 1001, json_type, 413),
        ("GET", "/ping", None, {"Host": "evil.example"}, 421),
        ("POST", "/invocations", b'{"inputs": 1}', json_type, 200),
    ]
    statuses = []
    for method, path, body, headers, _ in requests:
        connection.request(method, path, body, headers)
        local = connection.sock.getsockname()
        response = connection.getresponse()
        response.read()
        statuses.append((response.status, local))
    connection.close()
    assert [status for status, _ in statuses] == [status for *_, status in requests]
    assert len({local for _, local in statuses}) == 1
