"""The supervisor in this process, with real workers: what takes too long to be waited for in the background."""

from __future__ import annotations

import errno
import http.client
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stackkit.serving import supervisor
from stackkit.serving.claims import Launch, Phase, ServerState
from stackkit.serving.logs import LogWriter
from stackkit.serving.supervisor import Supervisor


@pytest.fixture
def log() -> Iterator[LogWriter]:
    writer = LogWriter(lambda _: None)
    yield writer
    writer.close()


def test_a_worker_that_does_not_end_in_its_grace_is_killed(
    echo_model: str, log: LogWriter, gone: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "GRACE", 0.05)
    pids: list[int] = []

    def report(state: ServerState) -> None:
        if state.phase is Phase.READY and not pids and state.workers[0].pid:
            pids.append(state.workers[0].pid)
            os.kill(pids[0], signal.SIGSTOP)  # it cannot even notice SIGTERM
            os.kill(os.getpid(), signal.SIGTERM)

    running = Supervisor(Launch(token="t", model=echo_model), log, report)
    outcome = running.run()
    assert (outcome.phase, running.signal) == (Phase.STOPPED, signal.SIGTERM)
    gone(pids[0])


def test_the_delay_doubles_while_a_worker_dies_young(
    echo_model: str, log: LogWriter, caplog: pytest.LogCaptureFixture
) -> None:
    killed: set[int] = set()

    def report(state: ServerState) -> None:
        worker = state.workers[0] if state.workers else None
        if worker is None or worker.phase != "ready" or worker.pid in killed:
            return
        assert worker.pid is not None
        killed.add(worker.pid)
        os.kill(*((worker.pid, signal.SIGKILL) if len(killed) < 3 else (os.getpid(), signal.SIGTERM)))

    assert Supervisor(Launch(token="t", model=echo_model), log, report).run().phase is Phase.STOPPED
    delays = [record.args[-1] for record in caplog.records if "is replaced in" in record.msg]  # type: ignore[index]
    assert delays == [0.1, 0.2]


def test_while_a_model_loads_for_long_the_one_before_it_answers_alone(
    echo_model: str, log: LogWriter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(supervisor, "LOAD_PATIENCE", 0.0)
    loads, go_on = tmp_path / "loads", tmp_path / "go-on"
    (tmp_path / "slow.py").write_text(
        f"import os, time\nopen({str(loads)!r}, 'x')\nwhile not os.path.exists({str(go_on)!r}):\n    time.sleep(0.01)\n"
        "def predict(data):\n    return data\n"
    )
    update = Launch(token="update", model=f"{tmp_path / 'slow.py'}:predict", revision=1)
    statuses: list[int] = []

    def ask(port: int | None) -> None:
        while not loads.exists():
            time.sleep(0.01)
        for _ in range(50):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/ping")
            statuses.append(connection.getresponse().status)
            connection.close()
        go_on.touch()

    def report(state: ServerState) -> None:
        if state.phase is Phase.READY and state.token == "update":
            os.kill(os.getpid(), signal.SIGTERM)
        elif state.phase is Phase.READY and not asking:
            asking.append(threading.Thread(target=ask, args=(state.port,), daemon=True))
            asking[0].start()
            os.kill(os.getpid(), signal.SIGUSR1)

    asking: list[threading.Thread] = []
    running = Supervisor(Launch(token="t", model=echo_model), log, report, lambda: update)
    assert running.run().phase is Phase.STOPPED
    asking[0].join()
    assert statuses == [200] * 50


def test_phases_come_in_order_and_signals_are_given_back(echo_model: str, log: LogWriter) -> None:
    phases: list[Phase] = []
    before = signal.getsignal(signal.SIGTERM)

    def report(state: ServerState) -> None:
        if state.phase not in phases:
            phases.append(state.phase)
        if state.phase is Phase.READY:
            os.kill(os.getpid(), signal.SIGTERM)

    Supervisor(Launch(token="t", model=echo_model), log, report).run()
    assert phases == [Phase.STARTING, Phase.LOADING, Phase.READY, Phase.STOPPING, Phase.STOPPED]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("fields", "warned"),
    [({}, False), ({"host": "0.0.0.0"}, True), ({"host": "0.0.0.0", "token_file": "token"}, False)],
)
def test_it_warns_of_a_model_that_is_open_to_everybody(
    echo_model: str, log: LogWriter, caplog: pytest.LogCaptureFixture, tmp_path: Path, fields: Any, warned: bool
) -> None:
    (tmp_path / "token").write_text("s3cret")
    if "token_file" in fields:
        fields = {**fields, "token_file": str(tmp_path / "token")}

    def report(state: ServerState) -> None:
        if state.phase is Phase.READY:
            os.kill(os.getpid(), signal.SIGTERM)

    Supervisor(Launch(token="t", model=echo_model, **fields), log, report).run()
    assert ("whoever reaches 0.0.0.0" in caplog.text) == warned


def test_a_state_that_cannot_be_recorded_is_reported_again(
    echo_model: str, log: LogWriter, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[Phase] = []

    def report(state: ServerState) -> None:
        tries.append(state.phase)
        if tries.count(Phase.READY) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        elif state.phase is Phase.READY:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert Supervisor(Launch(token="t", model=echo_model), log, report).run().phase is Phase.STOPPED
    assert tries.count(Phase.READY) >= 3
    told = [record.getMessage() for record in caplog.records if "cannot be recorded" in record.msg]
    assert told == ["the state ready cannot be recorded: [Errno 28] No space left on device"]
