"""How a service is, as its objects tell: a pure function, so that every case can be tested without a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from stackkit.model_deployers import Observation, Service, ServiceState

from .cluster import REVISION, SERVICE, KubernetesObject, Trouble
from .cluster.cluster import has_ended
from .drift import changed
from .objects import optional_kinds
from .pods import TRACK, Track


@dataclass
class Found:
    """What a cluster has of one service; ``optional`` by kind, of those that some service looked at has."""

    deployments: dict[Track, KubernetesObject] = field(default_factory=dict)
    pods: list[KubernetesObject] = field(default_factory=list)
    service: KubernetesObject | None = None
    optional: dict[str, KubernetesObject] = field(default_factory=dict)

    @property
    def ingress(self) -> KubernetesObject | None:
        return self.optional.get("Ingress")

    def alive(self, track: Track) -> list[KubernetesObject]:
        """The pods of a Deployment that have not ended, those that are ending among them."""
        return [pod for pod in self.pods if label(pod, TRACK) == track and not has_ended(pod)]


Explain = Callable[[KubernetesObject, Sequence[KubernetesObject]], Trouble | None]
"""Why the pods of a Deployment do not get ready; None when nothing is wrong."""


def sort(
    deployments: Sequence[KubernetesObject],
    pods: Sequence[KubernetesObject],
    services: Sequence[KubernetesObject],
    optional: Sequence[KubernetesObject],
) -> dict[str, Found]:
    """What was listed, by the service's UUID."""
    by_service: dict[str, Found] = {}
    for each in deployments:
        track: Track = "canary" if label(each, TRACK) == "canary" else "stable"
        by_service.setdefault(label(each, SERVICE), Found()).deployments[track] = each
    for each in pods:
        by_service.setdefault(label(each, SERVICE), Found()).pods.append(each)
    for each in services:
        by_service.setdefault(label(each, SERVICE), Found()).service = each
    for each in optional:
        by_service.setdefault(label(each, SERVICE), Found()).optional[each["kind"]] = each
    return by_service


def observe(service: Service, found: Found, explain: Explain, url: str | None) -> Observation:
    """``url`` is the server's base URL, None while it has no Service object."""
    stable = found.deployments.get("stable")
    if stable is None or is_going(stable) or not wanted(stable):
        return _without(service, found, stable)
    newest, alive = revision_of(stable), found.alive("stable")
    ready = [pod for pod in alive if is_ready(pod)]
    is_done = is_rolled_out(stable)
    older = {revision_of(pod) for pod in ready} - {newest}
    revision = min(older) if older and not is_done else newest
    trouble = None if is_done else explain(stable, [pod for pod in alive if revision_of(pod) == newest])
    is_final = trouble is not None and trouble.is_final
    said = "" if is_done else progress(stable, trouble)
    if not ready:
        state = ServiceState.ERROR if is_final else ServiceState.PENDING_STARTUP
        return Observation(state, said, revision=revision)
    if found.service is None or url is None:
        return _torn("Its Service is gone: nothing leads to its pods.", revision)
    missing = [kind for kind in optional_kinds(service.config) if kind not in found.optional]
    if missing and newest == service.revision:  # one that is being updated may have had none until now
        return _torn(f"Its {missing[0]} is gone.", revision)
    if (told := _changed(found)) is not None:
        return _torn(told, revision)
    if service.status.state is ServiceState.PENDING_STARTUP and not is_done:
        state = ServiceState.ERROR if is_final else ServiceState.PENDING_STARTUP
        return Observation(state, said, revision=revision)
    canary, canary_error = _canary(found, explain)
    given_up = trouble.message if trouble is not None and is_final and revision != newest else canary_error
    return Observation(
        ServiceState.ACTIVE,
        said,
        prediction_url=f"{url}/invocations",
        revision=revision,
        canary=canary,
        update_error=given_up,
    )


def _torn(message: str, revision: int) -> Observation:
    """Of what has pods that are ready, and objects that are not all as they were made."""
    return Observation(ServiceState.ERROR, message, revision=revision, is_mendable=True)


