from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

MODEL = """\
def model(data, params=None):
    return data
"""


@pytest.fixture
def model(tmp_path: Path) -> str:
    file = tmp_path / "echo.py"
    file.write_text(MODEL)
    return f"{file}:model"


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch):
    """What this process would have become."""
    calls: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
    return calls


def test_the_server_takes_this_process_place(ok, model, executed):
    ok("serve", model)
    ((program, command, _),) = executed
    assert program == command[0] == sys.executable
    assert command[1:4] == ["-P", "-m", "stackkit.serving"]
    assert command[4].endswith("echo.py:model")
    options = dict(zip(command[5::2], command[6::2], strict=True))
    assert options["--host"] == "127.0.0.1"
    assert options["--port"] == "8000"
    assert options["--workers"] == "1"
    assert options["--request-timeout"] == "60"


def test_options_are_handed_on(ok, model, executed):
    ok("serve", model, "--host=::1", "--port=0", "--workers=3", "--request-timeout=1.5")
    ((_, command, _),) = executed
    options = dict(zip(command[5::2], command[6::2], strict=True))
    assert options["--host"] == "::1"
    assert options["--port"] == "0"
    assert options["--workers"] == "3"
    assert options["--request-timeout"] == "1.5"


def test_the_server_learns_nothing_of_the_database(ok, model, executed, monkeypatch):
    monkeypatch.setenv("STACKKIT_SECRET_KEY", "hunter2")
    monkeypatch.setenv("MINE", "1")
    ok("serve", model)
    ((_, _, environment),) = executed
    assert environment["MINE"] == "1"
    assert not [name for name in environment if name.startswith("STACKKIT_")]


def test_a_model_that_is_none_starts_nothing(fails, tmp_path, executed):
    message, hint = fails("serve", str(tmp_path / "gone.joblib"))
    assert message == f"There is no model at {tmp_path / 'gone.joblib'}."
    assert hint
    assert executed == []


@pytest.mark.parametrize("option", ["--port=70000", "--workers=0", "--request-timeout=0"])
def test_values_that_make_no_sense_are_wrong_usage(run, model, executed, option):
    assert run("serve", model, option).exit_code == 2
    assert executed == []


def test_it_serves_until_it_is_told_to_end(model, home, stackkit_command):
    command = [*stackkit_command, "serve", model, "--port=0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        seen = []
        for line in process.stderr:
            seen.append(line)
            if "ready" in line:
                break
        else:
            pytest.fail(f"it ended: {''.join(seen)}")
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        assert process.wait(timeout=30) == 0
