from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stackkit.environments.launch import claim_command, serve_command, server_environment

SERVER = ["-P", "-m", "stackkit.serving"]


def test_serve_command() -> None:
    command = serve_command("/m/model.joblib", host="127.0.0.1", port=0, workers=2, request_timeout=60)
    assert command == [
        sys.executable, *SERVER, "/m/model.joblib",
        "--host", "127.0.0.1", "--port", "0", "--workers", "2", "--request-timeout", "60",
    ]  # fmt: skip


def test_serve_command_with_another_interpreter_and_a_format() -> None:
    command = serve_command(
        "mine:predict", format="python", host="::1", port=80, workers=1, request_timeout=0.5, python="/env/bin/python"
    )
    assert command[:5] == ["/env/bin/python", *SERVER, "mine:predict"]
    assert command[-4:] == ["--request-timeout", "0.5", "--format", "python"]


def test_claim_command() -> None:
    command = claim_command(Path("/home/services/a b"), "token", 7)
    assert command == [sys.executable, *SERVER, "--claim", "/home/services/a b", "token", "--starter", "7"]


def test_the_server_does_not_see_our_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKKIT_DATABASE_URL", "postgresql://u:p@db/stackkit")
    monkeypatch.setenv("STACKKIT_SECRET_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    environment = server_environment({"OMP_NUM_THREADS": "1", "MODEL_FLAG": "yes"})
    assert not [name for name in environment if name.startswith("STACKKIT_")]
    assert environment["PYTHONPATH"] == "/somewhere"
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["MODEL_FLAG"] == "yes"
