"""What is applied for a service, without a cluster."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kubernetes_parts import ID, make_service, revision
from stackkit_kubernetes import objects
from stackkit_kubernetes.cluster import KubernetesObject
from stackkit_kubernetes.drift import changed, with_copy
from stackkit_kubernetes.patches import merged, patched
from stackkit_kubernetes.pods import template

from stackkit.errors import InvalidConfigError


def deployment(track: Any = "stable", **fields: Any) -> KubernetesObject:
    return objects.make_deployment(revision(**fields), track, replicas=2)


def container(**fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = template(revision(**fields), "stable")["spec"]["containers"][0]
    return found


def test_the_deployment_of_a_service() -> None:
    made = deployment(image="iris:1", labels={"team": "flowers"}, annotations={"example.com/owner": "ann"})
    assert made["metadata"]["name"] == f"stackkit-{ID}"
    assert made["metadata"]["labels"] == {
        "team": "flowers",
        "app.kubernetes.io/managed-by": "stackkit",
        "stackkit/service": ID,
        "stackkit/revision": "3",
        "stackkit/track": "stable",
    }
    pods = made["spec"]["template"]["metadata"]
    assert made["spec"]["selector"]["matchLabels"].items() <= pods["labels"].items()
    assert "stackkit/revision" not in made["spec"]["selector"]["matchLabels"], "it changes, and a selector cannot"
    assert pods["annotations"]["example.com/owner"] == "ann"
    assert made["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert made["spec"]["template"]["spec"]["containers"][0]["image"] == "iris:1"


def test_a_canary_has_a_deployment_of_its_own_behind_the_same_service() -> None:
    stable, canary = deployment(image="iris:1"), deployment("canary", image="iris:1")
    assert canary["metadata"]["name"] == f"stackkit-{ID}-canary"
    assert stable["spec"]["selector"] != canary["spec"]["selector"]
    selector = objects.make_service(revision(image="iris:1"))["spec"]["selector"]
    for each in (stable, canary):
        assert selector.items() <= each["spec"]["template"]["metadata"]["labels"].items()


def test_the_pods_are_secure_unless_told() -> None:
    spec = template(revision(image="iris:1"), "stable")["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    loose = template(revision(image="iris:1", run_as_user=1000, read_only_root=False), "stable")["spec"]
    assert loose["securityContext"]["runAsUser"] == 1000
    assert loose["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is False


def test_no_secret_is_in_anything_but_a_secret() -> None:
    one = revision(image="iris:1", secrets={"TOKEN": "hunter2"}, env={"LEVEL": "debug"})
    secret = objects.make_secret(one)
    assert secret is not None
    assert secret["metadata"]["name"] == f"stackkit-{ID}-r3"
    assert secret["data"] == {"TOKEN": "aHVudGVyMg=="}
    made = objects.make_deployment(one, "stable", replicas=1)
    assert "hunter2" not in json.dumps([made, objects.make_service(one)])
    pod = made["spec"]["template"]["spec"]["containers"][0]
    assert pod["envFrom"] == [{"secretRef": {"name": f"stackkit-{ID}-r3"}}]
    assert pod["env"] == [{"name": "LEVEL", "value": "debug"}]
    assert objects.make_secret(revision(image="iris:1")) is None


def test_variables_have_their_values_as_they_stand() -> None:
    """Kubernetes puts other variables in the place of ``$(NAME)`` and makes one dollar of two."""
    env = {"PATTERN": "^a$", "PRICE": "$$5", "TOLD": "$(HOSTNAME)"}
    spec = template(revision(image="server:1", model_uri="s3://models/iris", env=env), "stable")["spec"]
    for made in (spec["initContainers"][0], spec["containers"][0]):
        variables = {each["name"]: each["value"] for each in made["env"]}
        assert {name: variables[name] for name in env} == {"PATTERN": "^a$$", "PRICE": "$$$$5", "TOLD": "$$(HOSTNAME)"}


def test_resources_gpus_and_where_it_runs() -> None:
    one = revision(
        image="iris:1",
        requests={"cpu": "500m", "memory": "1Gi"},
        limits={"memory": "2Gi"},
        gpus=2,
        node_selector={"disk": "ssd"},
        tolerations=[{"key": "gpu", "effect": "NoExecute", "toleration_seconds": 60}],
        affinity={"nodeAffinity": {}},
        service_account="reader",
    )
    spec = template(one, "stable")["spec"]
    assert spec["containers"][0]["resources"] == {
        "requests": {"cpu": "500m", "memory": "1Gi"},
        "limits": {"memory": "2Gi", "nvidia.com/gpu": "2"},
    }
    assert spec["nodeSelector"] == {"disk": "ssd"}
    assert spec["tolerations"] == [{"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}]
    assert spec["affinity"] == {"nodeAffinity": {}}
    assert spec["serviceAccountName"] == "reader"
    assert "resources" not in container(image="iris:1")


@pytest.mark.parametrize(
    ("uri", "model"),
    [
        ("s3://models/iris", "/mnt/model/fetched"),
        ("pvc://store/team/iris", "/mnt/model/team/iris"),
    ],
    ids=["fetched", "mounted"],
)
def test_an_image_that_gets_its_model_elsewhere(uri: str, model: str) -> None:
    made = container(image="server:1", model_uri=uri)
    variables = {each["name"]: each["value"] for each in made["env"]}
    assert variables["STACKKIT_SERVING_MODEL"] == model
    assert variables["STACKKIT_SERVING_MODEL_DIGEST"] == "", "an image's own digest is not that model's"
    assert {"name": "model", "mountPath": "/mnt/model", "readOnly": True} in made["volumeMounts"]


def test_a_model_is_fetched_before_the_server_starts() -> None:
    fields = {"env": {"AWS_REGION": "eu-west-1"}, "secrets": {"AWS_SECRET_ACCESS_KEY": "x"}, "limits": {"cpu": "1"}}
    spec = template(revision(image="server:1", model_uri="s3://models/iris", **fields), "stable")["spec"]
    (fetching,), (serving,) = spec["initContainers"], spec["containers"]
    assert fetching["args"] == ["fetch", "/mnt/model/fetched"]
    variables = {each["name"]: each["value"] for each in fetching["env"]}
    assert variables == {
        "STACKKIT_SERVING_MODEL": "s3://models/iris",
        "STACKKIT_SERVING_MODEL_DIGEST": "",
        "AWS_REGION": "eu-west-1",
    }
    for same in ("image", "envFrom", "resources", "securityContext"):
        assert fetching[same] == serving[same]
    assert {"name": "model", "emptyDir": {}} in spec["volumes"]
    assert "initContainers" not in template(revision(image="server:1"), "stable")["spec"]
    assert "initContainers" not in template(revision(image="server:1", model_uri="pvc://store/iris"), "stable")["spec"]


def test_the_number_of_pods_that_an_autoscaler_has_made_stays() -> None:
    config = revision(image="iris:1", min_replicas=2, max_replicas=5, requests={"cpu": "1"}).config
    assert [objects.replicas_of(config, now) for now in (0, 3, 9)] == [2, 3, 5]
    assert objects.replicas_of(revision(image="iris:1", replicas=4).config, 9) == 4


def full() -> dict[str, Any]:
    return {
        "image": "iris:1",
        "min_replicas": 2,
        "max_replicas": 5,
        "target_cpu": 70,
        "requests": {"cpu": "1"},
        "disruption_budget": {"max_unavailable": "25%"},
        "ingress": {"host": "iris.example.com", "class_name": "nginx", "tls_secret": "iris-tls"},
        "tolerations": [{"key": "gpu"}],
        "run_as_user": 1000,
        "secrets": {"TOKEN": "x"},
    }


@pytest.mark.parametrize(
    ("made", "published"),
    [
        (objects.make_autoscaler(revision(**full()), "autoscaling/v2"), "V2HorizontalPodAutoscaler"),
        (objects.make_autoscaler(revision(**full()), "autoscaling/v1"), "V1HorizontalPodAutoscaler"),
        (objects.make_disruption_budget(revision(**full()), "policy/v1"), "V1PodDisruptionBudget"),
        (objects.make_ingress(revision(**full())), "V1Ingress"),
        (objects.make_service(revision(**full())), "V1Service"),
        (objects.make_secret(revision(**full())), "V1Secret"),
        (objects.make_deployment(revision(**full()), "canary", replicas=1), "V1Deployment"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_made_is_of_the_published_schema(made: KubernetesObject, published: str) -> None:
    """The official client's models are generated of the published schemas: what they do not know, they leave out."""
    from kubernetes.client import ApiClient

    class Response:
        data = json.dumps(made)

    client = ApiClient()
    read = client._ApiClient__deserialize(made, published)
    assert client.sanitize_for_serialization(read) == made


