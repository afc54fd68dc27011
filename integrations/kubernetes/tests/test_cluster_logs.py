"""Logs that are followed: streams that break, containers that start again, and a reader that stops reading."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from api_standin import Standin
from stackkit_kubernetes.cluster import Cluster, KubernetesObject, logs
from stackkit_kubernetes.cluster.connection import Connection
from stackkit_kubernetes.cluster.discovery import Resource

from stackkit.errors import PlatformUnavailableError


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(logs, "_GONE_SECONDS", 0.05)


def pod(name: str = "p", state: str = "running", restarts: int = 0, **status: Any) -> KubernetesObject:
    told = {"name": "server", "state": {state: {}}, "restartCount": restarts, **status}
    return {
        "metadata": {"name": name, "uid": f"uid of {name}", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": [{"name": "server"}, {"name": "sidecar"}]},
        "status": {"containerStatuses": [told, {**told, "name": "sidecar"}]},
    }


class Pods:
    """What there is at each look; the last stays."""

    def __init__(self, *looks: list[KubernetesObject] | Exception) -> None:
        self.looks = list(looks)

    def __call__(self) -> list[KubernetesObject]:
        seen = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(seen, Exception):
            raise seen
        return seen


def lines(*texts: str, second: int = 0) -> bytes:
    return b"".join(
        f"2026-01-01T00:00:{second:02d}.{number:09d}Z {text}\n".encode() for number, text in enumerate(texts)
    )


def follow(connection: Connection, pods: Pods, container: str | None = None, tail: int | None = None) -> Iterator[str]:
    return logs.follow(connection, lambda name: f"/{name}", pods, container, tail)


def test_a_stream_that_ends_is_taken_up_where_it_was(connection: Connection, standin: Standin) -> None:
    standin.answers = [(200, lines("a", "b")), (200, lines("a", "b", "c")), (404, b"{}")]
    pods = Pods([pod()], PlatformUnavailableError("away"), [pod()])
    followed = follow(connection, pods)
    assert [next(followed) for _ in range(3)] == ["p | a", "p | b", "p | c"]
    pods.looks = [[]]
    assert list(followed) == []
    assert "sinceTime=2026-01-01T00%3A00%3A00.000000001Z" in standin.asked[1][1]


def test_lines_of_one_moment_are_all_told(connection: Connection, standin: Standin) -> None:
    moment = b"2026-01-01T00:00:00.000000000Z "
    standin.answers = [(200, moment + b"a\n" + moment + b"b\n")]
    pods = Pods([pod(state="terminated")])
    followed = follow(connection, pods)
    assert next(followed) == "p | a"
    pods.looks = [[]]
    assert list(followed) == ["p | b"]


def test_a_pod_whose_node_is_silent_does_not_hide_the_others(connection: Connection, standin: Standin) -> None:
    silent = (500, b"dial tcp 192.0.2.7:10250: connect: connection refused")
    standin.answers = [silent, (200, b"a\n")]
    told = logs.read(connection, lambda name: f"/{name}", lambda: [pod("gone"), pod("there")], None, None)
    assert next(told) == "there | a"
    with pytest.raises(PlatformUnavailableError, match="connection refused"):
        next(told)
    standin.answers = [silent]
    opened = Cluster(connection, "default")
    opened._discovery._known = {"v1": {"Pod": Resource("v1", "pods", True)}}
    assert opened.log_tail("gone", "server") == [], "why a pod fails is told without its log"


def test_a_reader_that_stops_while_a_log_is_asked_for_leaves_nothing_running(
    connection: Connection, standin: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has no end, and is given only when nobody wants it any more."""
    asked, stopped, closed = threading.Event(), threading.Event(), threading.Event()

    class Endless:
        def stream(self, amount: int) -> Iterator[bytes]:
            while not closed.wait(0.01):
                yield b"2026-01-01T00:00:00.000000000Z more\n"

        def close(self) -> None:
            closed.set()

    def send(self: Connection, *words: Any, **options: Any) -> Endless:
        asked.set()
        stopped.wait(10)
        return Endless()

    monkeypatch.setattr(Connection, "send", send)
    run = logs.Run("p", "uid", "server", 0)
    stream = logs._Stream(connection, "/p", run, None, "", queue.Queue())
    stream.start()
    assert asked.wait(10)
    threading.Timer(0.1, stopped.set).start()
    stream.end()
    stream.join(10)
    assert not stream.is_alive() and closed.is_set()


