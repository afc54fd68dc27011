"""What a SeldonDeployment's status and its pods say of a service: pure functions of these.

The fields of the status, and what Seldon's controller puts there:
https://github.com/SeldonIO/seldon-core/blob/v1.18.2/operator/apis/machinelearning.seldon.io/v1/seldon_deployment_status.go
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from stackkit_kubernetes.cluster import REVISION, KubernetesObject, Trouble
from stackkit_kubernetes.cluster.cluster import is_ready
from stackkit_kubernetes.custom_resources import CONTENT_LABEL

from stackkit.model_deployers import Observation, Service, ServiceState
from stackkit.model_deployers.open_inference import path

from .seldon_deployment import CANARY, GRAPH, PREDICTOR, STABLE, predictor_of

_SETTLED = timedelta(seconds=10)
"""How old a spec has to be until the status is believed to be of it: it has no generation of its own."""

Explain = Callable[[Sequence[KubernetesObject]], Trouble | None]
"""Tells what is wrong with some pods."""


@dataclass(frozen=True)
class _Track:
    """A predictor: what it is to serve, and the contents of the pods that take its requests, with their revisions."""

    wanted: Mapping[str, str]
    ready: Mapping[str, int]

    @property
    def is_up(self) -> bool:
        """Whether the pods that it is to have take requests, and none of another revision does."""
        return [*self.ready] == [self.wanted.get(CONTENT_LABEL)]


def prediction_url(base_url: str | None, namespace: str, name: str, address: str | None) -> str | None:
    """Where a service's predictions are asked for; None while nobody can tell.

    Through the ingress, under the path that Seldon's routes have; else at the address that it has in the cluster. See
    https://docs.seldon.ai/seldon-core-1/configuration/deployments/testing-model-endpoints
    """
    if base_url is not None:
        return f"{base_url}/seldon/{namespace}/{name}{path('v2', GRAPH)}"
    if address is None:
        return None
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}{path('v2', GRAPH)}"


def observe(
    service: Service,
    found: KubernetesObject | None,
    pods: Sequence[KubernetesObject],
    explain: Explain,
    url: Callable[[str | None], str | None],
    *,
    now: datetime | None = None,
) -> Observation:
    """How the service is. ``url`` makes the prediction URL of the address in the cluster; ``explain`` is asked only
    when something keeps a revision from answering.
    """
    if found is None or found["metadata"].get("deletionTimestamp") is not None:
        if found is not None or pods:
            return Observation(ServiceState.PENDING_SHUTDOWN, "its pods finish the requests that they have begun")
        return Observation(ServiceState.INACTIVE, "It has no SeldonDeployment.")
    status = found.get("status") or {}
    stable, canary = _track(found, pods, STABLE), _track(found, pods, CANARY)
    if stable is None:
        return Observation(ServiceState.ERROR, f"Its SeldonDeployment has no predictor {STABLE!r}: deploy it again.")
    # once there is no canary in the spec any more, its pods answer until the others are up
    others = canary.ready if canary is not None else _left_over(pods, CANARY)
    is_settled = status.get("state") == "Available"
    failed = _failure(found, status, stable if canary is None else canary, pods, explain, now or datetime.now(UTC))
    address = url((status.get("address") or {}).get("url"))
    # the routes to a new service are made last, and the status tells of them as long as all of it is up alone
    is_new = not (is_settled or service.is_running)
    if not stable.ready or address is None or (stable.is_up and is_new):
        if failed is not None and not stable.is_up:
            return Observation(ServiceState.ERROR, failed)
        revision = next(iter(stable.ready.values()), None)
        return Observation(ServiceState.PENDING_STARTUP, _waiting_for(status, pods, explain), revision=revision)
    asked = (canary or stable).wanted.get(REVISION)
    names = {predictor["name"] for predictor in found["spec"]["predictors"]}
    # what was taken out of the spec leaves by itself, and what kept it from being ready matters no more
    awaited = [pod for pod in pods if (pod["metadata"].get("labels") or {}).get(PREDICTOR) in names]
    numbers = (str(service.revision), *((str(service.canary.revision),) if service.canary is not None else ()))
    is_split = canary is not None and canary.is_up and is_settled
    return Observation(
        ServiceState.ACTIVE,
        "" if is_settled else _waiting_for(status, awaited, explain),
        prediction_url=address,
        revision=_serving(stable),
        canary=next(iter(others.values()), None) if is_split or canary is None else None,
        update_error=failed if asked in numbers else None,
    )


def _track(found: KubernetesObject, pods: Sequence[KubernetesObject], name: str) -> _Track | None:
    predictor = predictor_of(found, name)
    if predictor is None:
        return None
    return _Track(predictor.get("labels") or {}, _left_over(pods, name))


def _left_over(pods: Sequence[KubernetesObject], name: str) -> dict[str, int]:
    """The contents of a predictor's pods that take requests, with their revisions."""
    found = {}
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        if labels.get(PREDICTOR) == name and is_ready(pod) and labels.get(REVISION, "").isdecimal():
            found[labels.get(CONTENT_LABEL, "")] = int(labels[REVISION])
    return found


def _serving(stable: _Track) -> int:
    """The revision that answers; while Seldon rolls over, the one that goes."""
    going = [number for content, number in stable.ready.items() if content != stable.wanted.get(CONTENT_LABEL)]
    return going[0] if going else next(iter(stable.ready.values()))


def _failure(
    found: KubernetesObject,
    status: Mapping[str, Any],
    track: _Track,
    pods: Sequence[KubernetesObject],
    explain: Explain,
    now: datetime,
) -> str | None:
    """Why the predictor that was asked for last will not come up; None while it may, or when it has."""
    content = track.wanted.get(CONTENT_LABEL)
    if content in track.ready:
        return None
    its_own = [pod for pod in pods if (pod["metadata"].get("labels") or {}).get(CONTENT_LABEL) == content]
    trouble = explain(its_own) if its_own else None
    if trouble is not None and trouble.is_final:
        return trouble.message
    if status.get("state") == "Failed" and now - _applied(found) > _SETTLED:
        return f"Seldon has given it up: {status.get('description') or 'no more is told'}"
    return None


def _applied(found: KubernetesObject) -> datetime:
    """When the spec was last written, by the API server's clock; long ago when nobody can tell."""
    times = [
        datetime.fromisoformat(entry["time"])
        for entry in found["metadata"].get("managedFields") or ()
        if entry.get("manager") == "stackkit" and entry.get("time")
    ]
    return max(times, default=datetime.min.replace(tzinfo=UTC))


def _waiting_for(status: Mapping[str, Any], pods: Sequence[KubernetesObject], explain: Explain) -> str:
    """What a start or an update still waits for, in one line."""
    trouble = explain([pod for pod in pods if not is_ready(pod)])
    if trouble is not None:
        return trouble.message
    for condition in status.get("conditions") or ():
        if condition["type"] != "Ready" and condition["status"] != "True":
            said = " ".join(str(condition.get("message") or condition.get("reason") or "").split())
            return f"{condition['type']} is {condition['status']}" + (f": {said}" if said else "")
    return "Seldon has not taken it up yet" if not status else f"it is {str(status.get('state', 'new')).lower()}"
