"""The environment variables that the workers are started with."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from stackkit.serving.claims import Launch, Phase, ServerState
from stackkit.serving.logs import LogWriter
from stackkit.serving.supervisor import Supervisor


@pytest.fixture
def log() -> Iterator[LogWriter]:
    writer = LogWriter(lambda data: None)
    yield writer
    writer.close()


def variables_of_workers(model: str, log: LogWriter, **fields: Any) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []

    def report(state: ServerState) -> None:
        if state.phase is Phase.READY:
            found.extend(psutil.Process(worker.pid).environ() for worker in state.workers)
            os.kill(os.getpid(), signal.SIGTERM)

    Supervisor(Launch(token="t", model=model, **fields), log, report).run()
    return found


def test_each_has_its_device(echo_model: str, log: LogWriter) -> None:
    variables = variables_of_workers(echo_model, log, workers=2, gpus="3, GPU-8a1b")
    assert [each["CUDA_VISIBLE_DEVICES"] for each in variables] == ["3", "GPU-8a1b"]


def test_without_devices_the_variable_stays_as_it_is(
    echo_model: str, log: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    (variables,) = variables_of_workers(echo_model, log)
    assert variables["CUDA_VISIBLE_DEVICES"] == "7"


@pytest.mark.parametrize(("python", "passed_on"), [(None, True), (sys.executable, False)])
def test_another_interpreter_is_not_led_to_our_libraries(
    echo_model: str, log: LogWriter, monkeypatch: pytest.MonkeyPatch, python: str | None, passed_on: bool
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    (variables,) = variables_of_workers(echo_model, log, python=python)
    assert ("PYTHONPATH" in variables) is passed_on
