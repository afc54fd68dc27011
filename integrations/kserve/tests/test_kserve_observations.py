"""What a status means, for each that KServe's controller writes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from stackkit_kserve.flavor import KServeModelDeployerFlavor
from stackkit_kserve.observations import Found, has_stop_condition, observe
from stackkit_kubernetes.cluster import KubernetesObject, Trouble

from stackkit.model_deployers import Service, ServiceState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
URL = "http://iris.example.com"
READY = [{"type": "PredictorReady", "status": "True"}, {"type": "Ready", "status": "True"}]
WAITING = [
    {"type": "PredictorReady", "status": "False", "message": "Deployment does not have minimum availability."},
    {"type": "Ready", "status": "False"},
]


class Deployer:
    service_config_class = KServeModelDeployerFlavor.service_config_class


def service(revision: int = 1, canary: int | None = None) -> Service:
    row = {
        "id": "u", "service_name": "iris", "revision": revision, "canary_revision": canary, "canary_percent": 20,
        "config": {"model_name": "iris", "image": "i"}, "state": "active", "target": "active",
    }  # fmt: skip
    return Service(row, Deployer())  # type: ignore[arg-type]


def labels(revision: int, content: str) -> dict[str, str]:
    return {"stackkit/service": "u", "stackkit/revision": str(revision), "stackkit/content": content}


def resource(revision: int, content: str, *, age: int = 60, **fields: Any) -> KubernetesObject:
    applied = (NOW - timedelta(seconds=age)).isoformat()
    metadata = {"managedFields": [{"manager": "stackkit", "time": applied}], **fields.pop("metadata", {})}
    return {"metadata": metadata, "spec": {"predictor": {"labels": labels(revision, content)}}, **fields}


def pod(revision: int, content: str, *, ready: bool = True) -> KubernetesObject:
    condition = {"type": "Ready", "status": str(ready)}
    return {"metadata": {"name": "p", "labels": labels(revision, content)}, "status": {"conditions": [condition]}}


def knative(**names: tuple[int, str]) -> list[KubernetesObject]:
    return [{"metadata": {"name": name, "labels": labels(*told)}} for name, told in names.items()]


def traffic(**percents: int) -> dict[str, Any]:
    targets = [{"revisionName": name, "percent": percent} for name, percent in percents.items()]
    return {"predictor": {"latestCreatedRevision": "x", "traffic": targets}}


def look(
    found: KubernetesObject | None,
    pods: Sequence[KubernetesObject] = (),
    revisions: Sequence[KubernetesObject] = (),
    *,
    trouble: Trouble | None = None,
    of: Service | None = None,
) -> Any:
    explain = lambda asked: trouble if asked else None  # noqa: E731
    return observe(of or service(), Found(found, pods, revisions), explain, now=NOW)


def test_without_a_resource_it_is_gone_when_its_pods_are() -> None:
    assert look(None).state is ServiceState.INACTIVE
    assert look(None, [pod(1, "a")]).state is ServiceState.PENDING_SHUTDOWN
    assert look(resource(1, "a", metadata={"deletionTimestamp": "t"})).state is ServiceState.PENDING_SHUTDOWN


def test_a_stopped_one_is_inactive_when_kserve_says_so_and_its_pods_are_gone() -> None:
    stop = {"annotations": {"serving.kserve.io/stop": "true"}}
    stopped = {"conditions": [{"type": "PredictorReady", "status": "False", "reason": "Stopped"}]}
    assert look(resource(1, "a", metadata=stop, status=stopped)).state is ServiceState.INACTIVE
    assert look(resource(1, "a", metadata=stop, status=stopped), [pod(1, "a")]).state is ServiceState.PENDING_SHUTDOWN
    assert look(resource(1, "a", metadata=stop, status={"conditions": READY})).state is ServiceState.PENDING_SHUTDOWN


def test_a_start_waits_in_kserves_words() -> None:
    assert look(resource(1, "a")).message == "KServe has not taken it up yet"
    seen = look(resource(1, "a", status={"conditions": WAITING}), [pod(1, "a", ready=False)])
    assert seen.state is ServiceState.PENDING_STARTUP
    assert seen.message == "PredictorReady is False: Deployment does not have minimum availability."


def test_it_is_active_when_kserve_is_ready_and_a_pod_of_its_own_is() -> None:
    seen = look(resource(1, "a", status={"conditions": READY, "url": URL}), [pod(1, "a")])
    assert (seen.state, seen.revision) == (ServiceState.ACTIVE, 1)
    assert seen.prediction_url == f"{URL}/v2/models/stackkit-u/infer"
    # a status of the revision before is no news of this one
    assert look(resource(1, "a", status={"conditions": READY, "url": URL})).state is ServiceState.PENDING_STARTUP


def test_while_it_rolls_over_the_one_that_goes_is_told() -> None:
    status = {"conditions": WAITING, "url": URL}
    seen = look(resource(2, "b", status=status), [pod(1, "a"), pod(2, "b", ready=False)], of=service(2))
    assert (seen.state, seen.revision, seen.update_error) == (ServiceState.ACTIVE, 1, None)
    both = look(resource(2, "b", status=status), [pod(1, "a"), pod(2, "b")], of=service(2))
    assert (both.revision, both.canary) == (1, None)
    assert look(resource(2, "b", status=status), [pod(2, "b")], of=service(2)).revision == 2


def test_a_transformer_has_to_be_ready_too() -> None:
    found = resource(1, "a", status={"conditions": READY, "url": URL})
    found["spec"]["transformer"] = {}
    assert look(found, [pod(1, "a")]).state is ServiceState.PENDING_STARTUP
    found["status"]["conditions"] = [*READY, {"type": "TransformerReady", "status": "True"}]
    assert look(found, [pod(1, "a")]).state is ServiceState.ACTIVE


def transformer(revision: int, content: str, *, ready: bool = True) -> KubernetesObject:
    found = pod(revision, content, ready=ready)
    found["metadata"]["labels"]["component"] = "transformer"
    return found


def test_a_transformer_that_cannot_come_up_is_told() -> None:
    """Its Deployment is available, and KServe calls it ready, as long as the pods of the revision before are."""
    crashes = Trouble("The container ends at once.", is_final=True)
    status = {"conditions": [*READY, {"type": "TransformerReady", "status": "True"}], "url": URL}
    found = resource(2, "b", status=status)
    found["spec"]["transformer"] = {}
    up = [pod(2, "b"), transformer(1, "a")]
    seen = look(found, [*up, transformer(2, "b", ready=False)], trouble=crashes, of=service(2))
    assert (seen.state, seen.revision, seen.update_error) == (ServiceState.ACTIVE, 1, crashes.message)
    assert look(found, [*up, transformer(2, "b", ready=False)], of=service(2)).update_error is None
    assert look(found, [*up, transformer(2, "b")], of=service(2)).revision == 1
    done = look(found, [pod(2, "b"), transformer(2, "b")], of=service(2))
    assert (done.state, done.revision, done.message) == (ServiceState.ACTIVE, 2, "")
    found["status"] = {"conditions": WAITING}
    new = look(found, [pod(2, "b"), transformer(2, "b", ready=False)], trouble=crashes, of=service(2))
    assert (new.state, new.message) == (ServiceState.ERROR, crashes.message)


def test_a_revision_that_cannot_come_up_is_told_and_the_old_one_serves() -> None:
    trouble = Trouble("The image cannot be pulled.", is_final=True)
    found = resource(2, "b", status={"conditions": WAITING, "url": URL})
    seen = look(found, [pod(1, "a"), pod(2, "b", ready=False)], trouble=trouble, of=service(2))
    assert (seen.state, seen.revision) == (ServiceState.ACTIVE, 1)
    assert seen.update_error == "The image cannot be pulled."
    alone = look(found, [pod(2, "b", ready=False)], trouble=trouble, of=service(2))
    assert (alone.state, alone.message) == (ServiceState.ERROR, "The image cannot be pulled.")
    passing = look(found, [pod(2, "b", ready=False)], trouble=Trouble("No node.", is_final=False), of=service(2))
    assert (passing.state, passing.message) == (ServiceState.PENDING_STARTUP, "No node.")


@pytest.mark.parametrize(("age", "state"), [(2, ServiceState.PENDING_STARTUP), (60, ServiceState.ERROR)])
def test_a_refusal_is_believed_once_kserve_has_had_the_time_to_look(age: int, state: ServiceState) -> None:
    model = {"transitionStatus": "InvalidSpec", "lastFailureInfo": {"reason": "NoSupportingRuntime"}}
    seen = look(resource(1, "a", age=age, status={"conditions": WAITING, "modelStatus": model}))
    assert seen.state is state
    if state is ServiceState.ERROR:
        assert seen.message == "KServe refuses it: NoSupportingRuntime"


def test_knatives_route_tells_who_answers_how_much() -> None:
    revisions = knative(r1=(1, "a"), r2=(2, "b"))
    status = {"conditions": READY, "url": URL, "components": traffic(r1=80, r2=20)}
    pods = [pod(1, "a"), pod(2, "b")]
    split = look(resource(2, "b", status=status), pods, revisions, of=service(1, canary=2))
    assert (split.state, split.message, split.revision, split.canary) == (ServiceState.ACTIVE, "", 1, 2)
    # more than half of the requests make no canary the stable one
    most = {**status, "components": traffic(r1=20, r2=80)}
    assert look(resource(2, "b", status=most), pods, revisions, of=service(1, canary=2)).revision == 1
    promoted = {**status, "components": traffic(r2=100)}
    seen = look(resource(2, "b", status=promoted), pods, revisions, of=service(1, canary=2))
    assert (seen.revision, seen.canary) == (2, None)
    aborted = {**status, "components": traffic(r1=100, r3=0)}
    seen = look(resource(1, "a", status=aborted), pods, [*revisions, *knative(r3=(1, "a"))], of=service(1, canary=2))
    assert (seen.revision, seen.canary) == (1, None)


def test_without_pods_a_serverless_one_sleeps() -> None:
    status = {"conditions": READY, "url": URL, "deploymentMode": "Knative", "components": traffic(r1=100)}
    seen = look(resource(1, "a", status=status), (), knative(r1=(1, "a")))
    assert (seen.state, seen.revision) == (ServiceState.SCALED_TO_ZERO, 1)
    assert seen.prediction_url
    evicted = pod(1, "a", ready=False)
    evicted["status"]["phase"] = "Failed"  # it stays until somebody removes it
    assert look(resource(1, "a", status=status), [evicted], knative(r1=(1, "a"))).state is ServiceState.SCALED_TO_ZERO


def test_whether_kserve_can_stop_one_is_seen_in_its_status() -> None:
    assert not has_stop_condition(resource(1, "a", status={"conditions": READY}))
    told = [*READY, {"type": "Stopped", "status": "False"}]
    assert has_stop_condition(resource(1, "a", status={"conditions": told}))
