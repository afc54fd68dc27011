"""The logs of all pods that bear some labels, as one: those that come later and those that start again included."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError

from stackkit.errors import PlatformUnavailableError, StackkitError

from .connection import Connection
from .errors import RefusedError
from .objects import KubernetesObject

_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"

_LOOK_SECONDS = 1.0
"""How often new pods are looked for while logs are followed."""

_GONE_SECONDS = 5.0
"""For how long there has to be no pod until the logs have ended: a rollout may leave none for a moment."""

_OUTAGE_SECONDS = 120.0
"""For how long the API server may be away while logs are followed."""

_MOST_LINES_WAITING = 1000

_TIME = re.compile(r"\d{4}-\d\d-\d\dT")
_KUBELETS_WORDS = "unable to retrieve container logs for "

FindPods = Callable[[], list[KubernetesObject]]


@dataclass(frozen=True)
class Run:
    """One run of one container: the log starts anew with each."""

    pod: str
    uid: str
    container: str
    restarts: int


def tail(connection: Connection, path: str, container: str, lines: int | None) -> list[str]:
    """The last lines of a container's log, by its pod's path; none while it has not started or when it is gone."""
    try:
        answer = connection.send("GET", f"{path}/log", query=_query(container, lines))
    except RefusedError as error:
        if error.status in (400, 404):  # it is waiting to start, or gone
            return []
        raise
    told = answer.data.decode("utf-8", "replace").splitlines()
    return [line for line in told if not line.startswith(_KUBELETS_WORDS)]


def read(
    connection: Connection,
    pod_path: Callable[[str], str],
    find_pods: FindPods,
    container: str | None,
    lines: int | None,
) -> Iterator[str]:
    """What the pods have logged until now, one pod after the other, each line with its pod's name before it.

    Raises PlatformUnavailableError for a pod whose log cannot be had, after those of the others.
    """
    unavailable: PlatformUnavailableError | None = None
    for run, _ in _runs(find_pods(), container):
        try:
            told = tail(connection, pod_path(run.pod), run.container, lines)
        except PlatformUnavailableError as error:
            unavailable = error
            continue
        yield from (f"{run.pod} | {line}" for line in told)
    if unavailable is not None:
        raise unavailable


def follow(
    connection: Connection,
    pod_path: Callable[[str], str],
    find_pods: FindPods,
    container: str | None,
    lines: int | None,
) -> Iterator[str]:
    """As ``read``, and then what they log, line by line as it comes, and what pods that come later do.

    Ends when there are no such pods any more. A stream that breaks is taken up again where it was. Raises
    PlatformUnavailableError when the API server stays away.
    """
    streams: dict[Run, _Stream] = {}
    arriving: queue.Queue[str] = queue.Queue(_MOST_LINES_WAITING)
    tail_lines = lines
    seen = heard = time.monotonic()
    try:
        while True:
            now = time.monotonic()
            try:
                found = find_pods()
            except PlatformUnavailableError:
                if now - heard > _OUTAGE_SECONDS:
                    raise
                seen = now  # nobody can say that the pods are gone
            else:
                heard = now
                seen = now if found else seen
                for run, is_running in _runs(found, container):
                    before = streams.get(run)
                    if before is None or before.is_broken or (is_running and not before.is_alive()):
                        after = before.last if before else ""
                        streams[run] = _Stream(connection, pod_path(run.pod), run, tail_lines, after, arriving)
                        streams[run].start()
                tail_lines = None  # what comes later is shown from its start
            yield from _until(arriving, time.monotonic() + _LOOK_SECONDS)
            if now - seen > _GONE_SECONDS:
                return
    finally:
        for stream in streams.values():
            stream.end()


class _Stream(threading.Thread):
    """Reads the log of one run as it grows. ``last`` is the time, in the kubelet's words, of the last line read."""

    def __init__(
        self,
        connection: Connection,
        path: str,
        run: Run,
        lines: int | None,
        after: str,
        arriving: queue.Queue[str],
    ) -> None:
        super().__init__(name=f"log of {run.pod}", daemon=True)
        self.last = self._after = after
        self.is_broken = False
        self._connection, self._path, self._run, self._lines = connection, path, run, lines
        self._arriving = arriving
        self._ending = threading.Event()
        self._answer: urllib3.BaseHTTPResponse | None = None

    def run(self) -> None:
        query = {**_query(self._run.container, self._lines), "follow": "true", "timestamps": "true"}
        if self.last:
            query["sinceTime"] = self.last
        try:
            # it may say nothing for as long as the server has nothing to say
            self._answer = self._connection.send("GET", f"{self._path}/log", query=query, timeout=None, stream=True)
            if self._ending.is_set():  # while it was still being asked for, so that there was nothing to shut
                return
            for line in _split(self._answer):
                self._take(line)
        except RefusedError as error:
            self.is_broken = error.status != 404
        except (StackkitError, HTTPError, OSError, ValueError):
            self.is_broken = not self._ending.is_set()
        finally:
            if self._answer is not None:
                self._answer.close()

    def end(self) -> None:
        """Have it stop reading; returns when it has, or soon will."""
        self._ending.set()
        if self._answer is not None:
            with suppress(OSError, ValueError, RuntimeError):  # it has just ended by itself
                self._answer.shutdown()
        self.join(1.0)

    def _take(self, line: str) -> None:
        when, _, text = line.partition(" ")
        if not _TIME.match(when):  # the kubelet's own words, such as that the container has just been removed
            return
        if when <= self._after:  # sinceTime is in whole seconds: some of them have been read
            return
        while not self._ending.is_set():
            with suppress(queue.Full):
                self._arriving.put(f"{self._run.pod} | {text}", timeout=0.2)
                self.last = when
                return


def container_of(pod: KubernetesObject, container: str | None) -> str:
    """The container that is meant: the one named, else the pod's default one."""
    annotations = pod["metadata"].get("annotations") or {}
    return container or annotations.get(_DEFAULT_CONTAINER) or str(pod["spec"]["containers"][0]["name"])


def _runs(pods: list[KubernetesObject], container: str | None) -> Iterator[tuple[Run, bool]]:
    """The runs that have a log, and whether each still goes on."""
    for pod in sorted(pods, key=lambda each: (each["metadata"]["creationTimestamp"], each["metadata"]["name"])):
        name = container_of(pod, container)
        for status in pod.get("status", {}).get("containerStatuses") or ():
            state: dict[str, Any] = status.get("state") or {}
            if status["name"] == name and ("waiting" not in state or status.get("lastState")):
                metadata = pod["metadata"]
                yield Run(metadata["name"], metadata["uid"], name, status["restartCount"]), "running" in state


def _query(container: str, lines: int | None) -> dict[str, str]:
    return {"container": container} | ({} if lines is None else {"tailLines": str(lines)})


def _split(answer: urllib3.BaseHTTPResponse) -> Iterator[str]:
    rest = b""
    for chunk in answer.stream(2**16):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode("utf-8", "replace").rstrip("\r") for line in lines)
    if rest:
        yield rest.decode("utf-8", "replace")


def _until(arriving: queue.Queue[str], deadline: float) -> Iterator[str]:
    """The lines that arrive until then."""
    while (left := deadline - time.monotonic()) > 0:
        try:
            yield arriving.get(timeout=left)
        except queue.Empty:
            return
