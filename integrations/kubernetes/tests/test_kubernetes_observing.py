"""How a service is told from what the cluster lists, without a cluster."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes_parts import ID, make_service, revision
from stackkit_kubernetes import objects
from stackkit_kubernetes.addresses import Reach
from stackkit_kubernetes.cluster import KubernetesObject, Trouble
from stackkit_kubernetes.deployer import KubernetesModelDeployer, _canary_replicas
from stackkit_kubernetes.drift import changed, with_copy
from stackkit_kubernetes.observing import Found, observe, revision_of, sort
from stackkit_kubernetes.pods import Track, template

from stackkit.errors import NotSupportedError
from stackkit.local.probes import Answer
from stackkit.model_deployers import Observation, ServiceState, Target

URL = "http://127.0.0.1:30000"
CRASHES = Trouble("The container ends at once.", is_final=True)
SLOW = Trouble("No node takes it.", is_final=False)


def deployment(number: int = 3, track: Track = "stable", *, ready: int = 2, wanted: int = 2) -> KubernetesObject:
    made = objects.make_deployment(revision(image="iris:1"), track, replicas=wanted)
    found: KubernetesObject = json.loads(json.dumps(with_copy(made)))
    found["metadata"]["generation"] = 4
    found["metadata"]["labels"]["stackkit/revision"] = str(number)
    found["status"] = {
        "observedGeneration": 4,
        "replicas": ready,
        "updatedReplicas": ready,
        "availableReplicas": ready,
    }
    return found


def pod(number: int = 3, track: Track = "stable", *, ready: bool = True, going: bool = False) -> KubernetesObject:
    metadata = template(revision(image="iris:1"), track)["metadata"]
    labels = {**metadata["labels"], "stackkit/revision": str(number)}
    found: dict[str, Any] = {"metadata": {"name": f"pod-{number}", "labels": labels}}
    if going:
        found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    found["status"] = {
        "phase": "Running",
        "hostIP": "192.0.2.7",
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
    }
    return found


def service_object(**status: Any) -> KubernetesObject:
    made = with_copy(objects.make_service(revision(image="iris:1")))
    return {**made, "status": status}


def seen(
    *pods: KubernetesObject,
    stable: KubernetesObject | None,
    canary: KubernetesObject | None = None,
    exposed: bool = True,
    trouble: Trouble | None = None,
    state: ServiceState = ServiceState.ACTIVE,
) -> Observation:
    deployments: dict[Track, KubernetesObject] = {}
    if stable is not None:
        deployments["stable"] = stable
    if canary is not None:
        deployments["canary"] = canary
    found = Found(deployments, list(pods), service_object() if exposed else None)
    service = make_service(image="iris:1", state=state, target=Target.ACTIVE)
    return observe(service, found, lambda *_: trouble, URL if exposed else None)


def test_all_pods_ready_is_active() -> None:
    told = seen(pod(), pod(), stable=deployment())
    assert (told.state, told.revision, told.canary) == (ServiceState.ACTIVE, 3, None)
    assert told.prediction_url == f"{URL}/invocations"
    assert told.message == ""


@pytest.mark.parametrize(
    ("trouble", "state"),
    [(CRASHES, ServiceState.ERROR), (SLOW, ServiceState.PENDING_STARTUP), (None, "pending_startup")],
)
def test_no_pod_ready_says_why(trouble: Trouble | None, state: str) -> None:
    told = seen(pod(ready=False), stable=deployment(ready=0), trouble=trouble)
    assert told.state == state
    assert told.message.startswith("0 of 2 pods are ready")
    assert trouble is None or trouble.message in told.message


def test_a_start_is_over_when_all_pods_are_ready_and_a_server_serves_with_some() -> None:
    some = (pod(), pod(ready=False))
    assert seen(*some, stable=deployment(ready=1), state=ServiceState.PENDING_STARTUP).state == "pending_startup"
    told = seen(*some, stable=deployment(ready=1), trouble=SLOW)
    assert told.state is ServiceState.ACTIVE
    assert told.message == "1 of 2 pods is ready: No node takes it."


def test_during_an_update_the_old_revision_serves_until_none_of_it_is_left() -> None:
    rolling = deployment(4, ready=1)
    assert seen(pod(3), pod(4), stable=rolling).revision == 3
    assert seen(pod(3, going=True), pod(4), pod(4), stable=deployment(4)).revision == 4
    unseen = deployment(4)
    unseen["status"]["observedGeneration"] = 3
    assert seen(pod(3), pod(3), stable=unseen).revision == 3, "the status is of the revision before"


def test_an_update_that_will_never_get_there_is_given_up() -> None:
    told = seen(pod(3), pod(4, ready=False), stable=deployment(4, ready=1), trouble=CRASHES)
    assert (told.state, told.revision, told.update_error) == (ServiceState.ACTIVE, 3, CRASHES.message)
    assert seen(pod(3), pod(4, ready=False), stable=deployment(4, ready=1), trouble=SLOW).update_error is None


def test_a_canary_is_told_when_it_answers_and_why_when_it_never_will() -> None:
    beside = deployment(4, "canary", ready=1, wanted=1)
    told = seen(pod(3), pod(4, "canary"), stable=deployment(), canary=beside)
    assert (told.revision, told.canary, told.update_error) == (3, 4, None)
    told = seen(pod(3), pod(4, "canary", ready=False), stable=deployment(), canary=beside, trouble=CRASHES)
    assert (told.revision, told.canary, told.update_error) == (3, None, CRASHES.message)
    assert seen(pod(3), pod(4, "canary", going=True), stable=deployment()).canary is None


def test_what_is_listed_is_sorted_by_service_and_track() -> None:
    by_service = sort([deployment(), deployment(4, "canary")], [pod(), pod(4, "canary")], [service_object()], [])
    assert set(by_service) == {ID}
    found = by_service[ID]
    assert {track: revision_of(each) for track, each in found.deployments.items()} == {"stable": 3, "canary": 4}
    assert [revision_of(each) for each in found.alive("canary")] == [4]
    assert found.service is not None


def test_what_is_stopped_ends_before_it_is_inactive() -> None:
    stopped = deployment(wanted=0, ready=0)
    assert seen(pod(going=True), stable=stopped).state is ServiceState.PENDING_SHUTDOWN
    assert seen(stable=stopped).state is ServiceState.INACTIVE
    gone = seen(stable=None, exposed=False)
    assert (gone.state, gone.message) == (ServiceState.INACTIVE, "It has no Deployment.")
    going = deployment()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert seen(stable=going).state is ServiceState.PENDING_SHUTDOWN
    ended = pod()
    ended["status"]["phase"] = "Failed"
    assert seen(ended, stable=stopped).state is ServiceState.INACTIVE, "what was evicted does not run"


def test_what_is_missing_or_changed_is_an_error_although_pods_are_ready() -> None:
    assert "Its Service is gone" in seen(pod(), stable=deployment(), exposed=False).message
    other = deployment()
    other["spec"]["template"]["spec"]["containers"][0]["image"] = "other:1"
    told = seen(pod(), stable=other)
    assert told.state is ServiceState.ERROR
    assert "containers.server.image of its Deployment" in told.message
    alone = seen(pod(4, "canary"), stable=None, canary=deployment(4, "canary"))
    assert alone.state is ServiceState.ERROR
    beside = seen(pod(4, "canary"), stable=deployment(wanted=0, ready=0), canary=deployment(4, "canary"))
    assert (beside.state, "scaled to nothing" in beside.message) == (ServiceState.ERROR, True)
    ending = deployment(4, "canary")
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    stopped = seen(pod(4, "canary"), stable=deployment(wanted=0, ready=0), canary=ending)
    assert stopped.state is ServiceState.PENDING_SHUTDOWN


def test_what_only_some_have_is_missed_and_looked_at_too() -> None:
    fields = {"image": "iris:1", "ingress": {"host": "iris.example.com"}, "disruption_budget": {"min_available": 1}}
    service = make_service(**fields)
    ingress = with_copy(objects.make_ingress(revision(**fields)))
    budget = with_copy(objects.make_disruption_budget(revision(**fields), "policy/v1"))

    def told(stable: KubernetesObject, *optional: KubernetesObject) -> tuple[ServiceState, str]:
        found = sort([stable], [pod(), pod()], [service_object()], optional)[ID]
        observed = observe(service, found, lambda *_: None, URL)
        return observed.state, observed.message

    assert told(deployment(), ingress, budget) == (ServiceState.ACTIVE, "")
    assert told(deployment(), budget) == (ServiceState.ERROR, "Its Ingress is gone.")
    assert told(deployment(), ingress) == (ServiceState.ERROR, "Its PodDisruptionBudget is gone.")
    assert told(deployment(2), ingress)[0] is ServiceState.ACTIVE, "the next revision alone has one"
    budget["spec"]["minAvailable"] = 2
    _, message = told(deployment(), ingress, budget)
    assert message.startswith("Somebody has changed spec.minAvailable of its PodDisruptionBudget")


# Addresses


def reach(api_server: str = "https://cluster.example.com:6443", base_url: str | None = None) -> Reach:
    return Reach("models", api_server, base_url, is_inside=False)


def exposed(kind: str, **status: Any) -> KubernetesObject:
    ports = [{"port": 80, "nodePort": 30123}]
    return {"metadata": {"name": "stackkit-x"}, "spec": {"type": kind, "ports": ports}, "status": status}


def test_where_a_server_is_reached() -> None:
    ingress = objects.make_ingress(revision(image="iris:1", ingress={"host": "iris.example.com", "tls_secret": "tls"}))
    assert reach().url(exposed("ClusterIP"), ingress, []) == "https://iris.example.com"
    inside = reach().url(exposed("ClusterIP"), None, [])
    assert inside == "http://stackkit-x.models.svc"
    for rules in ([{"host": "*.example.com"}], [{"http": {}}], [], None):  # by a wildcard, a patch, or kubectl edit
        assert reach().url(exposed("ClusterIP"), {**ingress, "spec": {"rules": rules}}, []) == inside
    assert reach().url(exposed("ClusterIP"), {**ingress, "spec": {"defaultBackend": {}}}, []) == inside
    assert not reach().reaches(inside)
    assert reach().reaches("https://iris.example.com")
    given = reach(base_url="https://models.example.com/k8s").url(exposed("ClusterIP"), None, [])
    assert given == "https://models.example.com/k8s/models/stackkit-x"
    balanced = exposed("LoadBalancer", loadBalancer={"ingress": [{"ip": "203.0.113.5"}]})
    assert reach().url(balanced, None, []) == "http://203.0.113.5"
    assert reach().url(exposed("LoadBalancer"), None, []) == "http://stackkit-x.models.svc", "it has none yet"
    assert reach().url(exposed("NodePort"), None, [pod()]) == "http://192.0.2.7:30123"
    assert reach("https://127.0.0.1:6443").url(exposed("NodePort"), None, [pod()]) == "http://127.0.0.1:30123"
    assert (
        reach(base_url="http://nodes.example.com").url(exposed("NodePort"), None, [])
        == "http://nodes.example.com:30123"
    )


def test_only_a_port_of_a_node_on_this_machine_is_asked_before_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be said of a gateway: it may be elsewhere, know no /ping, or need another way to be asked."""
    asked: list[str] = []

    def refuse(url: str) -> Answer:
        asked.append(url)
        return Answer(ready=False, loading=False, message="refused")

    monkeypatch.setattr("stackkit_kubernetes.deployer.answers", refuse)
    service = make_service(image="iris:1", state=ServiceState.PENDING_STARTUP)

    def told(kind: str, base_url: str | None) -> Observation:
        made = service_object()
        made["spec"] = {**made["spec"], "type": kind, "ports": [{**made["spec"]["ports"][0], "nodePort": 30123}]}
        deployer = object.__new__(KubernetesModelDeployer)
        monkeypatch.setattr(KubernetesModelDeployer, "_reach", reach("https://127.0.0.1:6443", base_url))
        return deployer._observe(
            service, Found({"stable": deployment()}, [pod(), pod()], with_copy(made)), lambda _: []
        )

    assert told("ClusterIP", "https://models.example.com").state is ServiceState.ACTIVE
    assert told("ClusterIP", None).state is ServiceState.ACTIVE
    assert asked == []
    waiting = told("NodePort", None)
    assert (waiting.state, asked) == (ServiceState.PENDING_STARTUP, ["http://127.0.0.1:30123"])
    assert "--base_url" in waiting.message


