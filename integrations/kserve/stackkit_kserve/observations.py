"""What an InferenceService's status, its pods and Knative's revisions say of a service: pure functions of these.

The fields of the status, and what KServe's controller puts there:
https://github.com/kserve/kserve/blob/master/pkg/apis/serving/v1beta1/inference_service_status.go
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from stackkit_kubernetes.cluster import REVISION, KubernetesObject, Trouble
from stackkit_kubernetes.cluster.cluster import has_ended, is_ready
from stackkit_kubernetes.custom_resources import CONTENT_LABEL

from stackkit.model_deployers import Observation, Service, ServiceState
from stackkit.model_deployers.open_inference import path

from .config import KServeServiceConfig
from .inference_service import COMPONENT, STOP, labels_of_spec, name_of

_SETTLED = timedelta(seconds=10)
"""How old a spec has to be until the status is believed to be of it: it has no generation of its own."""

_KNATIVE_MODES = ("Serverless", "Knative")

Explain = Callable[[Sequence[KubernetesObject]], Trouble | None]
"""Tells what is wrong with some pods."""


@dataclass(frozen=True)
class Found:
    """What there is of one service. ``knative_revisions`` may be of others too."""

    inference_service: KubernetesObject | None
    pods: Sequence[KubernetesObject]
    knative_revisions: Sequence[KubernetesObject]


@dataclass(frozen=True)
class _Share:
    """The part of the requests, in percent, that the pods of one content answer."""

    revision: int
    content: str
    percent: int


def is_serverless(status: Mapping[str, Any]) -> bool:
    """Whether KServe has Knative see to it, as its status tells."""
    predictor = (status.get("components") or {}).get("predictor") or {}
    return status.get("deploymentMode") in _KNATIVE_MODES or "latestCreatedRevision" in predictor


def has_stop_condition(inference_service: KubernetesObject) -> bool:
    """Whether KServe's controller knows the annotation that stops an InferenceService: it tells of it in the status."""
    return bool(_condition(inference_service.get("status") or {}, "Stopped"))


def observe(service: Service, found: Found, explain: Explain, *, now: datetime | None = None) -> Observation:
    """How the service is. ``explain`` is asked only when something keeps a revision from answering."""
    inference_service = found.inference_service
    if inference_service is None or _is_going(inference_service):
        return _ending(found)
    status = inference_service.get("status") or {}
    if _annotations(inference_service).get(STOP) == "true":
        return _stopped(status, found)
    shares = _shares(status, found)
    wanted = labels_of_spec(inference_service)
    content = wanted.get(CONTENT_LABEL)
    has_transformer = "transformer" in inference_service["spec"]
    transforming = _shares_of_pods(found.pods, "transformer") if has_transformer else shares
    is_up = all(any(share.content == content for share in each) for each in (shares, transforming))
    failed = None if is_up else _failure(inference_service, found, explain, now or datetime.now(UTC))
    main = _main(service, shares) if is_serverless(status) else _rolling(content, shares, transforming)
    if main is None:
        if failed is not None:
            return Observation(ServiceState.ERROR, failed)
        return Observation(ServiceState.PENDING_STARTUP, _waiting_for(status, found, explain))
    others = [share.revision for share in shares if share is not main] if is_serverless(status) else []
    # KServe gives it a URL when all of it is ready for the first time
    url = status.get("url")
    if url is None or (has_transformer and not _holds(status, "TransformerReady")):
        if failed is not None:
            return Observation(ServiceState.ERROR, failed, revision=main.revision)
        return Observation(ServiceState.PENDING_STARTUP, _waiting_for(status, found, explain), revision=main.revision)
    asleep = is_serverless(status) and all(map(has_ended, found.pods))
    return Observation(
        ServiceState.SCALED_TO_ZERO if asleep else ServiceState.ACTIVE,
        "The next request starts it." if asleep else "" if is_up else _waiting_for(status, found, explain),
        prediction_url=f"{url.rstrip('/')}{_path(service)}",
        revision=main.revision,
        canary=others[0] if others else None,
        update_error=failed if wanted.get(REVISION) in _asked_for(service) else None,
    )


def _ending(found: Found) -> Observation:
    if found.inference_service is not None or found.pods:
        return Observation(ServiceState.PENDING_SHUTDOWN, "its pods finish the requests that they have begun")
    return Observation(ServiceState.INACTIVE, "It has no InferenceService.")


def _stopped(status: Mapping[str, Any], found: Found) -> Observation:
    predictor = _condition(status, "PredictorReady")
    has_stopped = _holds(status, "Stopped") or predictor.get("reason") == "Stopped"
    if has_stopped and not found.pods:
        return Observation(ServiceState.INACTIVE, "It was stopped.")
    return Observation(ServiceState.PENDING_SHUTDOWN, "its pods finish the requests that they have begun")


