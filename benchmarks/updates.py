"""Requests that fail while a server goes over to other models again and again, under load.

    python benchmarks/updates.py --updates 20 --connections 32

Each connection is kept open and asks as fast as it is answered. Every answer has to be that of a model which was
deployed; anything else, and every broken connection, is a failure.
"""

from __future__ import annotations

import argparse
import http.client
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from homes import new_home, write_model
from measuring import print_table, spread, wall

REQUEST = json.dumps({"inputs": [[1.0]]})


@dataclass
class Load:
    """Requests over some connections until ``enough``."""

    url: str
    answers: list[list[int]]
    enough: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> tuple[int, list[str]]:
        """One connection's requests; returns how many were answered well, and what went wrong with the others."""
        parts = urlsplit(self.url)
        well, wrong = 0, []
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        while not self.enough.is_set():
            try:
                connection.request("POST", parts.path, REQUEST, {"Content-Type": "application/json"})
                response = connection.getresponse()
                body = response.read().decode()
            except (OSError, http.client.HTTPException) as error:
                wrong.append(repr(error))
                connection.close()
                continue
            if response.status == http.client.OK and json.loads(body)["predictions"] in self.answers:
                well += 1
            else:
                wrong.append(f"{response.status} {body}")
        connection.close()
        return well, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=20, help="how often the model is changed (20)")
    parser.add_argument("--connections", type=int, default=32, help="how many connections ask (32)")
    parser.add_argument("--workers", type=int, default=2, help="processes that serve (2)")
    chosen = parser.parse_args()
    with new_home() as deployer:
        models = [write_model(deployer, answer) for answer in (1, 2)]
        service = deployer.deploy_model(model_name="tiny", model_uri=models[0], workers=chosen.workers)
        load = Load(service.prediction_url or "", answers=[[1], [2]])
        with ThreadPoolExecutor(chosen.connections) as pool:
            asking = [pool.submit(load.ask) for _ in range(chosen.connections)]
            begun = time.perf_counter()
            try:
                times = [
                    wall(lambda number=number: deployer.update_model_server(service, model_uri=models[number % 2]))
                    for number in range(1, chosen.updates + 1)
                ]
            finally:
                load.enough.set()
            elapsed = time.perf_counter() - begun
            counts = [each.result() for each in asking]
        revision = deployer.get_model_server(service).revision
    if revision != chosen.updates + 1:
        raise SystemExit(f"{revision - 1} of {chosen.updates} updates were made")
    well, wrong = sum(count for count, _ in counts), [each for _, some in counts for each in some]
    for each in sorted(set(wrong)):
        print(f"{wrong.count(each)} x {each}")
    print_table(
        ("updates", "connections", "requests", "per second", "failed", "one update, s: min / median / max"),
        [
            (
                chosen.updates,
                chosen.connections,
                f"{well + len(wrong):,}",
                f"{(well + len(wrong)) / elapsed:,.0f}",
                len(wrong),
                spread(times),
            )
        ],
    )


if __name__ == "__main__":
    main()
