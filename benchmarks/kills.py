"""A process is killed: what does the list of stackkit, and that of ZenML 0.98, say then, and what really runs?

    python benchmarks/kills.py
    python benchmarks/kills.py --stackkit .venv/bin/stackkit --zenml zenml-venv/bin/zenml

stackkit's local deployer and ZenML's MLflow deployer deploy the same scikit-learn model, a folder that MLflow has
saved. Killed (SIGKILL) are the deploying process, before and after the server's own is there, and the server after the
deploy: the process that keeps it, the one that answers, or all of them; once nothing is, but somebody lists the servers
while one is being deployed. Then the list is asked, and the same is deployed again.

What runs is found by looking at this machine's processes and their ports. Found wrong is each server that no row of the
list names as running, and each row that says so of none. Without the two programs it makes an environment for each.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from cli import Program, environment, install, prepare_stackkit
from measuring import print_table

HERE = Path(__file__).resolve().parent
SIDES = HERE / "kills_peers"
# what `zenml integration requirements mlflow` prints, and the model's library
ZENML = ("zenml[local]==0.98.0", "mlflow>=2.1.1,<4", "python-rapidjson<1.15", "numpy<3.0", "pandas>=2.0.0")
SAVE = """
import mlflow.sklearn
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
model = LogisticRegression(max_iter=1000).fit(*load_iris(return_X_y=True))
mlflow.sklearn.save_model(model, {folder!r}, serialization_format="pickle")
"""
LONGEST = 180.0

# what is killed, and which of each server's processes that is once it answers, the one that keeps it first
NONE, KEEPER, WORKER, ALL = slice(0), slice(1), slice(-1, None), slice(None)
MOMENTS = {
    "before": ("the deploying process, before the server's is there", NONE),
    "after": ("the deploying process, when the server's is there", NONE),
    "keeper": ("the process that keeps the server", KEEPER),
    "worker": ("the process that answers", WORKER),
    "server": ("all processes of the server", ALL),
    "list": ("nothing, but somebody lists while it is deployed", NONE),
}


@dataclass(frozen=True)
class Look:
    """What the list says of a pipeline's servers, how many run, and how many of either do not fit the other."""

    says: str
    running: int
    wrong: int


@dataclass(frozen=True)
class Contestant:
    """A program with its side of the benchmark, and the model that it deploys."""

    name: str
    program: Program
    side: Path
    model: Path

    def deploy(self, pipeline: str, moment: str) -> str:
        """Deploy, with what happens at that moment; returns how it ended."""
        done = self._run("deploy", pipeline, str(self.model), moment)
        if done.returncode == -signal.SIGKILL:
            return "killed"
        return "deployed" if done.returncode == 0 else f"failed: {last_line(done.stderr)}"

    def look(self, pipeline: str) -> Look:
        """Ask the list, and compare it with what runs."""
        self.settle()
        done = self._run("list", pipeline)
        running = {port for family in self.families() for port in ports_of(family)}
        if done.returncode != 0:
            return Look(f"failed: {last_line(done.stderr)}", len(running), len(running))
        rows = json.loads(done.stdout.splitlines()[-1])
        named = [port for state, port in rows if state not in ("inactive", "error")]
        # as often as a port is named: two rows that name one server are one too many
        wrong = Counter(named) - Counter(running), Counter(running) - Counter(named)
        says = ", ".join(state for state, _ in rows) or "nothing"
        return Look(says, len(running), sum(each.total() for each in wrong))

    def families(self) -> list[list[psutil.Process]]:
        """The processes that run for this contestant, each that has no parent among them followed by its children."""
        found = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):  # it has ended, or is somebody else's
                if process.environ().get("HOME") == str(self.program.folder):
                    found[process.pid] = process
        families = []
        for process in found.values():
            with contextlib.suppress(psutil.Error):
                if process.ppid() not in found:
                    families.append([process, *process.children(recursive=True)])
        return families

    def settle(self) -> None:
        """Wait until all that runs answers, and stays so for half a second. Exits when it does not come to that."""
        deadline = time.monotonic() + LONGEST
        before = None
        while True:
            families = self.families()
            answering = all(any(answers(port) for port in ports_of(family)) for family in families)
            if answering and families == before:
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.name}: after {LONGEST:g} seconds there are processes that do not answer")
            before = families
            time.sleep(0.5)

    def kill(self, victims: slice) -> None:
        """Kill some of each server's processes."""
        killed = [process for family in self.families() for process in family[victims]]
        for process in killed:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended with another
                process.kill()
        psutil.wait_procs(killed, timeout=10)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program.python, self.side, *arguments],
            env=self.program.environment,
            cwd=self.program.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stackkit", type=Path, help="the stackkit program, with mlflow and scikit-learn beside it")
    parser.add_argument("--zenml", type=Path, help="the zenml program, with what its MLflow integration asks for")
    parser.add_argument("--environments", type=Path, help="keep the environments made here, and use those that are")
    parser.add_argument("--moments", nargs="+", choices=MOMENTS, default=list(MOMENTS), help="all of them, if not said")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # as Ctrl-C does: what runs by then is ended
    rows: list[Sequence[object]] = []
    wrong: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="stackkit-benchmark-") as folder:
        scratch = Path(folder)
        environments = (chosen.environments or scratch / "environments").absolute()
        stackkit = chosen.stackkit or install(
            environments / "stackkit-mlflow", "stackkit", "--editable", f"{HERE.parent}[mlflow,sklearn]"
        )
        zenml = chosen.zenml or install(environments / "zenml-mlflow", "zenml", *ZENML, "scikit-learn")
        both = contestants(scratch, stackkit.absolute(), zenml.absolute())
        for moment in chosen.moments:
            what, victims = MOMENTS[moment]
            for contestant in both:
                print(f"{contestant.name}: {moment}", file=sys.stderr)
                try:
                    row, found = break_and_look(contestant, moment, victims)
                finally:
                    contestant.kill(ALL)
                rows.append((what if contestant is both[0] else "", contestant.name, *row))
                wrong[contestant.name] += found
    print_table(
        (
            "killed",
            "program",
            "the deploy",
            "the list then says",
            "running",
            "deployed again, it says",
            "running",
            "found wrong",
        ),
        rows,
    )
    print("Found wrong:", ", ".join(f"{contestant.name} {wrong[contestant.name]}" for contestant in both))


