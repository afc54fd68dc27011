"""Objects on a real cluster: applied twice, fenced, left alone when they are others', found and removed."""

from __future__ import annotations

import copy
import uuid
from typing import Any

import kube
import pytest
from stackkit_kubernetes.cluster import EPOCH, Cluster, KubernetesObject, service_labels
from stackkit_kubernetes.cluster.connection import Connection

from stackkit.errors import DeploymentError, LeaseLostError, NotSupportedError

pytestmark = pytest.mark.kubernetes


@pytest.fixture
def secret() -> KubernetesObject:
    """A Secret of a service of its own: the cheapest of all objects."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"secret-{uuid.uuid4().hex[:8]}", "labels": service_labels(str(uuid.uuid4()))},
        "data": {"one": "MQ==", "two": "Mg=="},
    }


@pytest.mark.parametrize("kind", ["Secret", "Service"])
def test_what_is_applied_twice_is_there_once(cluster: Cluster, secret: KubernetesObject, kind: str) -> None:
    manifest = secret if kind == "Secret" else kube.service()  # clusters before 1.23 make Services by another path
    first = cluster.apply(manifest, epoch=1)
    assert first["metadata"]["annotations"][EPOCH] == "1"
    second = cluster.apply(manifest, epoch=1)
    assert (second["metadata"]["uid"], second["metadata"]["resourceVersion"]) == (
        first["metadata"]["uid"],
        first["metadata"]["resourceVersion"],
    )


def test_what_is_no_longer_in_the_manifest_goes_and_what_others_set_stays(
    cluster: Cluster, secret: KubernetesObject
) -> None:
    name = secret["metadata"]["name"]
    cluster.apply(secret, epoch=1)
    cluster.merge("v1", "Secret", name, {"data": {"theirs": "Mw=="}})
    del secret["data"]["two"]
    assert set(cluster.apply(secret, epoch=1)["data"]) == {"one", "theirs"}


def test_a_lower_epoch_is_refused(cluster: Cluster, secret: KubernetesObject) -> None:
    name = secret["metadata"]["name"]
    cluster.apply(secret, epoch=5)
    with pytest.raises(LeaseLostError, match="epoch 5"):
        cluster.apply(secret, epoch=4)
    with pytest.raises(LeaseLostError, match="epoch 5"):
        cluster.merge("v1", "Secret", name, {"data": {"one": None}}, epoch=4)
    merged = cluster.merge("v1", "Secret", name, {"data": {"one": None}}, epoch=6)
    assert (merged["metadata"]["annotations"][EPOCH], list(merged["data"])) == ("6", ["two"])


@pytest.mark.parametrize("is_there", [False, True], ids=["both make it", "both change it"])
def test_of_two_writers_at_once_the_higher_epoch_wins(
    cluster: Cluster, secret: KubernetesObject, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    """The one that has lost its lease has read the object, slept, and wakes when the other has written."""
    if is_there:
        cluster.apply(secret, epoch=1)
    late, now = copy.deepcopy(secret), copy.deepcopy(secret)
    late["data"], now["data"] = {"one": "bGF0ZQ=="}, {"one": "bm93"}
    json = Connection.json
    slept: list[str] = []

    def sleep_before_writing(self: Connection, method: str, path: str, **options: Any) -> Any:
        if method == "PATCH" and not slept:
            slept.append(path)
            cluster.apply(now, epoch=3)
        return json(self, method, path, **options)

    monkeypatch.setattr(Connection, "json", sleep_before_writing)
    with pytest.raises(LeaseLostError):
        cluster.apply(late, epoch=2)
    found = cluster.get("v1", "Secret", secret["metadata"]["name"])
    assert found is not None and found["data"] == {"one": "bm93"}


def test_an_object_of_somebody_else_is_left_alone(
    cluster: Cluster, namespace: kube.Namespace, secret: KubernetesObject
) -> None:
    name = secret["metadata"]["name"]
    theirs = {"metadata": {"name": name}, "data": {"theirs": "Mw=="}}
    namespace.raw("POST", "secrets", theirs)
    with pytest.raises(DeploymentError, match=f"Secret {name} .* not this service's"):
        cluster.apply(secret, epoch=1)
    cluster.delete("v1", "Secret", name)
    found = cluster.get("v1", "Secret", name)
    assert found is not None and found["data"] == theirs["data"]


def test_an_object_of_another_service_is_left_alone(cluster: Cluster, secret: KubernetesObject) -> None:
    cluster.apply(secret, epoch=1)
    secret["metadata"]["labels"] = service_labels(str(uuid.uuid4()))
    with pytest.raises(DeploymentError, match="not this service's"):
        cluster.apply(secret, epoch=2)


def test_removing_twice_and_what_is_gone(cluster: Cluster, secret: KubernetesObject) -> None:
    name = secret["metadata"]["name"]
    cluster.apply(secret, epoch=1)
    cluster.delete("v1", "Secret", name)
    cluster.delete("v1", "Secret", name)
    kube.until(lambda: cluster.get("v1", "Secret", name) is None)
    cluster.delete("v1", "Secret", name)
    with pytest.raises(DeploymentError, match="not found"):
        cluster.merge("v1", "Secret", name, {"data": None}, epoch=1)


def test_a_list_is_read_by_pages_and_by_labels(
    cluster: Cluster, namespace: kube.Namespace, secret: KubernetesObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stackkit_kubernetes.cluster.cluster._PAGE", 2)
    names = {f"paged-{number}" for number in range(5)}
    for name in names:
        cluster.apply({**secret, "metadata": {**secret["metadata"], "name": name}}, epoch=1)
    namespace.raw("POST", "secrets", {"metadata": {"name": "theirs", "labels": {"a": "b"}}})
    labels = secret["metadata"]["labels"]
    found = cluster.find("v1", "Secret", labels)
    assert {each["metadata"]["name"] for each in found} == names
    assert {(each["apiVersion"], each["kind"]) for each in found} == {("v1", "Secret")}
    assert cluster.find("v1", "Secret", {"a": "b"}) == []
    assert len(cluster.find("v1", "Secret", {"a": "b"}, managed=False)) == 1


def test_the_newest_version_that_the_cluster_has(cluster: Cluster) -> None:
    assert cluster.serves("apps/v1", "Deployment")
    assert not cluster.serves("apps/v1", "Deploymint")
    assert not cluster.serves("nobody.example/v1", "Deployment")
    assert cluster.newest("Deployment", "apps/v9", "apps/v1") == "apps/v1"
    assert cluster.newest("Deployment", "apps/v9") is None
    with pytest.raises(NotSupportedError, match="no Deployment of apps/v9"):
        cluster.find("apps/v9", "Deployment", {})


def test_what_the_api_server_refuses_is_told_in_its_words(cluster: Cluster) -> None:
    broken = kube.deployment("x")
    broken["spec"]["selector"] = {"matchLabels": {"app": "another"}}
    with pytest.raises(DeploymentError, match=r"selector.*does not match template"):
        cluster.apply(broken, epoch=1)