def test_an_api_server_that_stays_away_ends_it(
    connection: Connection, standin: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin.answers = [(200, lines("a"))]
    followed = follow(connection, Pods([pod(state="terminated")], PlatformUnavailableError("away")))
    assert next(followed) == "p | a"
    monkeypatch.setattr(logs, "_OUTAGE_SECONDS", 0.2)
    with pytest.raises(PlatformUnavailableError, match="away"):
        next(followed)


def test_a_stream_that_is_refused_for_now_is_asked_for_again(connection: Connection, standin: Standin) -> None:
    standin.answers = [(400, b"waiting to start"), (503, b""), (200, lines("a"))]
    pods = Pods([pod(state="terminated")])
    followed = follow(connection, pods)
    assert next(followed) == "p | a"
    pods.looks = [[]]
    assert list(followed) == []


def test_a_container_that_starts_again_has_another_log(connection: Connection, standin: Standin) -> None:
    standin.answers = [(200, lines("first")), (200, lines("second", second=9))]
    pods = Pods([pod(state="terminated")])
    followed = follow(connection, pods, tail=1)
    assert next(followed) == "p | first"
    pods.looks = [[pod(state="terminated", restarts=1)]]
    assert next(followed) == "p | second"
    pods.looks = [[]]
    assert list(followed) == []
    assert ["tailLines=1" in asked[1] for asked in standin.asked] == [True, False], (
        "later ones are shown from the start"
    )


@pytest.mark.parametrize(
    ("pods", "container", "asked"),
    [
        ([pod("a", "waiting"), pod("b")], None, ["/b/log?container=server"]),
        ([pod("a", "waiting", lastState={"terminated": {}})], None, ["/a/log?container=server"]),
        ([pod()], "sidecar", ["/p/log?container=sidecar"]),
        ([pod()], "nobody", []),
        ([{**pod(), "status": {}}], None, []),
    ],
    ids=["has not started", "waits after a crash", "named", "no such container", "new"],
)
def test_which_logs_are_read(
    connection: Connection, standin: Standin, pods: list[KubernetesObject], container: str | None, asked: list[str]
) -> None:
    standin.answers = [(200, b"a line\n")] * len(asked)
    assert len(list(logs.read(connection, lambda name: f"/{name}", lambda: pods, container, None))) == len(asked)
    assert [each[1] for each in standin.asked] == asked


def test_what_the_kubelet_says_in_its_place_is_no_log(connection: Connection, standin: Standin) -> None:
    gone = b"unable to retrieve container logs for docker://6f885b0f36f8"
    standin.answers = [(200, lines("a") + gone), (200, gone)]
    pods = Pods([pod(state="terminated")])
    followed = follow(connection, pods)
    assert next(followed) == "p | a"
    pods.looks = [[]]
    assert list(followed) == []
    assert logs.tail(connection, "/p", "server", None) == []


def test_the_default_container_is_the_one_that_kubectl_takes() -> None:
    told = pod()
    told["metadata"]["annotations"] = {"kubectl.kubernetes.io/default-container": "sidecar"}
    assert logs.container_of(told, None) == "sidecar"


def test_a_reader_that_stops_leaves_nothing_running(
    connection: Connection, standin: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_MOST_LINES_WAITING", 2)
    standin.answers = [(200, lines(*map(str, range(100))))]
    followed = follow(connection, Pods([pod()]))
    assert next(followed) == "p | 0"
    followed.close()  # type: ignore[attr-defined]
    assert not [each for each in threading.enumerate() if each.name.startswith("log of ")]
