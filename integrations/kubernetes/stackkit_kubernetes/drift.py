"""What somebody has changed of an object since it was applied, told by a copy of what was."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from .cluster import KubernetesObject
from .config import OUR_PREFIX

APPLIED = f"{OUR_PREFIX}applied"
"""The annotation that keeps the spec as it was applied, or as an admission webhook had it be."""

_SCALE = "spec.replicas"
"""What others may change: an autoscaler, and whoever scales by hand."""


def with_copy(made: KubernetesObject, spec: Mapping[str, Any] | None = None) -> KubernetesObject:
    """The object with a copy of its spec beside it, or with ``spec`` in place of that."""
    metadata = made["metadata"]
    copy = json.dumps(made["spec"] if spec is None else spec, sort_keys=True, separators=(",", ":"))
    return {**made, "metadata": {**metadata, "annotations": {**metadata["annotations"], APPLIED: copy}}}


def changed(live: KubernetesObject) -> str | None:
    """Where the object is other than was applied, such as ``spec.template.spec.containers.server.image``; else None.

    What was not applied and the API server has added is no change, nor is anything of an object that bears no copy:
    somebody has applied a manifest.
    """
    copy = (live["metadata"].get("annotations") or {}).get(APPLIED)
    if copy is None:
        return None
    try:
        applied = json.loads(copy)
    except ValueError:
        return f"metadata.annotations.{APPLIED}"
    return _difference(applied, live["spec"], "spec")


def _difference(applied: Any, live: Any, path: str) -> str | None:
    if path == _SCALE:
        return None
    if isinstance(applied, Mapping):
        found = live if isinstance(live, Mapping) else {}
        inside = (_difference(value, found.get(key), f"{path}.{key}") for key, value in applied.items())
        return next((each for each in inside if each is not None), None)
    if isinstance(applied, list):
        return _difference_in_list(applied, live, path)
    return None if _same(applied, live) else path


def _difference_in_list(applied: list[Any], live: Any, path: str) -> str | None:
    found = live if isinstance(live, list) else []
    named = all(isinstance(each, Mapping) and "name" in each for each in applied)
    if named:  # the API server may have added some of its own
        by_name = {each.get("name"): each for each in found}
        pairs = [(each, by_name.get(each["name"]), str(each["name"])) for each in applied]
    elif len(applied) == len(found):
        pairs = [(each, other, str(number)) for number, (each, other) in enumerate(zip(applied, found, strict=True))]
    else:
        return path
    inside = (_difference(each, other, f"{path}.{name}") for each, other, name in pairs)
    return next((each for each in inside if each is not None), None)


def _same(applied: Any, live: Any) -> bool:
    """Whether two values mean the same: nothing and what means it, and quantities however they are written."""
    if applied == live or (applied in (None, False, "", 0) and live is None):
        return True
    if not (isinstance(applied, str) and isinstance(live, str)):
        return False
    from kubernetes.utils import parse_quantity

    read: Callable[[str], Any] = parse_quantity
    try:
        return bool(read(applied) == read(live))
    except ValueError:
        return False
