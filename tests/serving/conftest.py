"""What the tests of the model server share: small models, a caller for the application, and supervised servers."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import http.client
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from stackkit.serving import claims, protocols
from stackkit.serving.access import AccessLog
from stackkit.serving.app import App
from stackkit.serving.claims import Launch, Phase, ServerState
from stackkit.serving.http_connection import Connection, Connections
from stackkit.serving.metrics import Metrics
from stackkit.serving.models import Model
from stackkit.serving.service import Service

JSON = {"content-type": "application/json"}
PATIENCE = 60
"""Seconds after which a test gives up waiting: it bounds a failure, no passing test comes near it."""


@pytest.fixture(autouse=True)
def reset_csv_limit() -> Iterator[None]:
    """Whoever reads a file for a batch lifts the limit of the whole process, which serves nobody at the same time."""
    limit = csv.field_size_limit()
    yield
    csv.field_size_limit(limit)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        return json.loads(self.body)


class Transport(asyncio.Transport):
    """Takes what a connection sends. ``was_closed`` by the connection, that is, not because the client has left."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.is_reading = True
        self.unsent = 0
        self.was_closed = False
        self._has_left = False

    def leave(self) -> None:
        self._has_left = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_closing()
        self.sent += data

    def is_closing(self) -> bool:
        return self.was_closed or self._has_left

    def close(self) -> None:
        self.was_closed = True

    def abort(self) -> None:
        self.was_closed = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True


@pytest.fixture
def transport() -> Transport:
    return Transport()


class Sent(io.BytesIO):
    """What a connection has sent, as http.client wants to be given it."""

    def makefile(self, _: str) -> Sent:
        return self

    def close(self) -> None:
        pass


