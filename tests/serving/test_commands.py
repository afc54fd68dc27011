"""The server in the foreground."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-P", "-m", "stackkit.serving"]


@pytest.fixture
def served(echo_model: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([*COMMAND, echo_model, "--workers", "2"], stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def ready_url(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if match := re.search(r"serving at (http\S+)", line):
            return match[1]
    raise AssertionError("it ended before it was ready")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_serves_until_it_is_told_to_end(served: subprocess.Popen[str], number: int, status: int) -> None:
    url = ready_url(served)
    with urllib.request.urlopen(f"{url}/ping") as response:
        assert response.status == 200
    served.send_signal(number)
    assert served.wait() == status


def test_a_model_that_cannot_be_loaded_is_the_last_line(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("raise RuntimeError('no weights here')\n")
    ended = subprocess.run([*COMMAND, f"{tmp_path / 'bad.py'}:f"], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "RuntimeError: no weights here"


def test_a_relative_path_is_one_of_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("raise RuntimeError('found')\n")
    ended = subprocess.run([*COMMAND, "./bad.py:f"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.stderr.splitlines()[-1] == "RuntimeError: found"


def test_the_working_directory_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "lurking.py").write_text("raise RuntimeError('executed')\n")
    ended = subprocess.run([*COMMAND, "lurking:f"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "there is no module lurking" in ended.stderr
    assert "executed" not in ended.stderr


def test_a_taken_port(echo_model: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [*COMMAND, echo_model, "--port", str(port)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == f"port {port} on 127.0.0.1 is taken"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["m", "--port", "70000"],
        ["m", "--workers", "0"],
        ["m", "--workers", "3", "--gpus", "0,1"],
        ["m", "--max-body", "x"],
        ["m", "--request-timeout", "nan"],
    ],
)
def test_arguments_that_make_no_sense(arguments: list[str]) -> None:
    ended = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
