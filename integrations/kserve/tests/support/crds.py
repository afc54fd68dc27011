"""Custom resource definitions, of the projects themselves, in the cluster and as schemas to check objects with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import kube
from real_parts import require
from stackkit_kubernetes.cluster import KubernetesObject

from stackkit.errors import StackkitError

_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def load(name: str) -> KubernetesObject:
    """A definition out of the folder that STACKKIT_TEST_CRDS names; skips where it is not there."""
    folder = os.environ.get("STACKKIT_TEST_CRDS") or Path(__file__).resolve().parents[5] / "shared" / "crds"
    file = Path(folder, f"{name}.json")
    if not file.is_file():
        require("crds", f"the definition {file.name} is not in {folder}; set STACKKIT_TEST_CRDS")
    read: KubernetesObject = json.loads(file.read_text(encoding="utf-8"))
    return read


def schema(definition: KubernetesObject, version: str) -> dict[str, Any]:
    """What an object of that version has to look like; a field that the schema does not have is wrong."""
    (found,) = [each for each in definition["spec"]["versions"] if each["name"] == version]
    closed: dict[str, Any] = _closed(found["schema"]["openAPIV3Schema"])
    closed["properties"]["metadata"] = {"type": "object"}
    return closed


def install(place: kube.Namespace, definition: KubernetesObject) -> None:
    """Have the cluster know the kind; a no-op where it does. It stays: others may be using it."""
    try:
        place.raw("POST", _PATH, definition)
    except StackkitError as error:
        if getattr(error, "status", None) != 409:
            raise
    name = definition["metadata"]["name"]

    def is_established() -> bool:
        conditions = place.raw("GET", f"{_PATH}/{name}").get("status", {}).get("conditions") or []
        return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)

    kube.until(is_established)


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with no room for fields that it does not name: the API server drops those without a word."""
    made = dict(schema)
    if made.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if "properties" in made:
        made["properties"] = {name: _closed(each) for name, each in made["properties"].items()}
        if not made.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(made.get(key), dict):
            made[key] = _closed(made[key])
    return made