# Parts of the requests


@pytest.mark.parametrize(
    ("stable", "percent", "replicas"), [(4, 20, 1), (1, 50, 1), (8, 20, 2), (3, 20, 1), (10, 90, 90), (2, 33, 1)]
)
def test_a_part_of_the_requests_is_a_number_of_pods(stable: int, percent: int, replicas: int) -> None:
    assert _canary_replicas(stable, percent) == replicas


@pytest.mark.parametrize(("stable", "percent", "told"), [(1, 20, "4 replicas"), (1, 5, "19 replicas"), (2, 10, "33 %")])
def test_a_part_that_pods_cannot_make_is_refused(stable: int, percent: int, told: str) -> None:
    with pytest.raises(NotSupportedError) as raised:
        _canary_replicas(stable, percent)
    assert told in str(raised.value)


# Many services


class ListingCluster:
    """Answers lists, and counts them; anything else is an error."""

    namespace = "models"
    host = "https://cluster.example.com"

    def __init__(self, listed: dict[str, list[KubernetesObject]]) -> None:
        self.listed = listed
        self.calls: list[str] = []

    def find(self, api_version: str, kind: str, labels: dict[str, str]) -> list[KubernetesObject]:
        assert not labels, "one list is for all"
        self.calls.append(kind)
        return self.listed.get(kind, [])


