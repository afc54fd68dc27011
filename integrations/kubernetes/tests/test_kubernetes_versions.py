"""Which versions of the API are written, on clusters that are older and newer than the one of the tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiClient
from stackkit_kubernetes.cluster import Cluster
from stackkit_kubernetes.cluster.connection import Connection
from stackkit_kubernetes.deployer import KubernetesModelDeployer

from stackkit import Client
from stackkit.errors import NotSupportedError
from stackkit.stack import ComponentType

EVERY_KIND: dict[str, Any] = {
    "model_name": "iris",
    "image": "server:1",
    "model_uri": "s3://models/iris",
    "min_replicas": 2,
    "max_replicas": 5,
    "requests": {"cpu": "1", "ephemeral_storage": "1Gi"},
    "limits": {"memory": "1Gi"},
    "gpus": 1,
    "tolerations": [{"key": "gpu", "effect": "NoExecute", "toleration_seconds": 60}],
    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "secrets": {"TOKEN": "hunter2"},
    "service_type": "NodePort",
    "disruption_budget": {"min_available": "50%"},
    "ingress": {"host": "iris.example.com", "class_name": "nginx", "tls_secret": "iris-tls"},
}
EVERYWHERE = {"apps/v1": "Deployment", "networking.k8s.io/v1": "Ingress"}
NEW = {"autoscaling/v2": "HorizontalPodAutoscaler", "policy/v1": "PodDisruptionBudget"}
OLD = {"autoscaling/v2beta2": "HorizontalPodAutoscaler", "policy/v1beta1": "PodDisruptionBudget"}


@pytest.fixture
def deployer(
    client: Client, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> Iterator[KubernetesModelDeployer]:
    """A deployer on a cluster that ``serve`` tells the kinds of."""
    client.register_component(ComponentType.MODEL_DEPLOYER, "team", "kubernetes", {})
    made = client.model_deployer("team")
    assert isinstance(made, KubernetesModelDeployer)
    with closing(Cluster(connection, "default")) as cluster:
        monkeypatch.setattr(made, "_cluster", cluster)
        yield made


def serve(monkeypatch: pytest.MonkeyPatch, *served: dict[str, str]) -> None:
    """Have every cluster serve these kinds, by version, and no others."""
    kinds = {version: kind for each in served for version, kind in each.items()}
    monkeypatch.setattr(Cluster, "serves", lambda self, version, kind: kinds.get(version) == kind)


def written(deployer: KubernetesModelDeployer) -> dict[str, Any]:
    """The objects of a service that has one of each kind, by kind."""
    return {each["kind"]: each for each in yaml.safe_load_all(deployer.dry_run(**EVERY_KIND))}


@pytest.mark.parametrize(
    ("served", "versions"),
    [
        ([NEW], ("autoscaling/v2", "policy/v1")),
        ([OLD, NEW], ("autoscaling/v2", "policy/v1")),
        ([OLD], ("autoscaling/v2beta2", "policy/v1beta1")),
    ],
    ids=["today's", "on the way", "1.20"],
)
def test_the_newest_version_that_is_served_is_written(
    deployer: KubernetesModelDeployer,
    monkeypatch: pytest.MonkeyPatch,
    served: list[dict[str, str]],
    versions: tuple[str, str],
) -> None:
    serve(monkeypatch, EVERYWHERE, *served)
    made = written(deployer)
    assert made["HorizontalPodAutoscaler"]["apiVersion"] == versions[0]
    assert made["PodDisruptionBudget"]["apiVersion"] == versions[1]


def test_what_no_version_is_served_of_is_refused(
    deployer: KubernetesModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, EVERYWHERE, {"autoscaling/v2": "HorizontalPodAutoscaler"})
    with pytest.raises(NotSupportedError, match="no PodDisruptionBudget of policy/v1 or policy/v1beta1"):
        written(deployer)


def test_all_that_is_written_on_a_cluster_of_today_is_of_the_published_schemas(
    deployer: KubernetesModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The official client's models are generated of these: a field that they do not know is lost on the way, a value
    of another type changes, and a required field that is missing raises.
    """
    serve(monkeypatch, EVERYWHERE, NEW)
    made = written(deployer)
    published = {
        "Service": "V1Service",
        "Deployment": "V1Deployment",
        "HorizontalPodAutoscaler": "V2HorizontalPodAutoscaler",
        "PodDisruptionBudget": "V1PodDisruptionBudget",
        "Ingress": "V1Ingress",
    }
    assert made.keys() == published.keys()
    client = ApiClient()
    for kind, model in published.items():
        shown = json.loads(json.dumps(made[kind]))
        assert client.sanitize_for_serialization(client._ApiClient__deserialize(shown, model)) == shown, kind
