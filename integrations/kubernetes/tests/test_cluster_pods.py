"""Pods of a real cluster: their logs as one, ports that lead to them, and requests through the API server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import kube
import pytest
import requests
from stackkit_kubernetes.cluster import Cluster

from stackkit.errors import DeploymentError, PlatformUnavailableError

pytestmark = pytest.mark.kubernetes

LABELS = {"app": "server"}
ASKED = json.dumps({"inputs": [1, 2]}).encode()
ANSWER = {"predictions": ["one", "one"]}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module", autouse=True)
def pods(namespace: kube.Namespace, images: dict[str, str]) -> list[str]:
    """Two replicas of a small server."""
    ping = {"httpGet": {"path": "/ping", "port": 8080}, "periodSeconds": 1}
    namespace.admin.apply(kube.deployment(images["one"], replicas=2, readinessProbe=ping), epoch=1)
    namespace.admin.apply(kube.service(), epoch=1)
    return kube.ready_pods(namespace, 2)


def test_the_log_has_every_pod_s_lines_with_its_name(cluster: Cluster, pods: list[str]) -> None:
    lines = list(cluster.logs(LABELS, container=None, follow=False, tail=None))
    assert sorted(lines) == sorted(f"{pod} | serving one" for pod in pods)
    assert list(cluster.logs(LABELS, container=None, follow=False, tail=0)) == []
    assert cluster.log_tail(pods[0], "server") == ["serving one"]
    assert cluster.log_tail("nobody", "server") == []


def test_a_log_that_is_followed_has_pods_that_come_later(
    cluster: Cluster, namespace: kube.Namespace, images: dict[str, str], pods: list[str]
) -> None:
    lines = cluster.logs(LABELS, container="server", follow=True, tail=1)
    assert {next(lines), next(lines)} == {f"{pod} | serving one" for pod in pods}
    patch = {"spec": {"replicas": 3}}
    namespace.admin.merge("apps/v1", "Deployment", "server", patch)
    try:
        pod, _, text = next(lines).partition(" | ")
        assert (pod in pods, text) == (False, "serving one")
    finally:
        lines.close()  # type: ignore[attr-defined]
        namespace.admin.merge("apps/v1", "Deployment", "server", {"spec": {"replicas": 2}})
        # the one that goes is not to be chosen by a test that comes after this
        kube.until(lambda: len(namespace.admin.find("v1", "Pod", LABELS, managed=False)) == 2)
    assert not [each for each in threading.enumerate() if each.name.startswith("log of ")]


def test_a_followed_log_ends_with_the_last_pod(
    cluster: Cluster, namespace: kube.Namespace, images: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stackkit_kubernetes.cluster.logs._GONE_SECONDS", 0.5)
    namespace.admin.apply(kube.deployment(images["one"], name="brief", grace_seconds=1), epoch=1)
    kube.ready_pods(namespace, 1, name="brief")
    lines = cluster.logs({"app": "brief"}, container=None, follow=True, tail=None)
    assert next(lines).endswith(" | serving one")
    namespace.admin.delete("apps/v1", "Deployment", "brief")
    assert list(lines) == []


@pytest.fixture
def forwarded(cluster: Cluster) -> Iterator[str]:
    with cluster.forward(LABELS, 8080, None) as url:
        yield url


def test_a_forwarded_port_carries_requests(forwarded: str) -> None:
    assert forwarded.startswith("http://127.0.0.1:")
    with requests.Session() as session:
        for _ in range(50):
            assert session.post(f"{forwarded}/invocations", data=ASKED, timeout=10).json() == ANSWER
    for _ in range(50):
        assert requests.post(f"{forwarded}/invocations", data=ASKED, timeout=10).json() == ANSWER


def test_a_forwarded_port_carries_many_at_once_and_much(forwarded: str) -> None:
    many = json.dumps({"inputs": list(range(200_000))}).encode()
    answers: list[int] = []

    def ask() -> None:
        answers.append(len(requests.post(f"{forwarded}/invocations", data=many, timeout=30).json()["predictions"]))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200_000] * 8


def test_a_forwarded_port_outlives_its_pod(cluster: Cluster, namespace: kube.Namespace, forwarded: str) -> None:
    pods = kube.ready_pods(namespace, 2)
    for pod in pods:
        namespace.raw("DELETE", f"pods/{pod}")
    kube.until(lambda: not {*pods} & {*kube.ready_pods(namespace, 2)})
    assert requests.post(f"{forwarded}/invocations", data=ASKED, timeout=10).json() == ANSWER


def test_a_port_that_is_taken(cluster: Cluster, forwarded: str) -> None:
    taken = int(forwarded.rpartition(":")[2])
    with pytest.raises(DeploymentError, match=f"The port {taken} "), cluster.forward(LABELS, 8080, taken):
        pass


def test_no_pod_to_forward_to(cluster: Cluster) -> None:
    with pytest.raises(DeploymentError, match="None of its pods is ready"), cluster.forward({"app": "no"}, 8080, None):
        pass


def test_a_port_on_which_nobody_listens_closes_the_connection(cluster: Cluster) -> None:
    with cluster.forward(LABELS, 8099, None) as url, pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/ping", timeout=10)


def test_a_request_through_the_api_server(cluster: Cluster) -> None:
    def ask() -> tuple[int, bytes] | None:
        try:
            return cluster.post_to_service("server", 80, "/invocations", ASKED, JSON)
        except PlatformUnavailableError:  # an old API server may lose an answer after which the connection is closed
            return None

    status, body = kube.until(ask) or (0, b"")
    assert (status, json.loads(body)) == (200, ANSWER)


def test_a_service_without_pods_cannot_be_asked(cluster: Cluster, namespace: kube.Namespace) -> None:
    namespace.admin.apply(kube.service("empty"), epoch=1)
    kube.until(lambda: namespace.admin.get("v1", "Endpoints", "empty"))
    with pytest.raises(PlatformUnavailableError, match="no endpoints available"):
        cluster.post_to_service("empty", 80, "/invocations", ASKED, JSON)
    with pytest.raises(DeploymentError, match="not found"):
        cluster.post_to_service("nobody", 80, "/invocations", ASKED, JSON)
