"""Why a Deployment's pods do not come up, in one line that a person understands.

What the words mean is told in https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ and
https://kubernetes.io/docs/tasks/debug/debug-application/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .objects import KubernetesObject

_LONGEST = 600
_LOG_LINES = 3

_GIVEN_UP_AFTER = 2
"""How often a container may have been started again until its ending is taken for its nature."""

_NEVER_PULLED = (
    "not found",
    "manifest unknown",
    "no such image",
    "no such host",
    "denied",
    "unauthorized",
    "no basic auth credentials",
    "server gave http response to https client",
)
"""In lower case, what an engine says of an image that it will not get by trying again."""

_CANNOT_PULL = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError")
_CANNOT_START = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError")
_MAY_PASS = ("timed out waiting for the condition",)  # a busy node has not read the Secret yet, and tries again
_CANNOT_MOUNT = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox")

_QUOTA = re.compile(
    r"exceeded quota: (?P<quota>[^,]+), requested: (?P<requested>.+?), used: .+?, limited: (?P<limited>.+)"
)

LogTail = Callable[[str, str], list[str]]
"""Gives the last lines that a container (pod, container) has logged."""


@dataclass(frozen=True)
class Trouble:
    """What is wrong. ``is_final`` when waiting will not mend it, and only another configuration or cluster will."""

    message: str
    is_final: bool


def why(
    deployment: KubernetesObject | None,
    pods: Sequence[KubernetesObject],
    events: Sequence[KubernetesObject],
    *,
    log_tail: LogTail,
) -> Trouble | None:
    """What keeps ``pods`` from being ready; None when nothing is known to.

    ``pods`` are those of the revision that is asked about, ``events`` what was told of them, oldest first; what is
    final is told before what may pass. ``log_tail`` is asked for containers that have ended alone.
    """
    found = [
        trouble
        for pod in pods
        if not pod["metadata"].get("deletionTimestamp")
        for trouble in _of_pod(pod, [each for each in events if _is_about(each, pod)], log_tail)
    ]
    found += _of_deployment(deployment)
    worst = next((each for each in found if each.is_final), found[0] if found else None)
    return None if worst is None else Trouble(_one_line(worst.message), worst.is_final)


def _of_pod(pod: KubernetesObject, events: Sequence[KubernetesObject], log_tail: LogTail) -> Iterator[Trouble]:
    status = pod.get("status") or {}
    name = pod["metadata"]["name"]
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        yield Trouble(f"No node takes the pod {name}: {scheduled.get('message', '')}", is_final=False)
        return
    if status.get("phase") == "Failed" and status.get("reason"):
        yield Trouble(
            f"The pod {name} was ended ({status['reason']}): {status.get('message', 'no more is told')}", is_final=False
        )
        return
    told = False
    for kind, field in (("init container", "initContainerStatuses"), ("container", "containerStatuses")):
        for container in status.get(field) or ():
            trouble = _of_container(pod, container, kind, events, log_tail)
            if trouble is not None:
                told = True
                yield trouble
    ready = conditions.get("Ready", {})
    if not told and ready.get("status") != "True":
        yield from _of_events(name, events)
        if conditions.get("ContainersReady", {}).get("status") == "True":
            # its containers run, as far as was last heard: a readiness gate is closed, or its node is silent
            node = pod["spec"].get("nodeName", "its node")
            said = ready.get("message") or f"nothing has been heard of {node} lately"
            yield Trouble(f"The pod {name} is not ready: {said}", is_final=False)


def _of_container(
    pod: KubernetesObject,
    container: Mapping[str, Any],
    kind: str,
    events: Sequence[KubernetesObject],
    log_tail: LogTail,
) -> Trouble | None:
    name, state = pod["metadata"]["name"], container.get("state") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated")
    reason, said = waiting.get("reason", ""), waiting.get("message", "")
    if reason in _CANNOT_PULL:
        return _unpulled(container["image"], reason, said, events)
    if reason in _CANNOT_START:
        passes = any(words in said for words in _MAY_PASS)
        return Trouble(f"The {kind} {container['name']} of the pod {name} cannot be made: {said or reason}", not passes)
    last = ended or (container.get("lastState") or {}).get("terminated")
    if last is None or container.get("ready") or (ended and ended["exitCode"] == 0 and kind == "init container"):
        return None
    return _ended(pod, container, kind, last, events, log_tail)


def _ended(
    pod: KubernetesObject,
    container: Mapping[str, Any],
    kind: str,
    last: Mapping[str, Any],
    events: Sequence[KubernetesObject],
    log_tail: LogTail,
) -> Trouble:
    """A container that has ended, now or before it was started again."""
    name, restarts = pod["metadata"]["name"], container.get("restartCount", 0)
    how = f"ended with exit code {last['exitCode']}"
    killed = [said for said in _told(events, "Killing") if "liveness probe" in said]
    if last.get("reason") == "OOMKilled":
        limit = _limit(pod, container["name"])
        how = f"was killed because it needed more memory{f' than the {limit} that it may have' if limit else ''}"
    elif killed:
        how = "was ended because its liveness probe failed"
    elif last.get("signal"):
        how = f"was ended by signal {last['signal']}"
    again = f", {restarts} times over" if restarts > 1 else ""
    lines = [line.strip() for line in log_tail(name, container["name"]) if line.strip()][-_LOG_LINES:]
    words = " | ".join(lines) or " ".join(str(last.get("message") or "").split())
    return Trouble(
        f"The {kind} {container['name']} of the pod {name} {how}{again}{f': {words}' if words else ''}",
        # one that runs now has another chance
        is_final=restarts >= _GIVEN_UP_AFTER and "running" not in container["state"],
    )


def _unpulled(image: str, reason: str, said: str, events: Sequence[KubernetesObject]) -> Trouble:
    # the status says "Back-off pulling image"; why it cannot be pulled is told by an event
    failed = [said for said in _told(events, "Failed") if "pull image" in said]
    words = failed[-1] if failed else said or reason
    is_final = reason in ("InvalidImageName", "ErrImageNeverPull") or any(
        text in words.lower() for text in _NEVER_PULLED
    )
    return Trouble(f"The image {image} cannot be pulled ({reason}): {words}", is_final)


def _of_events(name: str, events: Sequence[KubernetesObject]) -> Iterator[Trouble]:
    """What only events tell: volumes that are not there, and probes that fail."""
    for event in reversed(events):
        reason, said = event.get("reason"), event.get("message") or "no more is told"
        if reason in _CANNOT_MOUNT:
            yield Trouble(f"The pod {name} cannot be made ready ({reason}): {said}", is_final=False)
            return
        if reason == "Unhealthy":
            yield Trouble(f"The pod {name} is not healthy: {said}", is_final=False)
            return


def _told(events: Sequence[KubernetesObject], reason: str) -> list[str]:
    """What events with that reason say. Anybody may write an event, and need not give it either."""
    return [event.get("message", "") for event in events if event.get("reason") == reason]


def _of_deployment(deployment: KubernetesObject | None) -> Iterator[Trouble]:
    status = {} if deployment is None else deployment.get("status") or {}
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    failure = conditions.get("ReplicaFailure", {})
    if failure.get("status") == "True":
        said = failure.get("message", failure.get("reason", ""))
        yield Trouble(f"The cluster refuses the pods: {said}", _is_never_granted(said))
    progress = conditions.get("Progressing", {})
    if progress.get("reason") == "ProgressDeadlineExceeded":
        yield Trouble(f"The cluster has given the rollout up: {progress.get('message', '')}", is_final=True)


def _is_never_granted(said: str) -> bool:
    """Whether no waiting helps: a quota may have room once other pods are gone, unless one pod alone is too much."""
    match = _QUOTA.search(said)
    if match is None:
        # a namespace that has just been made gets its default service account a moment later
        return "forbidden" in said and "looking up service account" not in said
    try:
        requested, limited = _amounts(match["requested"]), _amounts(match["limited"])
    except ValueError:  # a way of writing it that is not known here
        return False
    return any(resource in limited and amount > limited[resource] for resource, amount in requested.items())


def _amounts(text: str) -> dict[str, Any]:
    """What ``pods=1,requests.cpu=500m`` says."""
    from kubernetes.utils import parse_quantity

    read: Callable[[str], Any] = parse_quantity
    pairs = (pair.partition("=") for pair in text.split(","))
    return {resource.strip(): read(amount.strip()) for resource, _, amount in pairs}


def _limit(pod: KubernetesObject, container: str) -> str | None:
    containers: list[Any] = [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or ())]
    for each in containers:
        if each["name"] == container:
            limit = (each.get("resources") or {}).get("limits", {}).get("memory")
            return None if limit is None else str(limit)
    return None


def _is_about(event: KubernetesObject, pod: KubernetesObject) -> bool:
    about = event.get("involvedObject") or {}
    return bool(about.get("uid") == pod["metadata"].get("uid"))


def _one_line(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return f"{line[: _LONGEST - 1]}…" if len(line) > _LONGEST else f"{line}."
