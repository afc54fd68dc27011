"""The commands that an integration's README shows, run one after another as a reader would."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from stackkit import Client

_SECONDS = 300


class ReadmeCommands:
    """The commands of a README's first example, but for ``words`` that are others here; None leaves a word out."""

    def __init__(self, readme: Path, words: Mapping[str, str | None]) -> None:
        example = readme.read_text(encoding="utf-8").split("```bash\n", 1)[1].split("```", 1)[0]
        lines = [shlex.split(line) for line in example.replace("\\\n", " ").splitlines()]
        self._commands = [line for line in lines if line[0] == "stackkit"]
        shown = {word for command in self._commands for word in command}
        assert words.keys() <= shown, f"the README does not say {words.keys() - shown} any more"
        self._words = words

    @property
    def verbs(self) -> list[str]:
        """What the commands do, such as ``register`` and ``deploy``, in their order."""
        return [_verb(command) for command in self._commands]

    def run(self, verb: str) -> str:
        """Run the one command that does this, which must succeed, and give what it prints. A question gets a yes."""
        (command,) = (each for each in self._commands if _verb(each) == verb)
        told = [self._words.get(word, word) for word in command[1:]]
        done = subprocess.run(
            [sys.executable, "-m", "stackkit", *(word for word in told if word is not None)],
            input="y\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
        assert done.returncode == 0, f"{shlex.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout


def run_and_roll_back(client: Client, commands: ReadmeCommands, served: Callable[[], str]) -> None:
    """Run the commands of a server that answers "one" with each of its models; ``served`` tells which it serves."""
    assert commands.verbs == ["register", "deploy", "predict", "update", "rollback", "delete"]
    try:
        commands.run("register")
        commands.run("deploy")
        assert json.loads(commands.run("predict")) == ["one"]
        first = served()
        commands.run("update")
        assert served() != first
        commands.run("rollback")
        assert served() == first
        assert json.loads(commands.run("predict")) == ["one"]
        commands.run("delete")
    finally:
        for service in client.servers.find(refresh=False):
            service.delete(timeout=_SECONDS)


def _verb(command: list[str]) -> str:
    return command[3] if command[2] == "models" else command[2]
