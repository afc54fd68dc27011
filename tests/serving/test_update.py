"""Servers under load that are updated, lose a worker, or stop: no request fails."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import pytest

from stackkit.serving import claims
from stackkit.serving.claims import ClaimError, Launch, WorkerPhase

Start = Callable[..., Any]
REQUEST = (
    b"POST /invocations HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n"
    b'{"inputs": 1}'
)


class Load:
    """Clients that send one request after the other, each on its connection for as long as the server keeps it."""

    def __init__(self, port: int, connections: int, *, reconnect: bool = True) -> None:
        self._port = port
        self._connections = connections
        self._reconnect = reconnect
        self._stopping = False
        self.closed = 0
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []

    async def __aenter__(self) -> Load:
        self._clients = [asyncio.create_task(self._client()) for _ in range(self._connections)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        await asyncio.gather(*self._clients)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.01)

    async def _client(self) -> None:
        while not self._stopping:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                while not self._stopping:
                    writer.write(REQUEST)
                    head = (await reader.readuntil(b"\r\n\r\n")).lower()
                    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
                    body = await reader.readexactly(length)
                    if not head.startswith(b"http/1.1 200"):
                        self.failures.append(f"{head!r} {body!r}")
                    self.answers[body.decode()] += 1
                    if b"connection: close" in head:
                        self.closed += 1
                        self._stopping |= not self._reconnect
                        break
            except (OSError, EOFError) as error:
                self.failures.append(repr(error))
            finally:
                writer.close()


def write_model(path: Path, answer: str) -> str:
    """A model that takes its time to load: whoever asked it meanwhile would be refused."""
    path.write_text(
        f"import time\ntime.sleep(0.2)\ndef predict(data):\n    time.sleep(0.0005)\n    return {answer!r}\n"
    )
    return f"{path}:predict"


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    return [write_model(tmp_path / f"model_{number}.py", f"answer {number}") for number in range(3)]


def launch_of(server: Any, model: str, revision: int, **fields: Any) -> Launch:
    return Launch(token=f"update-{revision}", model=model, revision=revision, **fields)


def test_updates_under_load_fail_no_request(start_server: Start, models: list[str]) -> None:
    server = start_server(models[0], workers=2)
    port = server.wait_ready().port

    async def scenario() -> Load:
        async with Load(port, connections=32) as load:
            for revision, model in enumerate([models[1], models[2]], start=1):
                answered = load.answers[f'{{"predictions": "answer {revision - 1}"}}'] + 100
                await load.until(lambda: load.answers[f'{{"predictions": "answer {revision - 1}"}}'] > answered)  # noqa: B023
                await asyncio.to_thread(
                    claims.request_update, server.folder, launch_of(server, model, revision, workers=2)
                )
                await load.until(lambda: server.state.token == f"update-{revision}")  # noqa: B023
            await load.until(lambda: load.answers['{"predictions": "answer 2"}'] > 100)
        return load

    load = asyncio.run(asyncio.wait_for(scenario(), 120))
    assert load.failures == []
    assert set(load.answers) == {f'{{"predictions": "answer {number}"}}' for number in range(3)}
    state = server.state
    assert (state.revision, state.port, state.failed_update) == (2, port, None)
    assert [worker.restarts for worker in state.workers] == [0, 0]
    assert server.request("/invocations", {"inputs": 1}).content == {"predictions": "answer 2"}
    assert "Traceback" not in server.log


def test_an_update_that_cannot_be_loaded_changes_nothing(
    start_server: Start, models: list[str], tmp_path: Path
) -> None:
    server = start_server(models[0])
    before = server.wait_ready()
    (tmp_path / "bad.py").write_text("raise RuntimeError('no weights here')\n")
    claims.request_update(server.folder, launch_of(server, f"{tmp_path / 'bad.py'}:predict", 1))
    state = server.wait(lambda state: state.failed_update is not None)
    assert (state.failed_update.token, state.failed_update.revision) == ("update-1", 1)
    assert state.failed_update.error == "RuntimeError: no weights here"
    assert (state.token, state.workers) == (before.token, before.workers)
    assert server.request("/invocations", {"inputs": 1}).content == {"predictions": "answer 0"}
    claims.request_update(server.folder, launch_of(server, models[1], 2))
    state = server.wait(lambda state: state.token == "update-2")
    assert state.failed_update is None
    assert server.request("/invocations", {"inputs": 1}).content == {"predictions": "answer 1"}


def test_an_update_that_loads_and_fails_when_it_is_asked_changes_nothing(
    start_server: Start, estimators: Path, tmp_path: Path
) -> None:
    server = start_server(str(estimators / "plain.joblib"))
    before = server.wait_ready()
    broken = joblib.load(estimators / "plain.joblib")
    del broken.intercept_
    joblib.dump(broken, tmp_path / "broken.joblib")
    claims.request_update(server.folder, launch_of(server, str(tmp_path / "broken.joblib"), 1))
    state = server.wait(lambda state: state.failed_update is not None)
    assert state.failed_update.error.startswith("ModelLoadError: it fails when it is asked: AttributeError: ")
    assert (state.token, state.workers) == (before.token, before.workers)
    assert server.request("/invocations", {"inputs": [[1, 2]]}).content == {"predictions": [pytest.approx(4)]}


def test_an_update_that_never_loads_makes_way_for_the_next(
    start_server: Start, models: list[str], tmp_path: Path
) -> None:
    server = start_server(models[0])
    server.wait_ready()
    (tmp_path / "slow.py").write_text(f"import time\nopen({str(tmp_path / 'loads')!r}, 'x')\ntime.sleep(600)\n")
    claims.request_update(server.folder, launch_of(server, f"{tmp_path / 'slow.py'}:predict", 1))
    server.wait(lambda _: (tmp_path / "loads").exists())
    claims.request_update(server.folder, launch_of(server, models[2], 2))
    server.wait(lambda state: state.token == "update-2")
    assert server.request("/invocations", {"inputs": 1}).content == {"predictions": "answer 2"}


def test_an_update_that_is_told_twice_is_one(start_server: Start, models: list[str]) -> None:
    server = start_server(models[0])
    pid = server.wait_ready().pid
    claims.request_update(server.folder, launch_of(server, models[1], 1))
    os.kill(pid, signal.SIGUSR1)
    server.wait(lambda state: state.token == "update-1")
    os.kill(pid, signal.SIGUSR1)
    claims.request_update(server.folder, launch_of(server, models[2], 2))
    server.wait(lambda state: state.token == "update-2")
    assert server.log.count("updating to revision 1") == 1


def test_an_update_cannot_change_the_number_of_workers(start_server: Start, models: list[str]) -> None:
    server = start_server(models[0])
    server.wait_ready()
    claims.request_update(server.folder, launch_of(server, models[1], 1, workers=2))
    state = server.wait(lambda state: state.failed_update is not None)
    assert state.failed_update.error.startswith("an update cannot change workers")


def test_what_is_not_there_cannot_be_updated(tmp_path: Path, models: list[str]) -> None:
    with pytest.raises(ClaimError, match="no server"):
        claims.request_update(tmp_path, Launch(token="t", model=models[0]))
    assert not (tmp_path / claims.LAUNCH_FILE).exists()


def test_a_killed_worker_costs_its_own_connections_alone(start_server: Start, models: list[str]) -> None:
    server = start_server(models[0], workers=2)
    state = server.wait_ready()
    os.kill(state.workers[0].pid, signal.SIGKILL)

    async def scenario() -> Load:
        async with Load(state.port, connections=16) as load:
            await asyncio.to_thread(
                server.wait, lambda now: now.workers[0].restarts == 1 and now.workers[0].phase is WorkerPhase.READY
            )
            await load.until(lambda: sum(load.answers.values()) > 100)
        return load

    load = asyncio.run(asyncio.wait_for(scenario(), 60))
    assert load.failures == []


def test_an_open_connection_is_answered_while_the_server_stops_and_told_to_close(
    start_server: Start, models: list[str], gone: Callable[[int], None]
) -> None:
    server = start_server(models[0])
    state = server.wait_ready()

    async def scenario() -> Load:
        async with Load(state.port, connections=1, reconnect=False) as load:
            await load.until(lambda: sum(load.answers.values()) > 10)
            os.kill(state.pid, signal.SIGTERM)
            await load.until(lambda: load.closed > 0)
        return load

    load = asyncio.run(asyncio.wait_for(scenario(), 60))
    assert load.failures == []
    gone(state.pid)
    assert server.state.error is None
