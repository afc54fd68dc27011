"""Writing objects: applied by the server, fenced by the lease's epoch, and never over somebody else's."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable
from typing import TypeVar

from stackkit.errors import DeploymentError, LeaseLostError

from .connection import Connection
from .discovery import Discovery
from .errors import RefusedError
from .objects import EPOCH, SERVICE, KubernetesObject, epoch_of, is_ours, labels_of, title

Written = TypeVar("Written")

FIELD_MANAGER = "stackkit"

_MOST_REPEATS = 11
_LONGEST_PAUSE_SECONDS = 1.0

_NOT_THERE = "1"
"""A resource version that no object has: with it the API server makes one that is not there and refuses (409) to
touch one that is. etcd counts from 1, and the first write of a cluster is not ours."""

_NO_VERSION_ON_CREATE = "resourceVersion should not be set on objects to be created"
"""How clusters before 1.23 refuse that for a Service alone, which they make by another path (kubernetes#106745)."""


def apply(
    connection: Connection, discovery: Discovery, namespace: str, manifest: KubernetesObject, *, epoch: int
) -> KubernetesObject:
    """Have the object be as ``manifest`` says, and return it; what others have set beside that stays.

    Reads it first and makes the write conditional on that, so that of two writers the one with the higher epoch wins
    whatever their order. Raises LeaseLostError when the object was written under a higher epoch, and DeploymentError
    when one of that name is not this service's, is being removed, or is refused.
    """
    kind, name, service_id = manifest["kind"], manifest["metadata"]["name"], labels_of(manifest)[SERVICE]
    path = discovery.get(manifest["apiVersion"], kind).path(namespace, name)
    is_conditional = True

    def write() -> KubernetesObject:
        nonlocal is_conditional
        live = read(connection, path)
        if live is not None:
            what = title(kind, name, namespace)
            _check(live, service_id, epoch, what)
            if live["metadata"].get("deletionTimestamp"):
                raise DeploymentError(f"The {what} is just being removed.", "Try again when it is gone.")
        body = copy.deepcopy(manifest)
        body["metadata"].setdefault("annotations", {})[EPOCH] = str(epoch)
        if is_conditional or live is not None:
            body["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"] if live else _NOT_THERE
        try:
            return _send(connection, path, body)
        except RefusedError as error:
            if _NO_VERSION_ON_CREATE not in error.message:
                raise
        is_conditional = False
        return write()

    return _past_conflicts(write)


def merge(connection: Connection, path: str, patch: KubernetesObject, what: str, *, epoch: int) -> KubernetesObject:
    """Change some fields of an object of ours, fenced as ``apply`` is. Raises as that does, and when it is gone."""

    def write() -> KubernetesObject:
        live: KubernetesObject = connection.json("GET", path, patient=True)
        _check(live, labels_of(live).get(SERVICE, ""), epoch, what)
        body = copy.deepcopy(patch)
        metadata = body.setdefault("metadata", {})
        metadata["resourceVersion"] = live["metadata"]["resourceVersion"]
        metadata["annotations"] = {**metadata.get("annotations", {}), EPOCH: str(epoch)}
        return send_merge(connection, path, body)

    return _past_conflicts(write)


def send_merge(connection: Connection, path: str, patch: KubernetesObject) -> KubernetesObject:
    """Send a JSON merge patch as it stands."""
    merged: KubernetesObject = connection.json(
        "PATCH", path, body=patch, content_type="application/merge-patch+json", patient=True
    )
    return merged


def read(connection: Connection, path: str) -> KubernetesObject | None:
    """The object at ``path``; None when there is none."""
    try:
        found: KubernetesObject = connection.json("GET", path, patient=True)
    except RefusedError as error:
        if error.status == 404:
            return None
        raise
    return found


def remove(connection: Connection, path: str, what: str, *, epoch: int | None, foreground: bool) -> None:
    """Remove the object at ``path`` and what it owns; a no-op when it is gone, going, or not ours.

    With ``foreground`` it stays until all that it owns is gone. With ``epoch`` it is fenced as ``apply`` is: what
    another process has written since is not removed, and raises LeaseLostError.
    """

    def write() -> None:
        live = read(connection, path)
        if live is None or not is_ours(live) or live["metadata"].get("deletionTimestamp"):
            return
        metadata = live["metadata"]
        preconditions = {"uid": metadata["uid"]}  # not one that took its name meanwhile
        if epoch is not None:
            _check_epoch(live, epoch, what)
            preconditions["resourceVersion"] = metadata["resourceVersion"]
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Foreground" if foreground else "Background",
            "preconditions": preconditions,
        }
        try:
            connection.json("DELETE", path, body=options, patient=True)
        except RefusedError as error:
            if error.status != 404:
                raise

    _past_conflicts(write)


def _past_conflicts(write: Callable[[], Written]) -> Written:
    """Do what reads an object and writes it on condition of that, again where somebody else has come between."""
    attempt = 0
    while True:
        try:
            return write()
        except RefusedError as error:
            if error.status != 409 or attempt == _MOST_REPEATS:
                raise
        attempt += 1
        _pause(attempt)


def _check(live: KubernetesObject, service_id: str, epoch: int, what: str) -> None:
    if not is_ours(live) or labels_of(live)[SERVICE] != service_id:
        raise DeploymentError(
            f"There is a {what} that is not this service's: it is left alone.",
            f"Look at it (kubectl get {live['kind']} {live['metadata']['name']} --output yaml), and remove it.",
        )
    _check_epoch(live, epoch, what)


def _check_epoch(live: KubernetesObject, epoch: int, what: str) -> None:
    if epoch_of(live) > epoch:
        raise LeaseLostError(
            f"The {what} was written under epoch {epoch_of(live)}, and this work has {epoch}: "
            "another process has taken over.",
            "If the database is an older copy, take that away: "
            f"kubectl annotate {live['kind']} {live['metadata']['name']} {EPOCH}-",
        )


def _pause(attempt: int) -> None:
    time.sleep(random.uniform(0, min(0.02 * 2**attempt, _LONGEST_PAUSE_SECONDS)))  # noqa: S311 - spreads writers


def _send(connection: Connection, path: str, body: KubernetesObject) -> KubernetesObject:
    applied: KubernetesObject = connection.json(
        "PATCH",
        path,
        query={"fieldManager": FIELD_MANAGER, "force": "true"},
        body=body,
        content_type="application/apply-patch+yaml",
        patient=True,
    )
    return applied
