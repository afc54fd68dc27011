"""What stackkit costs on a cluster, against kubectl, and whether its updates fail requests.

    python integrations/kubernetes/benchmarks/on_a_cluster.py overhead --image iris:1 --rounds 10
    python integrations/kubernetes/benchmarks/on_a_cluster.py updates --image iris:1 --updates 10 --connections 8
    python integrations/kubernetes/benchmarks/on_a_cluster.py refresh --services 200

Uses the current context of KUBECONFIG, a cluster on this machine, and an image that answers on port 8080, such as
``stackkit model build-image`` makes. Works in a namespace of its own, which is removed at the end.

- overhead: from the call to the first answer, of ``deploy_model`` and of ``kubectl apply`` of the same YAML, in turn.
- updates: requests that fail, each on a connection of its own and 200 a second of them, while a service goes from
  revision to revision.
- refresh: how long one look at many services takes, and how many requests to the API server. Their pods are given no
  node, so that a small cluster has room for them.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import statistics
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock
from urllib.parse import urlsplit

from stackkit_kubernetes.cluster.connection import Connection

from stackkit import Client
from stackkit.model_deployers import BaseModelDeployer
from stackkit.settings import Settings
from stackkit.stack import ComponentType

BODY = b'{"inputs": [0]}'
SECONDS_BETWEEN = 0.005
"""Between two requests of all connections: 24,000 in the two minutes for which the kernel remembers where a connection
led, and it has 28,000 ports. While a container ends, Docker forgets those to its address by their ports alone, and
would cut a new one that has the same.
"""


@contextmanager
def deployer() -> Iterator[tuple[BaseModelDeployer, str]]:
    """A deployer with a home and a namespace of its own; both are removed at the end."""
    namespace = f"stackkit-bench-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        client = Client(Settings(home, f"sqlite:///{home}/stackkit.db"))
        client.database.upgrade()
        fields = {"kubernetes_namespace": namespace}
        client.register_component(ComponentType.MODEL_DEPLOYER, "k8s", "kubernetes", fields)
        kubectl("create", "namespace", namespace)
        try:
            yield client.model_deployer("k8s"), namespace
        finally:
            kubectl("delete", "namespace", namespace)
            client.database.close()


def kubectl(*arguments: str, text: str = "") -> str:
    done = subprocess.run(["kubectl", *arguments], input=text, text=True, stdout=subprocess.PIPE, check=True)
    return done.stdout


def ask(url: str, timeout: float = 30) -> str | None:
    """Why one request on a connection of its own is not answered; None when it is."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request("POST", parts.path, BODY, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return None if answer.status == http.client.OK else f"it answered {answer.status}"
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        connection.close()


def first_answer(url: str) -> None:
    while ask(url, timeout=0.5) is not None:  # what comes before kube-proxy knows the way may be lost
        time.sleep(0.02)


ENDS_AT_ONCE = {"Deployment": {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 0}}}}}
"""What comes after the measurement takes less time."""


def measure_overhead(image: str, rounds: int) -> None:
    """Each round: the same objects by kubectl and by us, each until the first answer, and removed again."""
    by_kubectl, by_us = [], []
    with deployer() as (ours, namespace):
        for number in range(rounds):
            fields: dict[str, object] = {"model_name": f"iris-{number}", "image": image, "service_type": "NodePort"}
            fields["patch"] = ENDS_AT_ONCE
            manifest = ours.dry_run(**fields)
            begun = time.monotonic()
            kubectl("--namespace", namespace, "apply", "--filename", "-", text=manifest)
            path = "jsonpath={.items[0].spec.ports[0].nodePort}"
            port = kubectl("--namespace", namespace, "get", "services", "--output", path)
            first_answer(f"http://127.0.0.1:{port}/invocations")
            by_kubectl.append(time.monotonic() - begun)
            kubectl("--namespace", namespace, "delete", "--wait", "--filename", "-", text=manifest)
            wait_until(lambda: not kubectl("--namespace", namespace, "get", "pods", "--output", "name"))

            begun = time.monotonic()
            service = ours.deploy_model(**fields)
            first_answer(str(service.prediction_url))
            by_us.append(time.monotonic() - begun)
            service.delete()
            print(f"round {number + 1}: kubectl {by_kubectl[-1]:.2f} s, stackkit {by_us[-1]:.2f} s", flush=True)
    kubectls, us = statistics.median(by_kubectl), statistics.median(by_us)
    print("\n| rounds | kubectl apply, median | deploy_model, median | more |\n| ---: | ---: | ---: | ---: |")
    print(f"| {rounds} | {kubectls:.2f} s | {us:.2f} s | {100 * (us / kubectls - 1):.0f} % |")


