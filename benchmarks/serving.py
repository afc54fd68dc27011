"""The model server beside its peers: the same MLflow scikit-learn models, one worker on one core, wrk on another.

    python benchmarks/serving.py --environments FOLDER --cores 0 1

Each server runs in an environment of its own, which is made in FOLDER when it is not there yet, with the server's own
defaults and where it batches, a batch of at most 64 rows. stackkit's log and metrics are on. Needs wrk, and Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from measuring import print_table

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE / "serving_peers"
CONNECTIONS = (1, 32, 128)
ROW = {"columns": ["a", "b", "c", "d"], "data": [[5.1, 3.5, 1.4, 0.2]]}
START_WITHIN = 120
LIBRARIES = ["mlflow", "scikit-learn"]


@dataclass(frozen=True)
class Peer:
    """One server. ``command`` gets its environment's bin folder, the model's folder, a port and a scratch folder."""

    name: str
    requirements: Sequence[str]
    command: Callable[[Path, Path, int, Path], Sequence[str]]
    ready: str = "/ping"
    body: Mapping[str, Any] = field(default_factory=lambda: {"dataframe_split": ROW})


def stackkit(programs: Path, model: Path, port: int, _: Path) -> Sequence[str]:
    return [str(programs / "python"), "-P", "-m", "stackkit.serving", str(model), "--port", str(port)]


def mlflow(programs: Path, model: Path, port: int, _: Path) -> Sequence[str]:
    command = [str(programs / "mlflow"), "models", "serve", "--model-uri", str(model), "--port", str(port)]
    return [*command, "--env-manager", "local", "--workers", "1"]


def mlserver(programs: Path, model: Path, port: int, scratch: Path) -> Sequence[str]:
    settings = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port(), "host": "127.0.0.1"}
    (scratch / "settings.json").write_text(json.dumps(settings))
    parameters = {"uri": str(model), "version": "1"}
    description = {"name": "model", "implementation": "mlserver_mlflow.MLflowRuntime", "parameters": parameters}
    (scratch / "model-settings.json").write_text(json.dumps(description))
    return [str(programs / "mlserver"), "start", str(scratch)]


def bentoml(programs: Path, _: Path, port: int, __: Path) -> Sequence[str]:
    service = ["bentoml_service:Predictor", "--working-dir", str(PROGRAMS)]
    return [str(programs / "bentoml"), "serve", *service, "--host", "127.0.0.1", "--port", str(port)]


def litserve(programs: Path, _: Path, port: int, __: Path) -> Sequence[str]:
    return [str(programs / "python"), str(PROGRAMS / "litserve_server.py"), str(port)]


PEERS = (
    Peer("stackkit", [f"{HERE.parent}[mlflow,sklearn]"], stackkit),
    Peer("mlflow", LIBRARIES, mlflow),
    # it asks for the current event loop where there is none, which later uvloops refuse
    Peer(
        "mlserver", ["mlserver", "mlserver-mlflow", "scikit-learn", "uvloop<0.22"], mlserver, "/v2/models/model/ready"
    ),
    Peer("bentoml", ["bentoml", *LIBRARIES], bentoml, "/readyz", {"rows": ROW["data"]}),
    Peer("litserve", ["litserve", *LIBRARIES], litserve, "/health"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, required=True, help="a folder for the servers' environments")
    parser.add_argument("--cores", type=int, nargs=2, default=(0, 1), metavar=("SERVER", "WRK"))
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement (default: %(default)s)")
    parser.add_argument("--starts", type=int, default=5, help="of which the median is told (default: %(default)s)")
    parser.add_argument("--peers", nargs="+", choices=[peer.name for peer in PEERS], help="default: all of them")
    options = parser.parse_args()
    names = options.peers or [peer.name for peer in PEERS]
    peers = [peer for peer in PEERS if peer.name in {"stackkit", *names}]
    programs = {peer.name: environment(options.environments / peer.name, peer.requirements) for peer in peers}
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        script = [str(programs["stackkit"] / "python"), str(PROGRAMS / "models.py")]
        subprocess.run([*script, "save", str(models)], check=True, capture_output=True)
        direct = without_server([*script, "rates", str(models)], options.cores[0])
        print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores\n")
        for model in ("logistic", "forest"):
            results = [measure(peer, programs[peer.name], models / model, options) for peer in peers]
            print_results(model, results, direct[model])
        measure_workers(programs["stackkit"], models / "forest", options)
        least = without_server([*script, "csv", str(models)], options.cores[0])
        took = csv_seconds(programs["stackkit"], models, options.cores)
    print(f"CSV of 100,000 rows: {took:.4f} s, {took / least:.2f} times pandas and the model without a server")


def environment(folder: Path, requirements: Sequence[str]) -> Path:
    """The bin folder of an environment with these packages, made unless it is there."""
    programs = folder / "bin"
    complete = folder / "complete"
    if not complete.exists():
        print(f"installing {', '.join(requirements)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*install, *requirements], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        complete.touch()
    return programs


def without_server(command: Sequence[str], core: int) -> Any:
    """What the models do by themselves, on the core that the servers get."""
    output = subprocess.run(["taskset", "-c", str(core), *command], check=True, capture_output=True, text=True)
    return json.loads(output.stdout.splitlines()[-1])


@dataclass(frozen=True)
class Result:
    """``load`` is what wrk counted, by number of connections."""

    name: str
    cold_start: float
    memory: float
    load: Mapping[int, Mapping[str, float]]

    def throughput(self, connections: int) -> float:
        counted = self.load[connections]
        return (counted["requests"] - counted["failed"]) / counted["seconds"]


def measure_workers(programs: Path, model: Path, options: argparse.Namespace) -> None:
    """Print what a second worker on a second core adds, and how the connections are spread over the two. With two
    cores, wrk has to share one of them.
    """
    rates = []
    for workers in (1, 2):
        peer = replace(PEERS[0], command=lambda *where, count=workers: [*stackkit(*where), "--workers", str(count)])
        with running(peer, programs, model, *options.cores[:workers]) as (process, port, _):
            url = f"http://127.0.0.1:{port}/invocations"
            load(url, peer.body, 32, 2, options.cores[1])  # to warm up
            with ThreadPoolExecutor(1) as pool:
                counting = pool.submit(load, url, peer.body, 32, options.seconds, options.cores[1])
                time.sleep(options.seconds / 2)
                spread = [connections_to(port, worker) for worker in process.children()]
                result = Result(peer.name, 0, 0, {32: counting.result()})
        rates.append(result.throughput(32))
        of_them = " and ".join(map(str, spread))
        print(f"forest: {workers} worker(s) at 32 connections, {of_them} of them each: {rates[-1]:,.0f}/s")
    print(f"Two workers on two cores are {rates[1] / rates[0]:.2f} times one.\n")


def connections_to(port: int, worker: psutil.Process) -> int:
    """How many of a worker's connections are open on ``port``."""
    of_it = worker.net_connections(kind="tcp")
    return sum(each.laddr.port == port and each.status == psutil.CONN_ESTABLISHED for each in of_it)