def test_two_hundred_services_are_seen_by_one_list_of_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    services = [make_service(image="iris:1") for _ in range(200)]
    for number, service in enumerate(services):
        service._row["id"] = f"{ID[:-3]}{number:03}"

    def copies(made: KubernetesObject) -> list[KubernetesObject]:
        return [json.loads(json.dumps(made).replace(ID, service.id)) for service in services]

    cluster = ListingCluster(
        {"Deployment": copies(deployment()), "Pod": copies(pod()), "Service": copies(service_object())}
    )
    deployer = object.__new__(KubernetesModelDeployer)
    monkeypatch.setattr(KubernetesModelDeployer, "_cluster", cluster)
    monkeypatch.setattr(KubernetesModelDeployer, "_reach", reach())
    told = deployer.do_check(services)
    assert {each.state for each in told.values()} == {ServiceState.ACTIVE}
    assert len(told) == 200
    assert cluster.calls == ["Deployment", "Pod", "Service"]


def test_what_anybody_writes_as_an_event_does_not_hide_the_services(monkeypatch: pytest.MonkeyPatch) -> None:
    services = [make_service(image="iris:1") for _ in range(2)]
    services[1]._row["id"] = f"{ID[:-1]}1"
    waiting = pod(ready=False)
    waiting["metadata"]["uid"] = "1"
    bare = [{"involvedObject": {}}, {"involvedObject": {"name": "pod-3", "uid": "1"}}]
    cluster = ListingCluster({"Deployment": [deployment(ready=0)], "Pod": [waiting], "Service": [service_object()]})
    deployer = object.__new__(KubernetesModelDeployer)
    monkeypatch.setattr(cluster, "events", lambda: bare, raising=False)
    monkeypatch.setattr(cluster, "log_tail", lambda *_: [], raising=False)
    monkeypatch.setattr(KubernetesModelDeployer, "_cluster", cluster)
    monkeypatch.setattr(KubernetesModelDeployer, "_reach", reach())
    assert deployer.do_check(services)[ID].message == "0 of 2 pods are ready"


