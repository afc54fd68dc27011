"""The same commands of stackkit and of ZenML 0.98, in turn on the same machine: wall and CPU time of whole processes.

    python benchmarks/cli.py
    python benchmarks/cli.py --stackkit .venv/bin/stackkit --zenml zenml-venv/bin/zenml

Without the two programs it makes an environment for each. Needs nothing beyond the standard library.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from measuring import print_table, spread

HERE = Path(__file__).parent
LIST = ("model-deployer", "models", "list")
START_SECONDS = 300
MODEL = "def predict(data):\n    return [0 for row in data]\n"


@dataclass(frozen=True)
class Sample:
    """One run of a command, in seconds."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Program:
    """A command line program with an environment and a working folder of its own."""

    path: Path
    folder: Path
    environment: Mapping[str, str]

    @property
    def python(self) -> Path:
        return self.path.parent / "python"

    def run(self, *arguments: str) -> str:
        """Run a command and return what it prints; exits with its words when it fails."""
        return self._checked([self.path, *arguments])

    def call(self, code: str) -> None:
        """Run Python code in the program's environment."""
        self._checked([self.python, "-c", code])

    def measure(self, arguments: Sequence[str], output: IO[bytes]) -> Sample:
        """Run a command once, and take the time of its whole process."""
        begun = time.perf_counter()
        process = subprocess.Popen(
            [self.path, *arguments],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        elapsed = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            raise SystemExit(f"{self.path.name} {' '.join(arguments)} failed:\n{output.read().decode()}")
        return Sample(elapsed, usage.ru_utime + usage.ru_stime)

    def _checked(self, command: Sequence[Path | str]) -> str:
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
        return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stackkit", type=Path, help="the stackkit program to measure")
    parser.add_argument("--zenml", type=Path, help="the zenml program to measure")
    parser.add_argument("--environments", type=Path, help="keep the environments made here, and use those that are")
    parser.add_argument("--runs", type=int, default=10, help="how often each command is measured (10)")
    parser.add_argument("--servers", type=int, default=20, help="how many servers the second list has (20)")
    chosen = parser.parse_args()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stackkit-benchmark-")))
        environments = (chosen.environments or scratch / "environments").absolute()
        stackkit = chosen.stackkit or install(environments / "stackkit", "stackkit", "--editable", str(HERE.parent))
        zenml = chosen.zenml or install(environments / "zenml", "zenml", "zenml[local]==0.98.0")
        pair = prepare_stackkit(stackkit.absolute(), scratch), prepare_zenml(zenml.absolute(), scratch)
        rows = [
            compare("--help", pair, ("--help",), chosen.runs),
            compare("model-deployer --help", pair, ("model-deployer", "--help"), chosen.runs),
            compare("models list, empty", pair, LIST, chosen.runs),
        ]
        stack.enter_context(stackkit_servers(pair[0], chosen.servers))
        stack.enter_context(zenml_servers(pair[1], chosen.servers))
        rows.append(compare(f"models list, {chosen.servers} running", pair, LIST, chosen.runs))
        print_table(
            ("ms: min / median / max", "stackkit wall", "ZenML wall", "ratio", "stackkit CPU", "ZenML CPU", "ratio"),
            rows,
        )


def compare(label: str, pair: tuple[Program, Program], arguments: Sequence[str], runs: int) -> list[str]:
    """Run a command of both programs in turn, after one run of each that is not counted; a row of the table."""
    samples: tuple[list[Sample], list[Sample]] = ([], [])
    for _ in range(runs + 1):
        for program, kept in zip(pair, samples, strict=True):
            with tempfile.TemporaryFile() as output:
                kept.append(program.measure(arguments, output))
    row = [label]
    for name in ("wall", "cpu"):
        ours, theirs = ([getattr(sample, name) for sample in kept[1:]] for kept in samples)
        ratio = statistics.median(theirs) / statistics.median(ours)
        row += [spread(ours, 1e3, 0), spread(theirs, 1e3, 0), f"{ratio:.1f}"]
    return row


def install(folder: Path, program: str, *requirements: str) -> Path:
    """Make an environment with ``requirements`` in it, unless it is there; returns the path of its program."""
    found = folder / "bin" / program
    if not found.exists():
        print(f"making the environment {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", *requirements], check=True)
    return found


def environment(**values: str) -> dict[str, str]:
    """The variables of a program: nothing of the developer's own settings."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, **values}


def prepare_stackkit(path: Path, scratch: Path) -> Program:
    """A home with a local model deployer in it."""
    folder = scratch / "stackkit"
    folder.mkdir()
    program = Program(path, folder, environment(HOME=str(folder), STACKKIT_HOME=str(folder / "home")))
    program.run("model-deployer", "register", "local", "--flavor=local")
    return program


def prepare_zenml(path: Path, scratch: Path) -> Program:
    """A repository with a stack whose model deployer is that of ``zenml_flavor``."""
    folder = scratch / "zenml"
    folder.mkdir()
    shutil.copy(HERE / "zenml_flavor" / "tiny_flavor.py", folder)
    program = Program(
        path,
        folder,
        environment(
            HOME=str(folder),
            PYTHONPATH=str(folder),
            ZENML_ANALYTICS_OPT_IN="false",
            ZENML_CONFIG_PATH=str(folder / "config"),
            ZENML_LOCAL_STORES_PATH=str(folder / "stores"),
        ),
    )
    program.run("init")
    program.run("model-deployer", "flavor", "register", "tiny_flavor.TinyModelDeployerFlavor")
    program.run("model-deployer", "register", "tiny", "--flavor=tiny")
    program.run("stack", "register", "benchmark", "-a", "default", "-o", "default", "-d", "tiny", "--set")
    return program


@contextmanager
def stackkit_servers(program: Program, count: int) -> Iterator[None]:
    """``count`` running servers of a tiny Python model."""
    model = program.folder / "model.py"
    model.write_text(MODEL, encoding="utf-8")
    try:
        for number in range(count):
            names = (f"--model-name=model-{number}", f"--pipeline-name=pipeline-{number}", "--step-name=deployer")
            program.run(*LIST[:2], "deploy", f"--model-uri={model}:predict", *names, "--timeout=0")
        deadline = time.monotonic() + START_SECONDS
        while sum(service["state"] == "active" for service in listed(program)) < count:
            if time.monotonic() > deadline:
                raise SystemExit(f"not all of the {count} servers came up:\n{program.run(*LIST)}")
            time.sleep(0.5)
        yield
    finally:
        for service in listed(program):
            program.run(*LIST[:2], "delete", service["uuid"], "--yes")


def listed(program: Program) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(program.run(*LIST, "--output=json"))
    return found


@contextmanager
def zenml_servers(program: Program, count: int) -> Iterator[None]:
    """``count`` running servers that answer the health check of ZenML's local services."""
    try:
        program.call(f"import tiny_flavor; tiny_flavor.deploy({count})")
        yield
    finally:
        program.call("import tiny_flavor; tiny_flavor.delete_all()")


if __name__ == "__main__":
    main()
