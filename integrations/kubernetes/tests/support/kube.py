"""A real cluster for the tests: a namespace of their own, entered with no more rights than the docs say are needed.

The cluster is the one of STACKKIT_TEST_KUBECONTEXT, else the current one of KUBECONFIG. What tests do as stackkit, they
do as a service account that has the Role of docs/kubernetes-rbac.yaml and nothing else; what they do to the cluster
(break it, look at it) they do with the rights of the kubeconfig.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from docker import DockerClient
from docker.errors import ImageNotFound
from docker_parts import DOCKERFILE, MODEL, SERVER, build
from real_parts import require
from stackkit_kubernetes.cluster import Cluster, ClusterConfig, KubernetesObject, service_labels
from stackkit_kubernetes.cluster.cluster import is_ready
from stackkit_kubernetes.cluster.errors import RefusedError

from stackkit.environments import images, models
from stackkit.errors import StackkitError

CONTEXT = "stackkit-test"
TEST_LABEL = "stackkit-test"  # of the namespaces, so that whoever runs the tests can wait until they are gone
ROLE = Path(__file__).resolve().parents[4] / "docs" / "kubernetes-rbac.yaml"

_KUBECONFIG = os.environ.get("KUBECONFIG")  # a test's own may be another by the time that it is asked for
_SECONDS = 60.0
_POLL_SECONDS = 0.1

T = TypeVar("T")


def cluster_config(namespace: str = "default") -> ClusterConfig:
    """The cluster that the tests may use, with all rights on it; skips, or fails where it has to be there."""
    config = ClusterConfig(
        kubernetes_context=os.environ.get("STACKKIT_TEST_KUBECONTEXT") or None, kubernetes_namespace=namespace
    )
    if config.kubernetes_context is None and _KUBECONFIG is None:
        require("kubernetes", "no cluster is named; set STACKKIT_TEST_KUBECONTEXT or KUBECONFIG")
    return config


def admin(namespace: str = "default") -> Cluster:
    """The cluster with all the rights that the kubeconfig gives; skips, or fails, as ``cluster_config`` does."""
    made = Cluster.connect(cluster_config(namespace))
    try:
        with pytest.MonkeyPatch.context() as patch:
            if _KUBECONFIG is not None:
                patch.setenv("KUBECONFIG", _KUBECONFIG)
            made.get("v1", "ServiceAccount", "default")
    except StackkitError as error:
        made.close()
        require("kubernetes", error.message)
    return made


@dataclass(frozen=True)
class Namespace:
    """A namespace of the tests' own.

    ``admin`` acts in it with all rights; ``kubeconfig`` has a context CONTEXT that has no more than the Role gives.
    """

    name: str
    admin: Cluster
    kubeconfig: Path

    @property
    def config(self) -> ClusterConfig:
        """For a ``Cluster`` with the Role's rights, while KUBECONFIG names ``kubeconfig``."""
        return ClusterConfig(kubernetes_context=CONTEXT, kubernetes_namespace=self.name)

    @property
    def attributes(self) -> dict[str, str]:
        """The same, as a component is registered with."""
        return {"kubernetes_context": CONTEXT, "kubernetes_namespace": self.name}

    def raw(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the API server with all rights; ``path`` is within the namespace where it does not begin with ``/``."""
        whole = path if path.startswith("/") else f"/api/v1/namespaces/{self.name}/{path}"
        return self.admin._connection.json(method, whole, body=body)


@contextmanager
def namespace(folder: Path, *, roles: Sequence[Path] = (ROLE,)) -> Iterator[Namespace]:
    """A new namespace, with a service account stackkit that has ``roles``; it goes at the end with all that is in it.

    ``folder`` is where its kubeconfig is written. A file's objects go into the namespace as they stand.
    """
    name = f"stackkit-test-{uuid.uuid4().hex[:10]}"
    everything = admin(name)
    made = Namespace(name, everything, folder / f"{name}.kubeconfig")
    made.raw("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": {TEST_LABEL: ""}}})
    try:
        for role in roles:
            for each in yaml.safe_load_all(role.read_text(encoding="utf-8")):
                create(made, each)
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}}
        token = made.raw("POST", "serviceaccounts/stackkit/token", asked)["status"]["token"]
        made.kubeconfig.write_text(yaml.safe_dump(kubeconfig(everything, token)), encoding="utf-8")
        # pods are refused in a namespace whose default service account is not there yet
        until(lambda: everything.get("v1", "ServiceAccount", "default"))
        yield made
    finally:
        with suppress(RefusedError):  # a test has removed it
            made.raw("DELETE", f"/api/v1/namespaces/{name}")
        everything.close()


def left(place: Namespace) -> list[str]:
    """What there is in the namespace that bears stackkit's label, of all kinds that stackkit makes and their pods."""
    everything = place.admin
    autoscalers = everything.newest("HorizontalPodAutoscaler", "autoscaling/v2", "autoscaling/v2beta2")
    budgets = everything.newest("PodDisruptionBudget", "policy/v1", "policy/v1beta1")
    kinds = [
        ("apps/v1", "Deployment"),
        ("apps/v1", "ReplicaSet"),
        ("v1", "Pod"),
        ("v1", "Service"),
        ("v1", "Secret"),
        ("networking.k8s.io/v1", "Ingress"),
        (str(autoscalers), "HorizontalPodAutoscaler"),
        (str(budgets), "PodDisruptionBudget"),
    ]
    found = [each for version, kind in kinds for each in everything.find(version, kind, {})]
    return [f"{each['kind']} {each['metadata']['name']}" for each in found]


def create(place: Namespace, manifest: KubernetesObject) -> KubernetesObject:
    """Make an object in the namespace with all rights."""
    path = place.admin._path(manifest["apiVersion"], manifest["kind"])
    made: KubernetesObject = place.raw("POST", path, manifest)
    return made


def deployment(
    image: str, *, name: str = "server", replicas: int = 1, grace_seconds: int = 0, **container: Any
) -> KubernetesObject:
    """A Deployment of a service of its own whose pods bear the label app=<name>, and answer on port 8080.

    The cluster forgets its pods when they are deleted, unless they have ``grace_seconds`` to leave.
    """
    labels = {"app": name}
    one = {"name": "server", "image": image, "imagePullPolicy": "IfNotPresent", **container}
    one.setdefault("ports", [{"containerPort": 8080, "protocol": "TCP"}])
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": service_labels(str(uuid.uuid4()))},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [one], "terminationGracePeriodSeconds": grace_seconds},
            },
        },
    }