def test_a_server_is_adopted_under_the_highest_epoch_of_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    stable, canary = deployment(), deployment(4, "canary")
    for each, epoch in ((stable, 3), (canary, 7)):
        each["metadata"]["annotations"]["stackkit/epoch"] = str(epoch)
        each["metadata"]["annotations"][objects.KEPT] = objects.kept(make_service(image="iris:1"))
    canary["metadata"]["name"] = objects.deployment_name(ID, "canary")
    deployer = object.__new__(KubernetesModelDeployer)
    monkeypatch.setattr(KubernetesModelDeployer, "_cluster", ListingCluster({"Deployment": [stable, canary]}))
    assert [(each.service_id, each.epoch) for each in deployer.do_find()] == [(ID, 7)]


def test_what_the_cluster_itself_makes_other_is_no_change_by_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """An admission webhook that has images come from a mirror, and an API server that writes numbers as text."""
    applied: list[KubernetesObject] = []

    def admit(made: KubernetesObject, *, epoch: int) -> KubernetesObject:
        live: KubernetesObject = json.loads(json.dumps(made))
        server = live["spec"]["template"]["spec"]["containers"][0]
        server["image"] = f"mirror.example.com/{server['image']}"
        applied.append(live)
        return live

    deployer = object.__new__(KubernetesModelDeployer)
    operation: Any = SimpleNamespace(checkpoint=lambda: None, epoch=5)
    monkeypatch.setattr(KubernetesModelDeployer, "_cluster", SimpleNamespace(apply=admit))
    deployer._apply(operation, objects.make_deployment(revision(image="iris:1"), "stable", replicas=2))
    assert changed(applied[-1]) is None
    applied[-1]["spec"]["template"]["spec"]["containers"][0]["image"] = "other:1"
    assert changed(applied[-1]) == "spec.template.spec.containers.server.image"


def test_an_image_that_was_pushed_nowhere_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = {"name": "server", "image": "built:1", "state": {"waiting": {"reason": "ErrImageNeverPull"}}}
    found = pod(ready=False)
    found["metadata"]["uid"] = "1"
    found["spec"] = {"containers": [{"name": "server"}]}
    found["status"]["containerStatuses"] = [waiting]
    deployer = object.__new__(KubernetesModelDeployer)
    monkeypatch.setattr(KubernetesModelDeployer, "_cluster", SimpleNamespace(log_tail=lambda *_: []))
    for is_local in (True, False):
        monkeypatch.setattr(
            KubernetesModelDeployer, "_images", SimpleNamespace(has_local=lambda _, is_local=is_local: is_local)
        )
        trouble = deployer._explain(make_service(model_uri="x"), lambda _: [], deployment(ready=0), [found])
        assert trouble is not None
        assert trouble.is_final
        assert ("image_registry" in trouble.message) is is_local
