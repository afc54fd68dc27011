"""How long a list takes to ask running servers how they are, next to asking each by itself.

    python benchmarks/refresh.py --servers 20

Starts local servers of a tiny Python model, and asks in this one process. Some are then stopped with SIGSTOP: they
accept a connection and answer nothing, so that each check of one runs into its deadline.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from measuring import print_table, spread, wall

from stackkit import Client
from stackkit.model_deployers import BaseModelDeployer, Service
from stackkit.settings import Settings
from stackkit.stack import ComponentType

MODEL = "def predict(data):\n    return [0 for row in data]\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, default=20, help="how many servers are started (20)")
    parser.add_argument("--runs", type=int, default=10, help="how often each is measured (10)")
    parser.add_argument("--frozen", type=int, nargs="+", default=[0, 1, 5], help="how many do not answer (0 1 5)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        client = Client(Settings(home=home, database_url=f"sqlite:///{home / 'stackkit.db'}"))
        client.register_component(ComponentType.MODEL_DEPLOYER, "local", "local", {})
        with servers(client.model_deployer("local"), home, chosen.servers) as services:
            rows = []
            for count in chosen.frozen:
                with frozen(services[:count]):
                    # a frozen server costs its deadline each time, so that fewer runs have to do
                    rows.append(measure(client, services, count, chosen.runs if count == 0 else 3))
        client.database.close()
    headings = ("do not answer", "the list, ms: min / median / max", "one by one", "ratio", "active", "in error")
    print(f"{chosen.servers} servers\n")
    print_table(headings, rows)


def measure(client: Client, services: Sequence[Service], count: int, runs: int) -> list[object]:
    """Ask about all servers in a list and one by one, in turn; a row of the table."""
    deployer = client.model_deployer("local")

    def one_by_one() -> None:
        for service in services:
            deployer.get_model_server(service)

    def at_once() -> None:
        list(deployer.find_model_server())

    at_once()  # what it saw is recorded, which costs once
    together, singly = [], []
    for _ in range(runs):
        together.append(wall(at_once))
        singly.append(wall(one_by_one))
    ratio = statistics.median(singly) / statistics.median(together)
    states = [service.status.state.value for service in deployer.find_model_server()]
    seen = [states.count(state) for state in ("active", "error")]
    return [count, spread(together, 1e3, 1), spread(singly, 1e3, 1), f"{ratio:.1f}", *seen]


@contextmanager
def servers(deployer: BaseModelDeployer, home: Path, count: int) -> Iterator[list[Service]]:
    """``count`` running servers."""
    model = home / "model.py"
    model.write_text(MODEL, encoding="utf-8")
    try:
        yield [
            deployer.deploy_model(model_name="tiny", service_name=f"tiny-{number}", model_uri=f"{model}:predict")
            for number in range(count)
        ]
    finally:
        for service in deployer.find_model_server(refresh=False)[:]:
            service.delete()


@contextmanager
def frozen(services: Sequence[Service]) -> Iterator[None]:
    """Stop these servers' processes, the supervisor first: it would replace a worker that hangs."""
    processes = []
    for service in services:
        told = service.deployer.do_info(service)
        processes += [int(told["PID"]), *map(int, told["WORKER_PIDS"].split(", "))]
    try:
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


if __name__ == "__main__":
    main()
