"""Whether two configurations are the same, and if not, in words, how they differ."""

from __future__ import annotations

from typing import Any

from .config import ModelSource, ServiceConfig

# A label makes no new configuration, and the model is compared by its source.
_NOT_COMPARED = ("run_name", "model_uri")


def differences(
    before: ServiceConfig, before_source: ModelSource, after: ServiceConfig, after_source: ModelSource
) -> list[str]:
    """What ``after`` has otherwise than ``before``, in words that show no secret; nothing when they are the same.

    Both configurations have their secrets in place, so that a secret that changed is a difference.
    """
    if type(before) is not type(after):
        return ["its stored configuration is of another version of the flavor"]
    found = [
        _difference(name, getattr(before, name), getattr(after, name))
        for name in type(after).model_fields
        if name not in _NOT_COMPARED and getattr(before, name) != getattr(after, name)
    ]
    if before_source.uri != after_source.uri:
        found.insert(0, f"model_uri {before_source.uri!r} → {after_source.uri!r}")
    elif before_source.digest != after_source.digest:
        found.insert(0, f"the model at {after_source.uri} has changed")
    return found


def _difference(name: str, before: Any, after: Any) -> str:
    if "SecretStr(" in f"{before!r}{after!r}":
        return f"{name} differs"
    return f"{name} {before!r} → {after!r}"
