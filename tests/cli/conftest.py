"""What the tests of the command line share."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from stackkit import Client
from stackkit.cli.main import cli

STACKKIT = [sys.executable, "-P", "-c", "from stackkit.cli.main import main; main()"]

Run = Callable[..., Result]


@pytest.fixture
def stackkit_command() -> list[str]:
    """What starts the command line in a process of its own."""
    return STACKKIT


@pytest.fixture
def run(home: Path) -> Iterator[Run]:
    """Run a command in this process; its stdin and stdout are no terminal."""

    def invoke(*args: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(cli, args, input=stdin, prog_name="stackkit")

    yield invoke
    Client().database.close()


@pytest.fixture
def ok(run: Run) -> Run:
    """Run a command that has to succeed."""

    def invoke(*args: str, stdin: str | None = None) -> Result:
        result = run(*args, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result

    return invoke


@pytest.fixture
def read(ok: Run) -> Callable[..., Any]:
    """The data that a command prints as JSON."""

    def invoke(*args: str) -> Any:
        return json.loads(ok(*args, "--output", "json").stdout)

    return invoke


@pytest.fixture
def fails(run: Run) -> Callable[..., tuple[str, str | None]]:
    """Run a command that has to fail with one clear line; gives the message and the hint."""

    def invoke(*args: str, stdin: str | None = None) -> tuple[str, str | None]:
        result = run(*args, stdin=stdin)
        assert result.exit_code == 1, result.output
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        first, *rest = result.stderr.splitlines()
        assert first.startswith("Error: ")
        assert len(rest) <= 1
        if not rest:
            return first.removeprefix("Error: "), None
        assert rest[0].startswith("Hint: ")
        return first.removeprefix("Error: "), rest[0].removeprefix("Hint: ")

    return invoke


@pytest.fixture
def memory(ok: Run, request: pytest.FixtureRequest) -> str:
    """A registered in-memory model deployer, on a platform of this test's own."""
    ok("model-deployer", "flavor", "register", "stackkit.model_deployers.memory.MemoryModelDeployerFlavor")
    ok("model-deployer", "register", "here", "--flavor=memory", f"--platform={request.node.nodeid}")
    return "here"


@pytest.fixture
def deploy(ok: Run, memory: str) -> Callable[..., str]:
    """Deploy a model to the in-memory deployer; gives the service's UUID."""

    def invoke(name: str = "iris", *args: str) -> str:
        command = ("model-deployer", "models", "deploy", "--model-uri", "any", "--model-name", name)
        uuid: str = json.loads(ok(*command, *args, "--output", "json").stdout)["uuid"]
        return uuid

    return invoke


class Terminal:
    """A command that runs on a terminal of its own, 80 columns wide."""

    def __init__(self, *args: str, columns: int = 80, **environment: str) -> None:
        self._ours, theirs = pty.openpty()
        terminal = {"TERM": "xterm-256color", "COLUMNS": str(columns)}
        environment = {**os.environ, **terminal, **environment}
        self.process = subprocess.Popen(
            [*STACKKIT, *args],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until ``text`` is shown. Fails when the command ends before."""
        while text not in self.shown:
            if not self._read():
                pytest.fail(f"{text!r} was never shown, but: {self.shown}")

    def interrupt(self) -> None:
        """Send SIGINT until something is said to it: one that comes just before a system call does not wake that."""
        said: list[int] = []
        while not said:
            self.process.send_signal(signal.SIGINT)
            said, _, _ = select.select([self._ours], [], [], 1)

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        return self.process.wait(timeout=30)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._ours], [], [], 60)
        if not ready:
            pytest.fail(f"nothing more was shown after: {self.shown}")
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # Linux says EIO when the other side has been closed
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """Start commands on terminals; they end with the test."""
    started: list[Terminal] = []

    def start(*args: str, columns: int = 80, **environment: str) -> Terminal:
        started.append(Terminal(*args, columns=columns, **environment))
        return started[-1]

    yield start
    for each in started:
        each.close()
