"""Say what tests have left on the cluster of KUBECONFIG, and end with 1 when it is something: ``python kube_left.py``.

Waits until the namespaces that tests have removed are gone.
"""

from __future__ import annotations

import sys
import time

from stackkit_kubernetes.cluster import MANAGED_BY, ClusterConfig
from stackkit_kubernetes.cluster.connection import Connection
from stackkit_kubernetes.cluster.objects import selector

NAMESPACES = "/api/v1/namespaces"
KINDS = (
    *(f"/api/v1/{plural}" for plural in ("pods", "services", "secrets", "configmaps", "persistentvolumeclaims")),
    *(f"/apis/apps/v1/{plural}" for plural in ("deployments", "replicasets", "statefulsets", "daemonsets")),
    "/apis/networking.k8s.io/v1/ingresses",
    "/apis/autoscaling/v1/horizontalpodautoscalers",
)
SECONDS = 120.0


def names(connection: Connection, path: str, labels: str) -> list[str]:
    """What there is, in all namespaces, as ``namespace/plural/name``."""
    listed = connection.json("GET", path, query={"labelSelector": labels})["items"]
    kind = path.rpartition("/")[2]
    return [f"{each['metadata'].get('namespace', '-')}/{kind}/{each['metadata']['name']}" for each in listed]


def main() -> int:
    connection = Connection(ClusterConfig())
    deadline = time.monotonic() + SECONDS
    while names(connection, NAMESPACES, "stackkit-test") and time.monotonic() < deadline:
        time.sleep(0.5)
    left = names(connection, NAMESPACES, "stackkit-test")
    left += [name for path in KINDS for name in names(connection, path, selector(MANAGED_BY))]
    print(*left, sep="\n", end="\n" if left else "")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