# Patches


def test_a_merge_patch_merges_removes_and_replaces() -> None:
    assert merged({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": None, "e": 3}, "d": [2]}) == {
        "a": {"c": 2, "e": 3},
        "d": [2],
    }


def test_a_patch_adds_what_no_field_says() -> None:
    one = revision(
        image="iris:1", patch={"Deployment": {"spec": {"template": {"spec": {"priorityClassName": "high"}}}}}
    )
    made = objects.make_deployment(one, "stable", replicas=1)
    assert patched(made, one.config)["spec"]["template"]["spec"]["priorityClassName"] == "high"
    assert patched(objects.make_service(one), one.config) == objects.make_service(one)


SECURE = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
PART = {"readOnlyRootFilesystem": True}


def test_a_patch_may_add_a_container_that_is_as_secure() -> None:
    sidecar = {"name": "x", "image": "x:1", "securityContext": SECURE}
    one = revision(
        image="iris:1", patch={"Deployment": {"spec": {"template": {"spec": {"initContainers": [sidecar]}}}}}
    )
    made = patched(objects.make_deployment(one, "stable", replicas=1), one.config)
    assert made["spec"]["template"]["spec"]["initContainers"] == [sidecar]


@pytest.mark.parametrize(
    ("patch", "told"),
    [
        ({"metadata": {"name": "mine"}}, "metadata.name"),
        ({"metadata": {"labels": {"stackkit/service": "x"}}}, "metadata.labels"),
        ({"metadata": {"annotations": None}}, "metadata.annotations"),
        ({"spec": {"selector": {"matchLabels": {"a": "b"}}}}, "spec.selector"),
        ({"spec": {"template": {"metadata": {"labels": None}}}}, "spec.template.metadata.labels"),
        ({"spec": {"replicas": 9}}, "replicas"),
        ({"spec": {"template": {"spec": {"hostNetwork": True}}}}, "hostNetwork"),
        ({"spec": {"template": {"spec": {"securityContext": None}}}}, "securityContext"),
        ({"spec": {"template": {"spec": {"automountServiceAccountToken": True}}}}, "automountServiceAccountToken"),
        (
            {"spec": {"template": {"spec": {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}}}},
            "files of the host",
        ),
        ({"spec": {"template": {"spec": {"containers": [{"name": "server"}]}}}}, "securityContext of the container"),
        ({"spec": {"template": {"spec": {"containers": []}}}}, "name of the container"),
        ({"spec": {"template": {"spec": {"initContainers": [{"name": "x"}]}}}}, "container 'x'"),
        (
            {"spec": {"template": {"spec": {"initContainers": [{"name": "empty", "securityContext": {}}]}}}},
            "container 'empty'",
        ),
        (
            {"spec": {"template": {"spec": {"initContainers": [{"name": "part", "securityContext": PART}]}}}},
            "container 'part'",
        ),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_a_patch_cannot_undo_what_we_rely_on(patch: dict[str, Any], told: str) -> None:
    one = revision(image="iris:1", patch={"Deployment": patch})
    with pytest.raises(InvalidConfigError, match=told):
        patched(objects.make_deployment(one, "stable", replicas=1), one.config)


def test_a_patch_cannot_take_away_what_fetches_the_model() -> None:
    patch = {"Deployment": {"spec": {"template": {"spec": {"initContainers": None}}}}}
    one = revision(image="server:1", model_uri="s3://models/iris", patch=patch)
    with pytest.raises(InvalidConfigError, match="name of the container 'model'"):
        patched(objects.make_deployment(one, "stable", replicas=1), one.config)


def test_security_may_be_loosened_when_said() -> None:
    patch = {"Deployment": {"spec": {"template": {"spec": {"hostNetwork": True}}}}}
    one = revision(image="iris:1", patch=patch, patch_security=True)
    made = patched(objects.make_deployment(one, "stable", replicas=1), one.config)
    assert made["spec"]["template"]["spec"]["hostNetwork"] is True


def test_a_patch_of_a_kind_that_is_never_made_is_refused() -> None:
    one = revision(image="iris:1", patch={"Pod": {}})
    with pytest.raises(InvalidConfigError, match="'Pod'"):
        patched(objects.make_service(one), one.config)


# Changes by others


def live(**fields: Any) -> KubernetesObject:
    """A Deployment as the API server keeps it: with defaults added, and quantities in its own form."""
    kept: KubernetesObject = json.loads(json.dumps(with_copy(deployment(requests={"cpu": "0.5"}, **fields))))
    kept["spec"]["revisionHistoryLimit"] = 1
    pod = kept["spec"]["template"]["spec"]
    pod["dnsPolicy"] = "ClusterFirst"
    pod["containers"][0]["resources"]["requests"]["cpu"] = "500m"
    pod["volumes"].insert(0, {"name": "injected", "emptyDir": {}})
    return kept


def test_defaults_and_scaling_are_no_change() -> None:
    found = live(image="iris:1")
    found["spec"]["replicas"] = 7
    assert changed(found) is None


def test_what_somebody_has_changed_is_named() -> None:
    found = live(image="iris:1")
    found["spec"]["template"]["spec"]["containers"][0]["image"] = "other:1"
    assert changed(found) == "spec.template.spec.containers.server.image"
    found["metadata"]["annotations"]["stackkit/applied"] = "{"
    assert changed(found) == "metadata.annotations.stackkit/applied"
    del found["metadata"]["annotations"]["stackkit/applied"]
    assert changed(found) is None, "it was applied by a manifest"


def test_a_server_can_be_adopted_from_what_is_kept_beside_it() -> None:
    live = deployment(image="iris:1")
    live["metadata"]["annotations"]["stackkit/epoch"] = "57"
    found = objects.found_server(live)
    assert found is not None
    assert (found.service_id, found.revision, found.epoch) == (ID, 3, 57)
    assert found.config["image"] == "iris:1"
    assert objects.found_server(deployment("canary", image="iris:1")) is None
    assert make_service(image="iris:1").source == found.source
