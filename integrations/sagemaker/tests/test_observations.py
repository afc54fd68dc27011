"""What each status of an endpoint means."""

from __future__ import annotations

from typing import Any

import pytest
from stackkit_sagemaker.observations import UNKNOWN_REVISION, observe

from stackkit.model_deployers import Observation, Service, ServiceState

CONFIGS = {"1": "e-r1-1", "2": "e-r2-4"}


def look(
    status: str,
    *,
    serves: str = "e-r1-1",
    revision: int = 1,
    update: Any = None,
    canary: int | None = None,
    **found: Any,
) -> Observation:
    row = {
        "id": "id",
        "revision": revision,
        "state": "active",
        "state_since": None,
        "target": "active",
        "message": "",
        "prediction_url": None,
        "unknown_since": None,
        "details": {"configs": CONFIGS, "update": update, "splits": {"e-c2-5": {"stable": 1, "canary": 2}}},
        "canary_revision": canary,
        "canary_percent": 10,
    }
    answer = {"EndpointStatus": status, "EndpointConfigName": serves, "LastModifiedTime": "later", **found}
    return observe(Service(row, None), answer, "https://runtime/invocations")


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("Creating", ServiceState.PENDING_STARTUP),
        ("InService", ServiceState.ACTIVE),
        ("Updating", ServiceState.ACTIVE),
        ("SystemUpdating", ServiceState.ACTIVE),
        ("RollingBack", ServiceState.ACTIVE),
        ("Deleting", ServiceState.PENDING_SHUTDOWN),
        ("Failed", ServiceState.ERROR),
        ("OutOfService", ServiceState.ERROR),
        ("UpdateRollbackFailed", ServiceState.ERROR),
    ],
)
def test_states(status: str, state: ServiceState) -> None:
    seen = look(status)
    assert (seen.state, seen.revision) == (state, 1)
    assert (seen.prediction_url is not None) is (state is ServiceState.ACTIVE)
    assert seen.message or status == "InService"


def test_the_reason_of_a_failure_is_told_in_full() -> None:
    assert "x" * 900 in look("Failed", FailureReason="x" * 900).message


def test_no_instances_is_scaled_to_zero() -> None:
    asleep = {"VariantName": "v", "CurrentInstanceCount": 0, "DesiredInstanceCount": 0}
    assert look("InService", ProductionVariants=[asleep]).state is ServiceState.SCALED_TO_ZERO
    serverless = {"VariantName": "v", "CurrentServerlessConfig": {}}
    assert look("InService", ProductionVariants=[serverless]).state is ServiceState.ACTIVE


def test_a_configuration_that_no_row_knows_is_no_revision() -> None:
    assert look("InService", serves="e-r2-3", revision=2).revision == UNKNOWN_REVISION


UPDATE = {"revision": 2, "config": "e-r2-4", "since": "earlier"}


def test_an_update_on_its_way() -> None:
    pending = {
        "EndpointConfigName": "e-r2-4",
        "ProductionVariants": [
            {"VariantName": "v", "VariantStatus": [{"Status": "Baking", "StatusMessage": "2 of 3"}]}
        ],
    }
    seen = look("Updating", revision=2, update=UPDATE, PendingDeploymentSummary=pending)
    assert (seen.state, seen.revision, seen.update_error) == (ServiceState.ACTIVE, 1, None)
    assert seen.details["endpoint"]["rollout"]["stages"] == {"v": ["Baking: 2 of 3"]}


def test_an_update_has_arrived_when_it_can_no_longer_be_taken_back() -> None:
    assert look("Updating", serves="e-r2-4", revision=2, update=UPDATE).revision is None
    assert look("InService", serves="e-r2-4", revision=2, update=UPDATE).revision == 2


@pytest.mark.parametrize("status", ["InService", "Failed", "UpdateRollbackFailed"])
def test_an_update_that_was_given_up(status: str) -> None:
    assert look(status, revision=2, update=UPDATE, FailureReason="no ping").update_error == "no ping"
    assert look(status, revision=2, update=UPDATE).update_error


def test_an_answer_from_before_the_update_tells_nothing_about_it() -> None:
    before = {**UPDATE, "since": "later"}
    assert look("InService", revision=2, update=before, FailureReason="of old").update_error is None


def test_an_update_that_was_taken_back_is_none_of_the_old_revision() -> None:
    assert look("InService", revision=1, update=UPDATE, FailureReason="no ping").update_error is None


SPLIT = {"revision": 2, "config": "e-c2-5", "since": "earlier"}


def shared(percent: float) -> list[dict[str, Any]]:
    return [
        {"VariantName": "AllTraffic", "DesiredWeight": 100 - percent, "CurrentInstanceCount": 1},
        {"VariantName": "Canary-AllTraffic", "DesiredWeight": percent, "CurrentInstanceCount": 1},
    ]


def test_a_canary_on_its_way() -> None:
    pending = {"EndpointConfigName": "e-c2-5", "ProductionVariants": []}
    seen = look("Updating", update=SPLIT, canary=2, PendingDeploymentSummary=pending)
    assert (seen.state, seen.revision, seen.canary, seen.update_error) == (ServiceState.ACTIVE, 1, None, None)


def test_a_canary_that_answers() -> None:
    seen = look("InService", serves="e-c2-5", update=SPLIT, canary=2, ProductionVariants=shared(10))
    assert (seen.revision, seen.canary, seen.update_error, seen.message) == (1, 2, None, "")


def test_a_canary_that_was_given_up() -> None:
    seen = look("InService", update=SPLIT, canary=2, FailureReason="no ping")
    assert (seen.revision, seen.canary, seen.update_error) == (1, None, "no ping")


def test_a_canary_with_another_share_than_was_asked_for() -> None:
    seen = look("InService", serves="e-c2-5", update=SPLIT, canary=2, ProductionVariants=shared(50))
    assert "answers 50 % of the requests, and not 10 %" in seen.message


def test_an_abort_has_arrived_when_the_old_configuration_serves() -> None:
    abort = {"revision": 1, "config": "e-r1-1", "since": "earlier"}
    before = look("InService", serves="e-c2-5", update={**abort, "since": "later"}, canary=2)
    assert (before.revision, before.canary) == (None, 2)
    assert look("Updating", serves="e-c2-5", update=abort, canary=2).revision is None
    after = look("InService", update=abort, canary=2)
    assert (after.revision, after.canary, after.update_error) == (1, None, None)