def service(name: str = "server") -> KubernetesObject:
    """A Service of a stackkit service of its own, for the pods of ``deployment``."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": service_labels(str(uuid.uuid4()))},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}]},
    }


def ready_pods(place: Namespace, count: int, *, name: str = "server") -> list[str]:
    """The names of the pods of ``deployment``, once so many are ready."""

    def look() -> list[str]:
        found = place.admin.find("v1", "Pod", {"app": name}, managed=False)
        ready = [each["metadata"]["name"] for each in found if is_ready(each)]
        return ready if len(ready) == count else []

    return until(look)


def kubeconfig(cluster: Cluster, token: str) -> dict[str, Any]:
    """A kubeconfig of the same cluster for the one whose token this is."""
    reached = cluster._connection.configuration
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "test", "cluster": {"server": reached.host, "certificate-authority": reached.ssl_ca_cert}}
        ],
        "users": [{"name": "stackkit", "user": {"token": token}}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": "test", "user": "stackkit"}}],
        "current-context": CONTEXT,
    }


def until(look: Callable[[], T], seconds: float = _SECONDS) -> T:
    """What ``look`` gives as soon as that is true; an AssertionError when it is not in time.

    A cluster tells nobody when its controllers have done something: it is asked again and again.
    """
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} seconds"
        time.sleep(_POLL_SECONDS)
    return seen


def server_images(engine: DockerClient) -> dict[str, str]:
    """Three images of a small server: two that answer with their own name, and one that ends at once."""
    version = hashlib.sha256((SERVER + DOCKERFILE).encode()).hexdigest()[:12]
    names = {name: f"stackkit-test-kube:{name}-{version}" for name in ("one", "two", "broken")}
    with alone("images"):
        for name, tag in names.items():
            if not _is_there(engine, tag):
                build(engine, tag, f"ENV ANSWER={name}")
    return names


def model_image(engine: DockerClient, folder: Path) -> str:
    """The image of a model that answers each row with 1, as ``stackkit model build-image`` makes it.

    It is named by the model's digest and stays on the engine for the next run.
    """
    (folder / "model.py").write_text(MODEL.format(answer="1"), encoding="utf-8")
    model = models.resolve(f"{folder}/model.py:predict", models_folder=folder / "kept")
    tag = f"stackkit-test-kube-model:{model.digest.rpartition(':')[2][:24]}"
    with alone("images"):
        images.build(model, tag=tag, client=engine)
    return tag


def _is_there(engine: DockerClient, tag: str) -> bool:
    try:
        engine.images.get(tag)
    except ImageNotFound:
        return False
    return True


@contextmanager
def alone(what: str) -> Iterator[None]:
    """Hold other test processes of this machine off for the length of a ``with``."""
    with Path(tempfile.gettempdir(), f"stackkit-test-kube-{what}.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
