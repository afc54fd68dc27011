"""A process is killed in the middle: what do stackkit's list and ZenML 0.98's say then, and what really runs?

    python benchmarks/kills.py
    python benchmarks/kills.py --zenml zenml-venv/bin/zenml

Killed are the deploying process, before and after the server's own process is there, and the server after the deploy;
and once nothing is, but somebody lists the servers while one is being deployed. Then the list is asked, and the same
is deployed again. What runs is counted by looking at this machine's processes. stackkit's servers are local ones,
ZenML's those of ``zenml_flavor``. Without the program ZenML it makes an environment for that.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from cli import MODEL, Program, install, prepare_stackkit, prepare_zenml
from measuring import print_table

MOMENTS = {
    "before": "the deploying process, before the server's is there",
    "after": "the deploying process, when the server's is there",
    "server": "the server, after the deploy",
    "list": "nothing, but somebody lists while it is deployed",
}

STACKKIT = """
import os, signal, subprocess, sys
from stackkit.model_deployers import LocalModelDeployer
deployer = LocalModelDeployer.get_active_model_deployer()
start = deployer.do_start

def broken_start(operation):
    if sys.argv[1] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    start(operation)
    if sys.argv[1] == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    if sys.argv[1] == "list":
        listing = [sys.executable, "-c", sys.argv[3], sys.argv[2]]
        subprocess.run(listing, check=True, stdout=subprocess.DEVNULL)

deployer.do_start = broken_start
deployer.deploy_model(model_name="tiny", pipeline_name=sys.argv[2], model_uri="model.py:predict")
"""

STACKKIT_LIST = """
import json, sys
from stackkit import Client
print(json.dumps([service.status.state.value for service in Client().servers.find(pipeline_name=sys.argv[1])]))
"""

ZENML = """
import sys, tiny_flavor
tiny_flavor.deploy_broken(*sys.argv[1:])
"""

ZENML_LIST = """
import json, sys, tiny_flavor
print(json.dumps(tiny_flavor.states(sys.argv[1])))
"""


@dataclass(frozen=True)
class Contestant:
    """A program with the code that deploys and is killed, the code that lists, and what its servers are known by."""

    name: str
    program: Program
    deploying: str
    listing: str
    known_by: str

    def deploy(self, pipeline: str, moment: str) -> str:
        """Deploy, and be killed at that moment; returns how it ended."""
        done = self._python(self.deploying, moment, pipeline, self.listing)
        if done.returncode == -signal.SIGKILL:
            return "killed"
        return "deployed" if done.returncode == 0 else f"failed: {done.stderr.strip().splitlines()[-1][:60]}"

    def list(self, pipeline: str) -> str:
        """What the list says of a pipeline: the states of its servers."""
        done = self._python(self.listing, pipeline)
        if done.returncode != 0:
            return f"fails: {done.stderr.strip().splitlines()[-1][:60]}"
        return ", ".join(json.loads(done.stdout.splitlines()[-1])) or "nothing"

    def servers(self) -> list[psutil.Process]:
        """The servers that really run."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            command = " ".join(process.info["cmdline"] or ())
            alive = process.info["status"] != psutil.STATUS_ZOMBIE
            if alive and self.known_by in command and str(self.program.folder) in command:
                found.append(process)
        return found

    def kill_servers(self) -> None:
        for process in self.servers():
            process.kill()
            process.wait(10)

    def _python(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program.python, "-c", code, *arguments],
            env=self.program.environment,
            cwd=self.program.folder,
            capture_output=True,
            text=True,
            check=False,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zenml", type=Path, help="the zenml program")
    chosen = parser.parse_args()
    rows: list[Sequence[object]] = []
    with tempfile.TemporaryDirectory(prefix="stackkit-benchmark-") as scratch:
        installed = chosen.zenml or install(Path(scratch) / "zenml-venv", "zenml", "zenml[local]==0.98.0")
        both = contestants(Path(scratch), installed.absolute())
        for moment in MOMENTS:
            for contestant in both:
                try:
                    rows.append(look(contestant, moment))
                finally:
                    contestant.kill_servers()
    print_table(
        ("killed", "program", "the deploy", "the list then says", "running", "deployed again, it says", "running"), rows
    )


def contestants(folder: Path, zenml: Path) -> list[Contestant]:
    """Both programs, each with nothing in its table."""
    ours = prepare_stackkit(Path(sys.executable).with_name("stackkit"), folder)
    theirs = prepare_zenml(zenml, folder)
    (ours.folder / "model.py").write_text(MODEL, encoding="utf-8")
    return [
        Contestant("stackkit", ours, STACKKIT, STACKKIT_LIST, "--claim"),
        Contestant("ZenML", theirs, ZENML, ZENML_LIST, "local_daemon_entrypoint"),
    ]


def look(contestant: Contestant, moment: str) -> list[object]:
    """Break a deploy at that moment, look, and deploy again; a row of the table."""
    pipeline = f"killed-{moment}"
    outcome = contestant.deploy(pipeline, moment)
    if moment == "server":
        contestant.kill_servers()
    row: list[object] = [
        MOMENTS[moment],
        contestant.name,
        outcome,
        contestant.list(pipeline),
        len(contestant.servers()),
    ]
    again = contestant.deploy(pipeline, "never")
    said = contestant.list(pipeline)
    return [*row, said if again == "deployed" else f"{again}; {said}", len(contestant.servers())]


if __name__ == "__main__":
    main()