def measure(peer: Peer, programs: Path, model: Path, options: argparse.Namespace) -> Result:
    server_core, wrk_core = options.cores
    starts = []
    for _ in range(options.starts - 1):
        with running(peer, programs, model, server_core) as (_, _, cold_start):
            starts.append(cold_start)
    with running(peer, programs, model, server_core) as (process, port, cold_start):
        starts.append(cold_start)
        url = f"http://127.0.0.1:{port}/invocations"
        load(url, peer.body, 1, 2, wrk_core)  # to warm up
        found = {count: load(url, peer.body, count, options.seconds, wrk_core) for count in CONNECTIONS}
        tree = [process, *process.children(recursive=True)]
        memory = sum(each.memory_full_info().pss for each in tree) / 2**20
    return Result(peer.name, statistics.median(starts), memory, found)


@contextlib.contextmanager
def running(peer: Peer, programs: Path, model: Path, *cores: int) -> Iterator[tuple[psutil.Process, int, float]]:
    """The server's first process, its port, and how many seconds it took until it first said that it is ready."""
    port = free_port()
    with tempfile.TemporaryDirectory() as scratch:
        command = ["taskset", "-c", ",".join(map(str, cores)), *peer.command(programs, model, port, Path(scratch))]
        environ = {**os.environ, "MODEL": str(model), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        environ.pop("PYTHONPATH", None)
        begun = time.perf_counter()
        with (Path(scratch) / "log").open("wb") as log:
            started = subprocess.Popen(
                command, cwd=scratch, env=environ, stdout=log, stderr=log, start_new_session=True
            )
        try:
            while not answers(f"http://127.0.0.1:{port}{peer.ready}"):
                if started.poll() is not None or time.perf_counter() - begun > START_WITHIN:
                    sys.exit(f"{peer.name} does not start:\n{(Path(scratch) / 'log').read_text()[-4000:]}")
                time.sleep(0.02)
            yield psutil.Process(started.pid), port, time.perf_counter() - begun
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGTERM)
            try:
                started.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(started.pid, signal.SIGKILL)
                started.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


def load(url: str, body: Mapping[str, Any], connections: int, seconds: int, core: int) -> dict[str, float]:
    command = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    command += ["--timeout", "10s", "-s", str(PROGRAMS / "request.lua"), url]
    environ = {**os.environ, "BODY": json.dumps(body)}
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environ).stdout
    counted: dict[str, float] = json.loads(output.splitlines()[-1])
    return counted


def csv_seconds(programs: Path, models: Path, cores: Sequence[int]) -> float:
    """The least of ten times that one large request takes."""
    body = (models / "rows.csv").read_bytes()
    times = []
    with running(PEERS[0], programs, models / "logistic", cores[0]) as (_, port, _):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, {"content-type": "text/csv"})
        for _ in range(10):
            begun = time.perf_counter()
            with urllib.request.urlopen(request) as response:
                response.read()
            times.append(time.perf_counter() - begun)
    return min(times)


def print_results(model: str, results: Sequence[Result], direct: float) -> None:
    headings = ["server", "cold start s", "memory MiB"]
    for count in CONNECTIONS:
        headings += [f"{count}: req/s", "p50 ms", "p99 ms", "failed", "stackkit is"]
    rows = []
    ours = next(result for result in results if result.name == "stackkit")
    for result in results:
        row: list[object] = [result.name, f"{result.cold_start:.1f}", f"{result.memory:.0f}"]
        for count in CONNECTIONS:
            counted = result.load[count]
            throughput = result.throughput(count)
            ratio = f"{ours.throughput(count) / throughput:.1f}x" if throughput else "-"
            row += [f"{throughput:,.0f}", f"{counted['p50'] * 1000:.2f}", f"{counted['p99'] * 1000:.2f}"]
            row += [f"{counted['failed']:.0f}", "" if result is ours else ratio]
        rows.append(row)
    print(f"{model}: one row a request, at {', '.join(map(str, CONNECTIONS))} connections\n")
    print_table(headings, rows)
    ratio = ours.throughput(32) / direct
    print(f"Without a server, one row after the other: {direct:,.0f}/s; stackkit at 32 is {ratio:.1f} times that\n")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
