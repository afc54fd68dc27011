"""Kubernetes objects as plain JSON, and the labels and annotations by which ours are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KubernetesObject = dict[str, Any]
"""An object as the API speaks it: apiVersion, kind, metadata and the rest."""

MANAGED_BY: Mapping[str, str] = {"app.kubernetes.io/managed-by": "stackkit"}
"""What all of ours bear, by Kubernetes' recommended label."""

SERVICE = "stackkit/service"
"""The label that holds the UUID of the service."""

REVISION = "stackkit/revision"
"""The label that holds the number of the revision."""

EPOCH = "stackkit/epoch"
"""The annotation that holds the epoch of the lease under which the object was last written."""


def service_labels(service_id: str) -> dict[str, str]:
    """The labels of everything that is made for a service, and by which it is found."""
    return {**MANAGED_BY, SERVICE: service_id}


def labels_of(found: KubernetesObject) -> Mapping[str, str]:
    return found["metadata"].get("labels") or {}


def is_ours(found: KubernetesObject) -> bool:
    """Whether it bears the labels of some service."""
    labels = labels_of(found)
    return MANAGED_BY.items() <= labels.items() and bool(labels.get(SERVICE))


def epoch_of(found: KubernetesObject) -> int:
    """The epoch it was last written under; 0 when somebody has taken the annotation away."""
    text = (found["metadata"].get("annotations") or {}).get(EPOCH, "")
    return int(text) if text.isdecimal() else 0


def title(kind: str, name: str, namespace: str) -> str:
    """How an object is called in a sentence."""
    return f"{kind} {name} in the namespace {namespace}"


def selector(labels: Mapping[str, str]) -> str:
    """The label selector that these labels make."""
    return ",".join(f"{key}={value}" for key, value in labels.items())
