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


def options_of(command: list[str]) -> dict[str, str]:
    return dict(word.removeprefix("--").split("=", 1) for word in command[5:])


def test_the_server_takes_this_process_place(ok, model, executed):
    ok("serve", model)
    ((program, command, _),) = executed
    assert program == command[0] == sys.executable
    assert command[1:4] == ["-P", "-m", "stackkit.serving"]
    assert command[4].endswith("echo.py:model")
    assert options_of(command) == {
        "format": "python",
        "host": "127.0.0.1",
        "port": "8000",
        "request-timeout": "60.0",
        "max-body": "104857600",
        "batching": "auto",
        "max-batch-size": "64",
        "casting": "exact",
        "log-format": "text",
    }


def test_options_are_handed_on(ok, model, executed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("token", "cert.pem", "key.pem"):
        (tmp_path / name).touch()
    given = {
        "host": "::1", "port": "0", "workers": "2", "request-timeout": "1.5", "max-body": "1000", "batching": "off",
        "max-batch-size": "8", "casting": "mlflow", "log-format": "json", "model-name": "echo", "gpus": "0,1",
    }  # fmt: skip
    files = {"token-file": "token", "certfile": "cert.pem", "keyfile": "key.pem"}
    ok("serve", model, *(f"--{name}={value}" for name, value in {**given, **files}.items()))
    ((_, command, _),) = executed
    expected = {**given, **{name: str(tmp_path / file) for name, file in files.items()}, "format": "python"}
    assert options_of(command) == expected


def test_the_server_knows_every_option(model, executed, ok):
    ok("serve", model, "--model-name=echo", "--gpus=0")
    ((_, command, _),) = executed
    known = subprocess.run([sys.executable, "-P", "-m", "stackkit.serving", "--help"], capture_output=True, text=True)
    assert all(f"--{name} " in known.stdout for name in options_of(command))


def test_a_hidden_gpu_is_not_taken(fails, model, executed, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    message, _ = fails("serve", model, "--gpus=0")
    assert message == "GPU 0 is hidden here: CUDA_VISIBLE_DEVICES is '1'."
    assert executed == []


def test_no_gpu_is_seen_that_was_not_named(ok, model, executed, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    ok("serve", model)
    ((_, _, environment),) = executed
    assert environment["CUDA_VISIBLE_DEVICES"] == ""


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


@pytest.mark.parametrize(
    "option",
    [
        "--port=70000",
        "--workers=0",
        "--request-timeout=0",
        "--batching=perhaps",
        "--token-file=/gone",
        "--keyfile=/dev/null",
    ],
)
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
