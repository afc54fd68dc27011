"""One Kubernetes cluster, as the flavors see it: objects applied and found, logs, ports, and what is wrong.

Only ``Cluster`` needs the Kubernetes client, which is slow to import: it is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .config import ClusterConfig
from .objects import EPOCH, MANAGED_BY, REVISION, SERVICE, KubernetesObject, epoch_of, service_labels
from .troubles import Trouble, why

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = [
    "EPOCH",
    "MANAGED_BY",
    "REVISION",
    "SERVICE",
    "Cluster",
    "ClusterConfig",
    "KubernetesObject",
    "Trouble",
    "epoch_of",
    "service_labels",
    "why",
]


def __getattr__(name: str) -> Any:
    if name != "Cluster":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .cluster import Cluster

    return Cluster
