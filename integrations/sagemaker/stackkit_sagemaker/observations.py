"""What SageMaker's description of an endpoint means: pure functions, so that every combination can be tested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stackkit.model_deployers import Observation, Service, ServiceState

from .config import CANARY

UNKNOWN_REVISION = 0
"""What serves is of no revision that the row knows: an update that had been given up was finished after all."""

_STATES = {
    "Creating": ServiceState.PENDING_STARTUP,
    "Deleting": ServiceState.PENDING_SHUTDOWN,
    "Failed": ServiceState.ERROR,
    "OutOfService": ServiceState.ERROR,
    "UpdateRollbackFailed": ServiceState.ERROR,  # it serves a mix of two revisions
}
"""An endpoint in any other status answers requests."""

CHANGING = ("Updating", "RollingBack")
"""An endpoint in these statuses is on its way, or on its way back; SageMaker takes no other change meanwhile."""

_SAID = {
    "Creating": "SageMaker is creating the endpoint",
    "Deleting": "SageMaker is deleting the endpoint",
    "Updating": "SageMaker is updating the endpoint",
    "SystemUpdating": "SageMaker is maintaining the endpoint",
    "RollingBack": "SageMaker is rolling the endpoint back",
    "Failed": "The endpoint has failed",
    "OutOfService": "The endpoint is out of service",
    "UpdateRollbackFailed": "The endpoint serves a mix of two revisions, since its update and the way back failed",
}


def observe(service: Service, found: Mapping[str, Any], prediction_url: str) -> Observation:
    """What ``found``, the answer of DescribeEndpoint, says of the service."""
    status = str(found["EndpointStatus"])
    state = _STATES.get(status, ServiceState.ACTIVE)
    said = _SAID.get(status, "")
    reason = str(found.get("FailureReason") or "")
    serves = state is ServiceState.ACTIVE
    if serves and (variants := found.get("ProductionVariants")) and all(map(_sleeps, variants)):
        state = ServiceState.SCALED_TO_ZERO
    return Observation(
        state,
        f"{said}: {reason}" if reason and state is ServiceState.ERROR else _joined(said, _of_share(service, found)),
        prediction_url=prediction_url if serves else None,
        details={"endpoint": _summary(found, status)},
        revision=_serving_revision(service, found, status),
        update_error=_update_error(service, found, status, reason),
        canary=_canary(service, found, status),
    )


def revision_of(service: Service, config_name: str | None) -> int:
    """The revision whose endpoint configuration is called so; UNKNOWN_REVISION when it is none that is known.

    Of a configuration that a canary shares it is the stable revision.
    """
    details = service.status.details
    if (split := details.get("splits", {}).get(config_name or "")) is not None:
        return int(split["stable"])
    known = {name: int(number) for number, name in details.get("configs", {}).items()}
    return known.get(config_name or "", UNKNOWN_REVISION)


def split_on_its_way(service: Service, found: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is known of the configuration, shared by a canary, that SageMaker is changing the endpoint to."""
    if found["EndpointStatus"] not in CHANGING:
        return None
    # a change of weights has no configuration of its own
    pending = (found.get("PendingDeploymentSummary") or found).get("EndpointConfigName")
    split: dict[str, Any] | None = service.status.details.get("splits", {}).get(pending)
    return split


def _canary(service: Service, found: Mapping[str, Any], status: str) -> int | None:
    """The revision that shares the endpoint with the stable one, once it answers."""
    split = service.status.details.get("splits", {}).get(found.get("EndpointConfigName"))
    return int(split["canary"]) if split is not None and status not in CHANGING else None


def _of_share(service: Service, found: Mapping[str, Any]) -> str:
    """That a canary has another share than was asked for, which SageMaker takes only once it answers; else nothing."""
    variants, wanted = found.get("ProductionVariants") or (), service.canary
    if wanted is None or not 0 < wanted.percent < 100:
        return ""
    coming = split_on_its_way(service, found)
    if coming is not None and found.get("PendingDeploymentSummary"):
        share = coming.get("percent", wanted.percent)
        told = f"the canary will answer {share} % of the requests, and not {wanted.percent} %"
        return f"{told}: ask for its share again then." if share != wanted.percent else ""
    weights = [(each["VariantName"].startswith(CANARY), each.get("DesiredWeight") or 0.0) for each in variants]
    total, of_canary = sum(weight for _, weight in weights), sum(weight for is_its, weight in weights if is_its)
    if not of_canary:
        return ""
    share = 100 * of_canary / total
    if abs(share - wanted.percent) < 1:
        return ""
    return f"The canary answers {share:.0f} % of the requests, and not {wanted.percent} %: ask for its share again."


def _joined(*texts: str) -> str:
    return ", ".join(filter(None, texts))


def _serving_revision(service: Service, found: Mapping[str, Any], status: str) -> int | None:
    number = revision_of(service, found.get("EndpointConfigName"))
    asked = service.status.details.get("update") or {}
    begins = asked.get("since") == changed_at(found) and "refused" not in asked
    if number == asked.get("revision") and (status in CHANGING or begins):
        return None  # it is on its way there, and an alarm may still take it back
    return number


def _update_error(service: Service, found: Mapping[str, Any], status: str, reason: str) -> str | None:
    """Why SageMaker has given up what the service was asked to go over to; None while it has not, or nothing was asked.

    An answer from before it was asked for tells nothing about it: it bears the time of the last change then.
    """
    asked = service.status.details.get("update") or {}
    canary = service.canary
    if asked.get("revision") not in (service.revision, None if canary is None else canary.revision):
        return None
    if (refused := asked.get("refused")) is not None:
        return str(refused)
    if status not in ("InService", "Failed", "UpdateRollbackFailed") or asked.get("since") == changed_at(found):
        return None
    if found.get("EndpointConfigName") == asked.get("config") and status == "InService":
        return None
    return reason or "SageMaker took it back and does not say why; an alarm of the rollout may have gone off"


def changed_at(found: Mapping[str, Any]) -> str:
    """When the endpoint was last changed, as text."""
    return str(found.get("LastModifiedTime"))


def _sleeps(variant: Mapping[str, Any]) -> bool:
    return variant.get("CurrentInstanceCount") == 0 and "CurrentServerlessConfig" not in variant


def _summary(found: Mapping[str, Any], status: str) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "arn": found.get("EndpointArn"),
        "status": status,
        "config": found.get("EndpointConfigName"),
        "variants": {
            variant["VariantName"]: {
                "instances": variant.get("CurrentInstanceCount"),
                "desired_instances": variant.get("DesiredInstanceCount"),
                "weight": variant.get("CurrentWeight"),
                "desired_weight": variant.get("DesiredWeight"),
            }
            for variant in found.get("ProductionVariants", [])
        },
    }
    if pending := found.get("PendingDeploymentSummary"):
        summary["rollout"] = {
            "config": pending.get("EndpointConfigName"),
            "stages": {
                variant["VariantName"]: [
                    f"{stage.get('Status')}: {stage.get('StatusMessage') or ''}".removesuffix(": ")
                    for stage in variant.get("VariantStatus", [])
                ]
                for variant in pending.get("ProductionVariants", [])
            },
        }
    return summary