async def ask(
    app: App,
    path: str = "/invocations",
    body: object = b"",
    *,
    method: str = "POST",
    headers: Mapping[str, str] = JSON,
    chunks: int = 1,
) -> Reply:
    """One request to the application, on a connection of its own without a network. A body that is no bytes is sent as
    JSON.
    """
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    size = -(-len(content) // chunks) or 1
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    lines = [f"{name}: {value}" for name, value in {"content-length": str(len(content)), **headers}.items()]
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")
    transport = Transport()
    connection = Connection(app, Connections())
    connection.connection_made(transport)
    for data in (head, *pieces):
        connection.data_received(data)
    while connection.is_answering:
        await asyncio.sleep(0)
    connection.connection_lost(None)
    sent = Sent(transport.sent)
    response = http.client.HTTPResponse(sent, method=method)  # type: ignore[arg-type]  # it wants no more of a socket
    response.begin()
    received = {name.lower(): value for name, value in response.getheaders()}
    reply = Reply(response.status, received, response.read())
    assert sent.read() == b""
    return reply


def call_app(app: App, *args: Any, **kwargs: Any) -> Reply:
    """The same without an event loop."""
    return asyncio.run(ask(app, *args, **kwargs))


@pytest.fixture(name="ask")
def ask_app() -> Callable[..., Awaitable[Reply]]:
    return ask


@pytest.fixture
def call() -> Callable[..., Reply]:
    return call_app


@pytest.fixture(scope="session")
def serve_model() -> Callable[..., App]:
    """An application with the model given, with none yet when it is None."""

    def serve(model: Model | None, **settings: Any) -> App:
        of_service = {"queue_capacity", "batching", "max_batch_size"} & settings.keys()
        metrics = Metrics.alone()
        service = Service(metrics=metrics, **{name: settings.pop(name) for name in of_service})
        if model is not None:
            service.serve(model)
        limits = {"host": "127.0.0.1", "request_timeout": PATIENCE, "max_body": 1 << 20, **settings}
        limits.setdefault("access_log", AccessLog(lambda _: None))
        return App(protocols.tables(service), metrics=metrics, **limits)

    return serve


@pytest.fixture
def make_app(serve_model: Callable[..., App]) -> Callable[..., App]:
    """An application with a model, whose predict is the function given."""

    def make(predict: Callable[[Any], Any] | None = None, **settings: Any) -> App:
        from stackkit.serving.loaders.python_loader import PythonModel

        return serve_model(None if predict is None else PythonModel("test", predict), **settings)

    return make


@pytest.fixture(scope="session")
def estimators(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with linear models whose prediction is 2a+b: by array, by named columns, in each format."""
    import joblib
    import numpy as np
    import pandas as pd
    import skops.io
    from sklearn.linear_model import LinearRegression

    folder = tmp_path_factory.mktemp("estimators")
    rows = np.array([[1.0, 0.0], [2.0, 1.0], [3.0, 0.0], [4.0, 2.0]])
    target = rows @ [2.0, 1.0]
    plain = LinearRegression().fit(rows, target)
    joblib.dump(plain, folder / "plain.joblib")
    (folder / "plain.pkl").write_bytes(pickle.dumps(plain))
    skops.io.dump(plain, folder / "plain.skops")
    joblib.dump(LinearRegression().fit(pd.DataFrame(rows, columns=["a", "b"]), target), folder / "named.joblib")
    return folder


@pytest.fixture
def echo_model(tmp_path: Path) -> str:
    """A reference to a model of a few lines, which says which process answers."""
    path = tmp_path / "echo.py"
    path.write_text("import os\ndef predict(data):\n    return {'data': data, 'pid': os.getpid()}\n")
    return f"{path}:predict"


@dataclass
class Server:
    """A supervised server in a folder of its own."""

    folder: Path
    token: str
    started: subprocess.CompletedProcess[str]

    @property
    def state(self) -> ServerState:
        state = claims.read_state(self.folder)
        assert state is not None
        return state

    @property
    def log(self) -> str:
        return claims.log_path(self.folder).read_text()

    def wait(self, condition: Callable[[ServerState], bool]) -> ServerState:
        """Wait until the state in the file fulfils ``condition``."""
        deadline = time.monotonic() + PATIENCE
        while (state := claims.read_state(self.folder)) is None or not condition(state):
            assert time.monotonic() < deadline, f"{state}\n{self.log}"
            time.sleep(0.01)
        return state

    def wait_ready(self) -> ServerState:
        state = self.wait(lambda state: state.phase in (Phase.READY, Phase.FAILED))
        assert state.phase is Phase.READY, self.log
        return state

    def request(self, path: str, body: object = None) -> Reply:
        state = self.state
        host = f"[{state.host}]" if ":" in state.host else state.host
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{host}:{state.port}{path}", content, JSON if content else {})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                return Reply(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, dict(error.headers), error.read())

    def processes(self) -> list[psutil.Process]:
        """The supervisor and its workers."""
        state = self.state
        pids = [state.pid, *(worker.pid for worker in state.workers)]
        return [psutil.Process(pid) for pid in pids if pid is not None]

    def stop(self) -> None:
        """Ask the supervisor to end and wait until it has."""
        pid = claims.lock_holder(self.folder)
        if pid:
            os.kill(pid, signal.SIGTERM)
            wait_gone(pid)


def wait_gone(pid: int) -> None:
    """Wait until the process has ended; a zombie that nobody reaps has."""
    deadline = time.monotonic() + PATIENCE
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, f"process {pid} goes on"
            time.sleep(0.01)


@pytest.fixture
def gone() -> Callable[[int], None]:
    return wait_gone


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start a server in the background from the fields of a Launch; it ends with the test."""
    servers: list[Server] = []

    def start(model: str, **fields: Any) -> Server:
        folder = tmp_path / f"server-{len(servers)}"
        folder.mkdir()
        token = fields.pop("token", uuid.uuid4().hex)
        claims.write_launch(folder, Launch(token=token, model=model, **fields))
        server = Server(folder, token, claim(folder, token))
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


def claim(folder: Path, token: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "stackkit.serving", "--claim", str(folder), token]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.fixture(name="claim")
def claim_folder() -> Callable[[Path, str], subprocess.CompletedProcess[str]]:
    """The command that starts a supervisor in the background."""
    return claim
