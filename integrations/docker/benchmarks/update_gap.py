"""For how long a published port answers nobody while a service goes over to another model, or another container.

    python integrations/docker/benchmarks/update_gap.py --updates 10 --connections 8

Deploys a small model on this machine's engine and updates it under load, each request on a connection of its own: first
the model alone, to which the container that serves goes over, then a variable too, for which another container takes
over. The gap is the longest time between two answers around an update; requests that failed are counted with it.
Everything that it makes is removed at the end.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import statistics
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from stackkit import Client
from stackkit.settings import Settings
from stackkit.stack import ComponentType

MODEL = "def predict(data):\n    return [{answer} for row in data]\n"


class Load:
    """Requests, one after the other on each of some threads; when each was answered, and how many were not."""

    def __init__(self, url: str, connections: int) -> None:
        self.answered: list[float] = []
        self.failed = 0
        self._url = urlsplit(url)
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(connections)]

    def _ask(self) -> None:
        while not self._done.is_set():
            connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port, timeout=30)
            try:
                connection.request("POST", self._url.path, b'{"inputs": [0]}', {"Content-Type": "application/json"})
                if connection.getresponse().status == http.client.OK:
                    self.answered.append(time.monotonic())
                    continue
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()
            self.failed += 1
            time.sleep(0.002)  # what is refused is refused at once: the engine needs the processor too

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()


class Gaps:
    """What several updates of one kind have cost: gaps in milliseconds, and requests that failed."""

    def __init__(self, change: str) -> None:
        self.change = change
        self.gaps: list[float] = []
        self.failed: list[int] = []

    def add(self, load: Load) -> None:
        answered = sorted(load.answered)
        self.gaps.append(max(after - before for before, after in itertools.pairwise(answered)) * 1000)
        self.failed.append(load.failed)
        print(f"{self.change}: {self.gaps[-1]:.0f} ms, {load.failed} of {len(answered) + load.failed} failed")

    def row(self) -> str:
        told = f"{min(self.gaps):.0f} / {statistics.median(self.gaps):.0f} / {max(self.gaps):.0f}"
        return f"| {self.change} | {told} | {statistics.median(self.failed):.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--connections", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        client = Client(Settings(home, f"sqlite:///{home}/stackkit.db"))
        client.database.upgrade()
        client.register_component(ComponentType.MODEL_DEPLOYER, "docker", "docker", {})
        deployer = client.model_deployer("docker")
        model = home / "model.py"
        measured = [Gaps("the model"), Gaps("the model and a variable")]
        answers = itertools.count()
        try:
            model.write_text(MODEL.format(answer=next(answers)), encoding="utf-8")
            service = deployer.deploy_model(model_name="gap", model_uri=f"{model}:predict", timeout=900)
            for gaps in measured:
                for _ in range(options.updates):
                    answer = next(answers)
                    model.write_text(MODEL.format(answer=answer), encoding="utf-8")
                    fields = {"env": {"ANSWER": str(answer)}} if "variable" in gaps.change else {}
                    with Load(service.prediction_url or "", options.connections) as load:
                        deployer.update_model_server(service, timeout=900, **fields)
                        time.sleep(1)
                    assert service.refresh().predict([0]) == [answer]
                    gaps.add(load)
        finally:
            for service in list(deployer.find_model_server(refresh=False)):
                service.delete()
            client.database.close()
    print(f"\n{options.updates} updates each, {options.connections} connections\n")
    print("| what changes | gap in ms, min / median / max | failed requests, median |")
    print("| --- | ---: | ---: |")
    for gaps in measured:
        print(gaps.row())


if __name__ == "__main__":
    main()