def contestants(scratch: Path, stackkit: Path, zenml: Path) -> list[Contestant]:
    """Both programs, each with nothing in its table, and the model saved by MLflow."""
    ours, theirs = prepare_stackkit(stackkit, scratch), prepare_zenml(zenml, scratch)
    model = scratch / "iris"
    theirs.call(SAVE.format(folder=str(model)))
    return [
        Contestant("stackkit", ours, SIDES / "stackkit_local.py", model),
        Contestant("ZenML", theirs, SIDES / "zenml_mlflow.py", model),
    ]


def prepare_zenml(path: Path, scratch: Path) -> Program:
    """A repository with the stack that its MLflow deployer asks for, as its documentation makes one."""
    folder = scratch / "zenml"
    folder.mkdir()
    variables = environment(
        HOME=str(folder),
        ZENML_ANALYTICS_OPT_IN="false",
        ZENML_CONFIG_PATH=str(folder / "config"),
        ZENML_LOCAL_STORES_PATH=str(folder / "stores"),
    )
    # MLflow finds its server's program there, as in an environment that was activated
    variables["PATH"] = f"{path.parent}{os.pathsep}{variables['PATH']}"
    program = Program(path, folder, variables)
    program.run("init")
    program.run("experiment-tracker", "register", "mlflow", "--flavor=mlflow")
    program.run("model-deployer", "register", "mlflow", "--flavor=mlflow")
    program.run("stack", "register", "kills", "-a", "default", "-o", "default", "-e", "mlflow", "-d", "mlflow", "--set")
    return program


def break_and_look(contestant: Contestant, moment: str, victims: slice) -> tuple[list[object], int]:
    """Deploy with what happens at that moment, look, deploy again and look: what is seen, and how much of it is wrong.

    What is seen are the outcome of the deploy, what the list says and how many servers run, and those two once more.
    """
    pipeline = f"killed-{moment}"
    outcome = contestant.deploy(pipeline, moment)
    contestant.settle()
    contestant.kill(victims)
    first = contestant.look(pipeline)
    again = contestant.deploy(pipeline, "never")
    second = contestant.look(pipeline)
    says = second.says if again == "deployed" else f"{again}; {second.says}"
    wrong = first.wrong + second.wrong
    return [outcome, first.says, first.running, says, second.running, wrong], wrong


def ports_of(family: Sequence[psutil.Process]) -> set[int]:
    """The ports at which any of these processes listens."""
    ports = set()
    for process in family:
        with contextlib.suppress(psutil.Error):  # it has ended
            ports |= {each.laddr.port for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN}
    return ports


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1][:60] if text.strip() else ""


if __name__ == "__main__":
    main()