def progress(deployment: KubernetesObject, trouble: Trouble | None) -> str:
    """How far a rollout has come, in words."""
    status = deployment.get("status", {})
    ready = status.get("availableReplicas", 0) if _is_seen(deployment) else 0
    updated = status.get("updatedReplicas", 0) if _is_seen(deployment) else 0
    count = wanted(deployment)
    said = f"{ready} of {count} pods {'is' if ready == 1 else 'are'} ready"
    if updated < count <= ready:
        said = f"{updated} of {count} pods {'is' if updated == 1 else 'are'} of revision {revision_of(deployment)}"
    return said if trouble is None else f"{said}: {trouble.message}"


def is_rolled_out(deployment: KubernetesObject) -> bool:
    """Whether all of its pods are ready and of its template, and no other is left."""
    status, count = deployment.get("status", {}), wanted(deployment)
    counts = (status.get(f"{name}Replicas", 0) for name in ("updated", "available"))
    return _is_seen(deployment) and status.get("replicas", 0) == count and all(each == count for each in counts)


def is_ready(pod: KubernetesObject) -> bool:
    """Whether it takes requests, and is not about to end."""
    conditions = pod.get("status", {}).get("conditions") or ()
    return not is_going(pod) and any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def is_going(each: KubernetesObject) -> bool:
    """Whether somebody has asked for its end."""
    return each["metadata"].get("deletionTimestamp") is not None


def wanted(deployment: KubernetesObject) -> int:
    """How many pods it is to have."""
    return int(deployment["spec"].get("replicas", 1))


def revision_of(each: KubernetesObject) -> int:
    """The revision that an object was made for; 0 when somebody has taken that away."""
    text = label(each, REVISION)
    return int(text) if text.isdecimal() else 0


def label(each: KubernetesObject, key: str) -> str:
    return str((each["metadata"].get("labels") or {}).get(key, ""))


def _without(service: Service, found: Found, stable: KubernetesObject | None) -> Observation:
    """A service that has no Deployment which is to run: ended, ending, or robbed of it."""
    alive = [*found.alive("stable"), *found.alive("canary")]
    canary = found.deployments.get("canary")
    stays = canary is not None and not is_going(canary) and any(not is_going(pod) for pod in found.alive("canary"))
    if stays and (stable is None or not is_going(stable)):
        how = "gone" if stable is None else "scaled to nothing"
        return Observation(ServiceState.ERROR, f"Its Deployment is {how}, and its canary alone is left.")
    going = [each for each in (*found.deployments.values(), found.service) if each is not None and is_going(each)]
    if alive:
        pods = f"{len(alive)} pods" if len(alive) > 1 else "its pod"
        return Observation(ServiceState.PENDING_SHUTDOWN, f"waiting for the end of {pods}")
    if going:
        return Observation(ServiceState.PENDING_SHUTDOWN, f"waiting for the end of its {going[0]['kind']}")
    if stable is None:
        return Observation(ServiceState.INACTIVE, "It has no Deployment.")
    return Observation(ServiceState.INACTIVE, "Its Deployment is scaled to nothing.")


def _changed(found: Found) -> str | None:
    for each in (*found.deployments.values(), found.service, *found.optional.values()):
        path = None if each is None else changed(each)
        if each is not None and path is not None:
            return f"Somebody has changed {path} of its {each['kind']} {each['metadata']['name']}."
    return None


def _canary(found: Found, explain: Explain) -> tuple[int | None, str | None]:
    """The revision of the canary that answers, and why one never will."""
    deployment, alive = found.deployments.get("canary"), found.alive("canary")
    ready = [revision_of(pod) for pod in alive if is_ready(pod)]
    if ready:
        return max(ready), None
    if deployment is None or is_going(deployment):
        return None, None
    trouble = explain(deployment, alive)
    return None, trouble.message if trouble is not None and trouble.is_final else None


def _is_seen(deployment: KubernetesObject) -> bool:
    """Whether its status is about what is asked of it now."""
    generation: int = deployment["metadata"].get("generation", 0)
    return int(deployment.get("status", {}).get("observedGeneration", -1)) >= generation