def wait_until(look: Callable[[], bool]) -> None:
    while not look():
        time.sleep(0.2)


def measure_updates(image: str, updates: int, connections: int) -> None:
    answers: collections.Counter[str | None] = collections.Counter()
    done, lock = threading.Event(), threading.Lock()
    with deployer() as (ours, _):
        service = ours.deploy_model(model_name="iris", image=image, service_type="NodePort", replicas=2)
        url = str(service.prediction_url)

        def load() -> None:
            while not done.wait(connections * SECONDS_BETWEEN):
                why = ask(url)
                with lock:
                    answers[why] += 1

        threads = [threading.Thread(target=load) for _ in range(connections)]
        for thread in threads:
            thread.start()
        seconds = []
        for number in range(updates):
            begun = time.monotonic()
            ours.update_model_server(service, env={"NUMBER": str(number)})
            seconds.append(time.monotonic() - begun)
            failed = answers.total() - answers[None]
            print(f"update {number + 1}: {seconds[-1]:.1f} s, {failed} requests failed so far", flush=True)
        time.sleep(15)  # the last pods of the old revision leave
        done.set()
        for thread in threads:
            thread.join()
        service.delete()
    print("\n| updates | connections | requests | failed | seconds an update, median |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    told = f"{answers.total()} | {answers.total() - answers[None]} | {statistics.median(seconds):.1f}"
    print(f"| {updates} | {connections} | {told} |")
    print("\n".join(f"{count} times {why}" for why, count in answers.items() if why is not None))


def measure_refresh(count: int) -> None:
    sent: list[str] = []
    exchange = Connection.exchange

    def counted(self: Connection, method: str, path: str, **options: object) -> object:
        sent.append(f"{method} {path}")
        return exchange(self, method, path, **options)  # type: ignore[arg-type]

    with deployer() as (ours, _):
        for number in range(count):
            ours.deploy_model(
                model_name=f"iris-{number}", image="nowhere:1", node_selector={"stackkit": "nowhere"}, timeout=0
            )
        services = list(ours.find_model_server(refresh=False))
        ours.do_check(services)  # discovery is asked once
        seconds = []
        for _ in range(5):
            with mock.patch.object(Connection, "exchange", counted):
                sent.clear()
                begun = time.monotonic()
                ours.do_check(services)
                seconds.append(time.monotonic() - begun)
        print("\n| services | requests | seconds, median of 5 |\n| ---: | ---: | ---: |")
        print(f"| {count} | {len(sent)} | {statistics.median(seconds):.2f} |\n")
        print("\n".join(sent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_subparsers(dest="what", required=True)
    overhead = what.add_parser("overhead")
    overhead.add_argument("--rounds", type=int, default=10)
    updates = what.add_parser("updates")
    updates.add_argument("--updates", type=int, default=10)
    updates.add_argument("--connections", type=int, default=8)
    for each in (overhead, updates):
        each.add_argument("--image", required=True)
    refresh = what.add_parser("refresh")
    refresh.add_argument("--services", type=int, default=200)
    options = parser.parse_args()
    if options.what == "overhead":
        measure_overhead(options.image, options.rounds)
    elif options.what == "updates":
        measure_updates(options.image, options.updates, options.connections)
    else:
        measure_refresh(options.services)


if __name__ == "__main__":
    main()
