"""What is kept beside an endpoint, so that a server that lost its row can be adopted: tags of its configuration.

It is a revision's configuration in its stored form, which holds references to secrets and never their values, as
compressed JSON in as many tags as that takes: AWS takes values of up to 256 characters.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from stackkit.model_deployers import FoundServer, ModelSource, Service

from .names import SERVICE_TAG
from .texts import TAG_PREFIX

_KEPT = f"{TAG_PREFIX}kept-"
_STABLE = f"{TAG_PREFIX}stable"
_LONGEST = 256
_MOST = 9  # AWS takes 50 tags: 20 are the deployer's, 20 the service's, one is the UUID
_DETAILS = ("image", "archive", "has_built")


def kept_tags(service: Service, config_name: str, scaled: Mapping[str, str]) -> dict[str, str]:
    """The tags that keep a service's revision; none for one that is too long to be kept in tags.

    ``config_name`` is what the revision's endpoint configuration is called, ``scaled`` are the variants whose scaling
    is registered once it answers.
    """
    stored = service.stored()
    kept = {
        "config": stored["config"],
        "source": asdict(service.source),
        "revision": service.revision,
        "details": {
            **{name: stored["details"][name] for name in _DETAILS if name in stored["details"]},
            "configs": {str(service.revision): config_name},
            "scaled": dict(scaled),
        },
    }
    text = base64.b64encode(zlib.compress(json.dumps(kept).encode(), 9)).decode()
    parts = [text[start : start + _LONGEST] for start in range(0, len(text), _LONGEST)]
    return {f"{_KEPT}{number}": part for number, part in enumerate(parts)} if len(parts) <= _MOST else {}


def stable_tag(config_name: str) -> dict[str, str]:
    """The tag of a configuration that a canary shares: what that of the stable revision is called."""
    return {_STABLE: config_name}


def stable_of(tags: Mapping[str, str]) -> str | None:
    """What the stable revision's configuration is called, for one that a canary shares."""
    return tags.get(_STABLE)


def kept_in(tags: Mapping[str, str]) -> FoundServer | None:
    """The server that these tags of an endpoint configuration tell of; None for one that was not kept."""
    text = "".join(tags[key] for key in sorted(key for key in tags if key.startswith(_KEPT)))
    if not text or SERVICE_TAG not in tags:
        return None
    try:
        kept: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(text)))
        source = ModelSource(**kept["source"])
        return FoundServer(tags[SERVICE_TAG], kept["config"], source, kept["revision"], kept["details"])
    except (ValueError, KeyError, TypeError, zlib.error):
        return None  # somebody has changed them
