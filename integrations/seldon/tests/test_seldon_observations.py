"""What a status means, for each that Seldon Core's controller writes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from stackkit_kubernetes.cluster import KubernetesObject, Trouble
from stackkit_seldon.observations import observe

from stackkit.model_deployers import Service, ServiceState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ADDRESS = "http://stackkit-u-default.models.svc.cluster.local:8000/v2/models/model/infer"
AVAILABLE = {"state": "Available", "address": {"url": ADDRESS}}
CREATING = {"state": "Creating", "address": {"url": ADDRESS}}


def service(revision: int = 1, canary: int | None = None, state: str = "active") -> Service:
    row = {
        "id": "u", "service_name": "iris", "revision": revision, "canary_revision": canary, "canary_percent": 20,
        "state": state, "target": "active", "unknown_since": None, "state_since": NOW, "message": "",
        "prediction_url": None, "details": {},
    }  # fmt: skip
    return Service(row, None)


def labels(name: str, revision: int, content: str) -> dict[str, str]:
    return {"version": name, "stackkit/revision": str(revision), "stackkit/content": content}


def resource(
    default: tuple[int, str], canary: tuple[int, str] | None = None, *, age: int = 60, **fields: Any
) -> KubernetesObject:
    predictors = [{"name": "default", "labels": labels("default", *default)}]
    if canary is not None:
        predictors.append({"name": "canary", "labels": labels("canary", *canary)})
    applied = (NOW - timedelta(seconds=age)).isoformat()
    metadata = {"managedFields": [{"manager": "stackkit", "time": applied}], **fields.pop("metadata", {})}
    return {"metadata": metadata, "spec": {"predictors": predictors}, **fields}


def pod(name: str, revision: int, content: str, *, ready: bool = True) -> KubernetesObject:
    condition = {"type": "Ready", "status": str(ready)}
    return {"metadata": {"name": "p", "labels": labels(name, revision, content)}, "status": {"conditions": [condition]}}


def look(
    found: KubernetesObject | None,
    pods: Sequence[KubernetesObject] = (),
    *,
    trouble: Trouble | None = None,
    of: Service | None = None,
) -> Any:
    explain = lambda asked: trouble if asked else None  # noqa: E731
    return observe(of or service(), found, pods, explain, lambda address: address, now=NOW)


def test_without_a_resource_it_is_gone_when_its_pods_are() -> None:
    one = pod("default", 1, "a")
    assert look(None).state is ServiceState.INACTIVE
    assert look(None, [one]).state is ServiceState.PENDING_SHUTDOWN
    going = resource((1, "a"), metadata={"deletionTimestamp": "t"}, status=AVAILABLE)
    assert look(going, [one]).state is ServiceState.PENDING_SHUTDOWN


def test_a_start_waits_until_seldon_has_made_its_routes() -> None:
    new = service(state="pending_startup")
    assert look(resource((1, "a")), of=new).message == "Seldon has not taken it up yet"
    up = [pod("default", 1, "a")]
    assert look(resource((1, "a"), status=CREATING), up, of=new).state is ServiceState.PENDING_STARTUP
    seen = look(resource((1, "a"), status=AVAILABLE), up, of=new)
    assert (seen.state, seen.revision, seen.prediction_url) == (ServiceState.ACTIVE, 1, ADDRESS)


def test_while_it_rolls_over_the_one_that_goes_is_told() -> None:
    pods = [pod("default", 1, "a"), pod("default", 2, "b", ready=False)]
    seen = look(resource((2, "b"), status=CREATING), pods, of=service(2))
    assert (seen.state, seen.revision, seen.update_error) == (ServiceState.ACTIVE, 1, None)
    both = look(resource((2, "b"), status=CREATING), [pod("default", 1, "a"), pod("default", 2, "b")], of=service(2))
    assert both.revision == 1
    assert look(resource((2, "b"), status=AVAILABLE), [pod("default", 2, "b")], of=service(2)).revision == 2


def test_a_revision_that_cannot_come_up_is_told_and_the_old_one_serves() -> None:
    trouble = Trouble("The image cannot be pulled.", is_final=True)
    pods = [pod("default", 1, "a"), pod("default", 2, "b", ready=False)]
    seen = look(resource((2, "b"), status=CREATING), pods, trouble=trouble, of=service(2))
    assert (seen.state, seen.revision, seen.update_error) == (ServiceState.ACTIVE, 1, "The image cannot be pulled.")
    alone = look(resource((2, "b"), status=CREATING), pods[1:], trouble=trouble, of=service(2))
    assert (alone.state, alone.message) == (ServiceState.ERROR, "The image cannot be pulled.")


@pytest.mark.parametrize(("age", "state"), [(2, ServiceState.PENDING_STARTUP), (60, ServiceState.ERROR)])
def test_a_failure_is_believed_once_seldon_has_had_the_time_to_look(age: int, state: ServiceState) -> None:
    failed = {"state": "Failed", "description": "Traffic must sum to 100"}
    seen = look(resource((1, "a"), age=age, status=failed), of=service(state="pending_startup"))
    assert seen.state is state
    if state is ServiceState.ERROR:
        assert seen.message == "Seldon has given it up: Traffic must sum to 100"


def test_a_canary_is_told_once_all_of_it_is_up_and_until_its_pods_are_gone() -> None:
    stable, beside = pod("default", 1, "a"), pod("canary", 2, "b")
    asked = service(1, canary=2)
    starting = look(resource((1, "a"), (2, "b"), status=CREATING), [stable], of=asked)
    assert (starting.state, starting.revision, starting.canary) == (ServiceState.ACTIVE, 1, None)
    split = look(resource((1, "a"), (2, "b"), status=AVAILABLE), [stable, beside], of=asked)
    assert (split.revision, split.canary) == (1, 2)
    aborting = look(resource((1, "a"), status=CREATING), [stable, beside], of=asked)
    assert (aborting.revision, aborting.canary) == (1, 2)
    aborted = look(resource((1, "a"), status=AVAILABLE), [stable], of=asked)
    assert (aborted.revision, aborted.canary) == (1, None)
    promoting = look(resource((2, "b"), status=CREATING), [stable, beside], of=asked)
    assert (promoting.revision, promoting.canary) == (1, 2)
    promoted = look(resource((2, "b"), status=AVAILABLE), [pod("default", 2, "b")], of=asked)
    assert (promoted.revision, promoted.canary) == (2, None)


def test_a_canary_that_cannot_come_up_is_told_and_the_stable_one_serves() -> None:
    trouble = Trouble("It ended with exit code 1.", is_final=True)
    pods = [pod("default", 1, "a"), pod("canary", 2, "b", ready=False)]
    seen = look(resource((1, "a"), (2, "b"), status=CREATING), pods, trouble=trouble, of=service(1, canary=2))
    assert (seen.state, seen.revision, seen.canary) == (ServiceState.ACTIVE, 1, None)
    assert seen.update_error == "It ended with exit code 1."


def test_what_keeps_an_aborted_canary_from_being_ready_matters_no_more() -> None:
    trouble = Trouble("It ended with exit code 1.", is_final=True)
    pods = [pod("default", 1, "a"), pod("canary", 2, "b", ready=False)]
    seen = look(resource((1, "a"), status=CREATING), pods, trouble=trouble)
    assert (seen.state, seen.message, seen.update_error) == (ServiceState.ACTIVE, "it is creating", None)


def test_a_resource_that_somebody_has_rewritten_is_told_as_that() -> None:
    found = {"metadata": {}, "spec": {"predictors": [{"name": "other"}]}, "status": AVAILABLE}
    seen = look(found)
    assert seen.state is ServiceState.ERROR
    assert "no predictor 'default'" in seen.message