def _shares(status: Mapping[str, Any], found: Found) -> list[_Share]:
    """Who answers which part of the requests, the larger parts first: by Knative's route, else by the pods' number."""
    if not is_serverless(status):
        return _shares_of_pods(found.pods, "predictor")
    labels = {each["metadata"]["name"]: each["metadata"].get("labels") or {} for each in found.knative_revisions}
    percents: dict[tuple[int, str], int] = {}
    for target in status.get("components", {}).get("predictor", {}).get("traffic") or ():
        key = _key(labels.get(target.get("revisionName"), {}))
        if key is not None and target.get("percent"):
            percents[key] = percents.get(key, 0) + target["percent"]
    return _sorted(percents)


def _shares_of_pods(pods: Sequence[KubernetesObject], component: str) -> list[_Share]:
    counts: dict[tuple[int, str], int] = {}
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        key = _key(labels) if labels.get(COMPONENT, "predictor") == component else None
        if key is not None and is_ready(pod):
            counts[key] = counts.get(key, 0) + 1
    total = sum(counts.values())
    return _sorted({key: max(1, 100 * count // total) for key, count in counts.items()})


def _sorted(percents: Mapping[tuple[int, str], int]) -> list[_Share]:
    shares = [_Share(revision, content, percent) for (revision, content), percent in percents.items()]
    return sorted(shares, key=lambda share: share.percent, reverse=True)


def _main(service: Service, shares: Sequence[_Share]) -> _Share | None:
    """The stable revision as long as it answers anything; else what answers most."""
    return next((share for share in shares if share.revision == service.revision), next(iter(shares), None))


def _rolling(content: str | None, shares: Sequence[_Share], transforming: Sequence[_Share]) -> _Share | None:
    """What Deployments that roll over go from, as long as anything of that answers; else what they have gone to."""
    left = (share for share in (*shares, *transforming) if share.content != content)
    return next(left, next(iter(shares), None)) if shares else None


def _failure(inference_service: KubernetesObject, found: Found, explain: Explain, now: datetime) -> str | None:
    """Why the revision that was asked for, and is not up, will not come up; None while it may."""
    wanted = labels_of_spec(inference_service).get(CONTENT_LABEL)
    pods = [pod for pod in found.pods if (pod["metadata"].get("labels") or {}).get(CONTENT_LABEL) == wanted]
    trouble = explain(pods) if pods else None
    if trouble is not None and trouble.is_final:
        return trouble.message
    model = (inference_service.get("status") or {}).get("modelStatus") or {}
    has_settled = now - _applied(inference_service) > _SETTLED
    if has_settled and model.get("transitionStatus") == "InvalidSpec":
        said = model.get("lastFailureInfo") or {}
        return f"KServe refuses it: {said.get('message') or said.get('reason') or 'its spec is not valid'}"
    return None


def _waiting_for(status: Mapping[str, Any], found: Found, explain: Explain) -> str:
    """What a start or an update still waits for, in one line."""
    trouble = explain([pod for pod in found.pods if not is_ready(pod)])
    if trouble is not None:
        return trouble.message
    for name in ("PredictorReady", "TransformerReady", "IngressReady", "Ready"):
        condition = _condition(status, name)
        if condition and condition["status"] != "True":
            said = " ".join(str(condition.get("message") or condition.get("reason") or "").split())
            return f"{name} is {condition['status']}" + (f": {said}" if said else "")
    return "KServe has not taken it up yet" if not status else "it is about to answer"


def _asked_for(service: Service) -> tuple[str, ...]:
    """The numbers of the revisions that the row asks for."""
    return (str(service.revision), *((str(service.canary.revision),) if service.canary is not None else ()))


def _path(service: Service) -> str:
    config = service.config
    protocol = config.protocol if isinstance(config, KServeServiceConfig) else "v2"
    return path(protocol, name_of(service.id))


def _key(labels: Mapping[str, str]) -> tuple[int, str] | None:
    revision = labels.get(REVISION, "")
    return (int(revision), labels.get(CONTENT_LABEL, "")) if revision.isdecimal() else None


def _condition(status: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return next((each for each in status.get("conditions") or () if each["type"] == name), {})


def _holds(status: Mapping[str, Any], name: str) -> bool:
    return _condition(status, name).get("status") == "True"


def _annotations(found: KubernetesObject) -> Mapping[str, str]:
    return found["metadata"].get("annotations") or {}


def _is_going(found: KubernetesObject) -> bool:
    return found["metadata"].get("deletionTimestamp") is not None


def _applied(inference_service: KubernetesObject) -> datetime:
    """When the spec was last written, by the API server's clock; long ago when nobody can tell."""
    times = [
        datetime.fromisoformat(entry["time"])
        for entry in inference_service["metadata"].get("managedFields") or ()
        if entry.get("manager") == "stackkit" and entry.get("time")
    ]
    return max(times, default=datetime.min.replace(tzinfo=UTC))
