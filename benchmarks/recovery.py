"""How long it takes until a server is whole again after kill -9, of a worker and of the whole server.

    python benchmarks/recovery.py --runs 10

A worker is replaced by its supervisor: until all workers have loaded the model again. A whole server is started again
by ``stackkit model-deployer watch``, which looks every few seconds: until it answers /ping, at the same port.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from homes import new_home, write_model
from measuring import print_table, spread

from stackkit.model_deployers import Service
from stackkit.serving import claims

LONGEST = 60.0
WATCH = [sys.executable, "-P", "-c", "from stackkit.cli.main import main; main()", "model-deployer", "watch"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="how often each is killed (10)")
    parser.add_argument("--workers", type=int, default=2, help="processes that serve (2)")
    parser.add_argument("--intervals", type=float, nargs="+", default=[1, 5], help="seconds between two looks (1 5)")
    chosen = parser.parse_args()
    rows = []
    with new_home() as deployer:
        model = write_model(deployer, 1)
        service = deployer.deploy_model(model_name="tiny", model_uri=model, workers=chosen.workers)
        times = [after_a_worker(service, chosen.workers) for _ in range(chosen.runs)]
        rows.append((f"one of {chosen.workers} workers", "", spread(times)))
        service.delete()
        for interval in chosen.intervals:
            times = []
            with watching(interval):
                for number in range(chosen.runs):
                    # a server of its own each time: one that dies again and again is started less and less often
                    service = deployer.deploy_model(model_name="tiny", service_name=f"tiny-{number}", model_uri=model)
                    time.sleep(random.uniform(0, interval))  # not in step with the watcher
                    times.append(after_the_server(service))
                    service.delete()
            rows.append(("the whole server", f"{interval:g}", spread(times)))
    print_table(("killed", "watch interval, s", "until it is whole again, s: min / median / max"), rows)


def after_a_worker(service: Service, workers: int) -> float:
    """Kill one worker; returns the seconds until all are there again."""
    before = ready_workers(service)
    os.kill(random.choice(sorted(before)), signal.SIGKILL)
    begun = time.perf_counter()
    wait_until(lambda: len(found := ready_workers(service)) == workers and found != before)
    return time.perf_counter() - begun


def after_the_server(service: Service) -> float:
    """Kill the supervisor, with whom its workers end; returns the seconds until the server answers again."""
    url = urlsplit(service.prediction_url or "")
    supervisor = int(service.deployer.do_info(service)["PID"])
    os.kill(supervisor, signal.SIGKILL)
    begun = time.perf_counter()
    wait_until(lambda: answers(url.hostname or "", url.port) and supervisor_of(service) not in (None, supervisor))
    return time.perf_counter() - begun


def ready_workers(service: Service) -> set[int]:
    """The PIDs of the workers that have loaded the model."""
    state = claims.read_state(Path(service.status.details["folder"]))
    workers = state.workers if state is not None else ()
    return {worker.pid for worker in workers if worker.pid is not None and worker.phase is claims.WorkerPhase.READY}


def supervisor_of(service: Service) -> int | None:
    pid = service.deployer.do_info(service).get("PID")
    return None if pid is None else int(pid)


def answers(host: str, port: int | None) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"it did not happen within {LONGEST:g} seconds")
        time.sleep(0.002)


@contextmanager
def watching(interval: float) -> Iterator[None]:
    """A watcher in a process of its own, from when it says that it watches."""
    command = [*WATCH, f"--interval={interval}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as watcher:
        assert watcher.stderr is not None
        try:
            watcher.stderr.readline()
            yield
        finally:
            watcher.terminate()


if __name__ == "__main__":
    main()
