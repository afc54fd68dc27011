"""What people change of the objects themselves: JSON merge patches (RFC 7386) that may not undo what we rely on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stackkit.errors import InvalidConfigError

from .cluster import KubernetesObject
from .config import KubernetesServiceConfig
from .pods import CONTAINER

KINDS = ("Deployment", "Service", "Ingress", "HorizontalPodAutoscaler", "PodDisruptionBudget")

_NAMES: tuple[tuple[str, ...], ...] = (
    ("apiVersion",),
    ("kind",),
    ("metadata", "name"),
    ("metadata", "namespace"),
    ("spec", "selector"),
)
_HOST_NAMESPACES = ("hostNetwork", "hostPID", "hostIPC")
_POD_SECURITY = ("securityContext", "automountServiceAccountToken")
_UNLESS_SAID = {"privileged": False}
"""What a container's security context is where it says nothing, as far as that is what we have it say."""

_BY_FIELDS = {
    ("spec", "replicas"): "replicas, or min_replicas and max_replicas",
    ("spec", "minReplicas"): "min_replicas",
    ("spec", "maxReplicas"): "max_replicas",
    ("spec", "type"): "service_type",
}
"""What the lifecycle itself sets, or looks at, and which field says it."""


def patched(made: KubernetesObject, config: KubernetesServiceConfig) -> KubernetesObject:
    """The object as the configuration's ``patch`` has it.

    Raises InvalidConfigError for a kind that is never made, and when names, labels or annotations of ours, selectors or
    a container's name would change; without ``patch_security`` also when the security context would be loosened.
    """
    if unknown := sorted(set(config.patch) - set(KINDS)):
        raise InvalidConfigError(
            f"There is no {', '.join(map(repr, unknown))} to patch.", f"The kinds are: {', '.join(KINDS)}."
        )
    patch = config.patch.get(made["kind"])
    if patch is None:
        return made
    result: KubernetesObject = merged(made, patch)
    refused = [*_lost(made, result), *([] if config.patch_security else _loosened(made, result))]
    if refused:
        raise InvalidConfigError(
            f"The patch of the {made['kind']} changes {', '.join(dict.fromkeys(refused))}.",
            "Leave that out of it; patch_security=true allows what concerns security alone.",
        )
    for path, field in _BY_FIELDS.items():
        if _at(result, path) != _at(made, path):
            raise InvalidConfigError(
                f"The patch of the {made['kind']} changes {'.'.join(path)}.", f"Say it by the field {field}."
            )
    return result


def merged(value: Any, patch: Any) -> Any:
    """``value`` after a JSON merge patch: a mapping is merged, None removes, everything else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(value) if isinstance(value, Mapping) else {}
    for key, change in patch.items():
        if change is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), change)
    return result


def _lost(made: KubernetesObject, result: KubernetesObject) -> Iterator[str]:
    """What the lifecycle finds and tells the objects by, and is not there any more."""
    for path in _NAMES:
        if _at(made, path) != _at(result, path):
            yield ".".join(path)
    for head in ("metadata", "spec.template.metadata"):
        for name in ("labels", "annotations"):
            path = (*head.split("."), name)
            before, after = _at(made, path) or {}, _at(result, path) or {}
            if any(after.get(key) != value for key, value in before.items()):
                yield f"{head}.{name}"
    if made["kind"] == "Deployment":
        kept = _containers(result)
        yield from (f"the name of the container {name!r}" for name in _containers(made) if name not in kept)


def _loosened(made: KubernetesObject, result: KubernetesObject) -> Iterator[str]:
    if made["kind"] != "Deployment":
        return
    before, after = made["spec"]["template"]["spec"], _at(result, ("spec", "template", "spec")) or {}
    for name in _POD_SECURITY:
        if before.get(name) != after.get(name):
            yield f"the pods' {name}"
    for name in _HOST_NAMESPACES:
        if after.get(name):
            yield f"the pods' {name}"
    if any("hostPath" in volume for volume in after.get("volumes") or ()):
        yield "the pods' volumes to files of the host"
    wanted = _containers(made)[CONTAINER]["securityContext"]
    for name, container in _containers(result).items():
        if {**_UNLESS_SAID, **(container.get("securityContext") or {})} != wanted:
            yield f"the securityContext of the container {name!r}"


def _containers(deployment: KubernetesObject) -> dict[str, Any]:
    spec = _at(deployment, ("spec", "template", "spec")) or {}
    listed = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    return {str(each.get("name")): each for each in listed if isinstance(each, Mapping)}


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
