"""What is particular to this flavor, on a real cluster, with the rights of docs/kubernetes-rbac.yaml alone."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import kube
import manifests
import pytest
from kubernetes_parts import ENDS_AT_ONCE, Load, said
from stackkit_kubernetes.cluster import service_labels
from stackkit_kubernetes.deployer import KubernetesModelDeployer

from stackkit import Client
from stackkit.errors import DeploymentError, NotSupportedError
from stackkit.model_deployers import Service, ServiceState
from stackkit.stack import ComponentType

pytestmark = pytest.mark.kubernetes

TIMEOUT = 120


@pytest.fixture
def deployer(client: Client, namespace: kube.Namespace) -> Iterator[KubernetesModelDeployer]:
    client.register_component(ComponentType.MODEL_DEPLOYER, "team", "kubernetes", namespace.attributes)
    made = client.model_deployer("team")
    assert isinstance(made, KubernetesModelDeployer)
    yield made
    for service in list(made.find_model_server(refresh=False)):
        service.delete(timeout=TIMEOUT)


def iris(images: dict[str, str]) -> dict[str, Any]:
    """A service that nobody asks while its pods leave."""
    return {"model_name": "iris", "image": images["one"], "patch": ENDS_AT_ONCE}


def deployment(namespace: kube.Namespace, service: Service, suffix: str = "") -> Any:
    return namespace.admin.get("apps/v1", "Deployment", f"stackkit-{service.id}{suffix}")


def image_of(found: Any) -> str:
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


def change(namespace: kube.Namespace, kind: tuple[str, str], service: Service, patch: dict[str, Any]) -> None:
    namespace.admin.merge(*kind, f"stackkit-{service.id}", patch)


def answers(service: Service, count: int) -> Counter[str]:
    """What so many requests are answered, each on a connection of its own; those that nobody answers do not count."""
    return Counter(answer[0] for _ in range(count) if (answer := said(service)))


def test_an_update_that_cannot_start_is_told_why_and_put_back(
    deployer: KubernetesModelDeployer, namespace: kube.Namespace, images: dict[str, str]
) -> None:
    service = deployer.deploy_model(**iris(images), timeout=TIMEOUT)
    with pytest.raises(DeploymentError, match=r"stackkit-test-kube:nowhere cannot be pulled"):
        deployer.update_model_server(
            service, image="stackkit-test-kube:nowhere", secrets={"TOKEN": "x"}, timeout=TIMEOUT
        )
    seen = service.refresh()
    assert (seen.status.state, seen.revision) == (ServiceState.ACTIVE, 1)
    assert image_of(deployment(namespace, service)) == images["one"]
    assert kube.until(lambda: said(seen)) == ["one"]
    # the number is given again, to something else
    deployer.update_model_server(service, image=images["two"], timeout=TIMEOUT)
    assert service.refresh().revision == 2
    kube.until(lambda: said(service) == ["two"])
    deployer.rollback_model_server(service, timeout=TIMEOUT)
    assert service.refresh().revision == 3
    kube.until(lambda: said(service) == ["one"])


def test_a_canary_answers_its_part_and_is_promoted_or_aborted(
    deployer: KubernetesModelDeployer, namespace: kube.Namespace, images: dict[str, str]
) -> None:
    service = deployer.deploy_model(**iris(images), service_type="NodePort", timeout=TIMEOUT)
    with pytest.raises(NotSupportedError, match="nearest to 5 % is 50 %"):
        deployer.update_model_server(service, image=images["two"], canary=5, timeout=TIMEOUT)
    assert deployment(namespace, service, "-canary") is None
    assert service.refresh().canary is None

    deployer.update_model_server(service, image=images["two"], canary=50, timeout=TIMEOUT)
    seen = service.refresh()
    assert (seen.revision, seen.canary and seen.canary.revision, seen.status.message) == (1, 2, "")
    kube.until(lambda: set(answers(service, 10)) == {"one", "two"})
    assert 20 <= answers(service, 100)["two"] <= 80
    with pytest.raises(NotSupportedError, match="nearest to 5 % is 50 %"):
        deployer.update_model_server(service, canary=5, timeout=TIMEOUT)
    assert service.refresh().canary == seen.canary, "what is refused changes nothing"
    deployer.abort_model_server(service, timeout=TIMEOUT)
    assert service.refresh().canary is None
    kube.until(lambda: deployment(namespace, service, "-canary") is None)
    kube.until(lambda: set(answers(service, 20)) == {"one"})

    deployer.update_model_server(service, image=images["two"], canary=50, timeout=TIMEOUT)
    deployer.promote_model_server(service, timeout=TIMEOUT)
    seen = service.refresh()
    assert (seen.revision, seen.canary, seen.status.state) == (2, None, ServiceState.ACTIVE)
    kube.until(lambda: set(answers(service, 10)) == {"two"})
    assert image_of(deployment(namespace, service)) == images["two"]


def test_what_others_change_or_remove_is_told_and_brought_back(
    deployer: KubernetesModelDeployer, namespace: kube.Namespace, images: dict[str, str]
) -> None:
    service = deployer.deploy_model(**iris(images), service_type="NodePort", timeout=TIMEOUT)
    pods = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 31}}}}
    change(namespace, ("apps/v1", "Deployment"), service, pods)
    message = kube.until(lambda: service.refresh().status.message)
    assert "spec.template.spec.terminationGracePeriodSeconds of its Deployment" in message
    assert service.status.state is ServiceState.ERROR
    service.start(timeout=TIMEOUT)
    assert service.refresh().status.state is ServiceState.ACTIVE

    change(namespace, ("apps/v1", "Deployment"), service, {"spec": {"replicas": 0}})
    kube.until(lambda: service.refresh().status.state is ServiceState.ERROR)
    assert "scaled to nothing" in service.status.message
    service.start(timeout=TIMEOUT)

    namespace.admin.delete("v1", "Service", f"stackkit-{service.id}")
    kube.until(lambda: "Its Service is gone" in service.refresh().status.message)
    service.start(timeout=TIMEOUT)
    assert kube.until(lambda: said(service)) == ["one"]


def test_what_is_not_exposed_is_asked_through_the_api_server_or_a_forwarded_port(
    deployer: KubernetesModelDeployer, namespace: kube.Namespace, images: dict[str, str]
) -> None:
    literal = "$$ of $(HOME)"  # a variable that Kubernetes would change
    service = deployer.deploy_model(
        **iris(images), replicas=2, env={"ANSWER": literal}, secrets={"TOKEN": "hunter2"}, timeout=TIMEOUT
    )
    assert service.prediction_url == f"http://stackkit-{service.id}.{namespace.name}.svc/invocations"
    assert kube.until(lambda: said(service, [0, 0])) == [literal, literal]
    with deployer.port_forward(service) as url:
        request = urllib.request.Request(f"{url}/invocations", b'{"inputs": [0]}')
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.load(answer) == {"predictions": [literal]}
    lines = list(service.logs())
    pods = {line.partition(" | ")[0] for line in lines}
    assert len(pods) == 2
    assert all(pod.startswith(f"stackkit-{service.id}-") for pod in pods)
    live = namespace.admin.find("v1", "Pod", service_labels(service.id))
    assert all("hunter2" not in json.dumps(each) for each in live)
    assert [f"stackkit-{service.id}-r1"] == [
        each["metadata"]["name"] for each in namespace.admin.find("v1", "Secret", service_labels(service.id))
    ]


def test_a_manifest_goes_through_kubectl_and_back(
    deployer: KubernetesModelDeployer, namespace: kube.Namespace, images: dict[str, str]
) -> None:
    kinds = [("v1", "Service"), ("apps/v1", "Deployment")]
    manifests.go_round(deployer, namespace, iris(images), kinds=kinds, data=[0])


def test_an_autoscaler_a_budget_and_an_ingress_are_made_kept_and_removed(
    deployer: KubernetesModelDeployer, namespace: kube.Namespace, images: dict[str, str]
) -> None:
    admin = namespace.admin
    others = (
        ("autoscaling/v1", "HorizontalPodAutoscaler"),
        ("networking.k8s.io/v1", "Ingress"),
        (admin.newest("PodDisruptionBudget", "policy/v1", "policy/v1beta1") or "", "PodDisruptionBudget"),
    )
    service = deployer.deploy_model(
        **iris(images),
        max_replicas=3,
        requests={"cpu": "10m"},
        disruption_budget={"min_available": 1},
        ingress={"host": "iris.example.com", "class_name": "nginx", "tls_secret": "iris-tls"},
        timeout=TIMEOUT,
    )
    assert service.prediction_url == "https://iris.example.com/invocations"
    for kind in others:
        assert admin.get(*kind, f"stackkit-{service.id}") is not None, kind
    # what the autoscaler has made of it stays
    change(namespace, ("apps/v1", "Deployment"), service, {"spec": {"replicas": 2}})
    deployer.update_model_server(service, target_cpu=50, timeout=TIMEOUT)
    assert deployment(namespace, service)["spec"]["replicas"] == 2
    deployer.update_model_server(
        service, max_replicas=None, target_cpu=None, disruption_budget=None, ingress=None, timeout=TIMEOUT
    )
    for kind in others:
        assert admin.get(*kind, f"stackkit-{service.id}") is None, kind
    assert deployment(namespace, service)["spec"]["replicas"] == 1


def test_how_it_is_exposed_may_change(
    deployer: KubernetesModelDeployer, namespace: kube.Namespace, images: dict[str, str]
) -> None:
    service = deployer.deploy_model(**iris(images), service_type="NodePort", timeout=TIMEOUT)
    inside = f"http://stackkit-{service.id}.{namespace.name}.svc/invocations"
    for service_type in ("ClusterIP", "LoadBalancer", "NodePort"):
        deployer.update_model_server(service, service_type=service_type, timeout=TIMEOUT)
        seen = service.refresh()
        assert seen.status.state is ServiceState.ACTIVE, seen.status.message
        assert (seen.prediction_url == inside) is (service_type != "NodePort"), "no cloud gives it an address"
        assert kube.until(partial(said, seen)) == ["one"]


def test_no_request_fails_while_an_update_rolls(
    deployer: KubernetesModelDeployer, namespace: kube.Namespace, model_image: str
) -> None:
    service = deployer.deploy_model(model_name="iris", image=model_image, service_type="NodePort", timeout=TIMEOUT)
    with Load(str(service.prediction_url), connections=4) as load:
        for level in ("one", "two"):
            deployer.update_model_server(service, env={"LEVEL": level}, timeout=TIMEOUT)
        # the last pods of the old revision leave, which is when requests would fail
        kube.until(lambda: len(namespace.admin.find("v1", "Pod", service_labels(service.id))) == 1, seconds=120)
    assert load.answered > 100
    assert load.failures == []
