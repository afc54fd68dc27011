"""What the flavors share that write a custom resource and leave Deployments and Services to its controller."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from .config import PodServiceConfig
from .objects import secret_name
from .pods import PORT, amounts, literal_env, toleration

CONTENT_LABEL = "stackkit/content"
"""A digest of a revision and of what its pods are made from: the number is given again after an update that failed."""

SECURITY_CONTEXT: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""Of the containers with an image of the user's: the restricted profile of the Pod Security Standards."""


def is_fetched_by_pods(uri: str) -> bool:
    """Whether a URI can mean the same to a cluster's pods as it does here."""
    return re.match(r"(?!file:|models:|runs:)[a-z][a-z0-9+.-]*://", uri) is not None


def secret(
    service_id: str, revision: int, config: PodServiceConfig, labels: Mapping[str, str]
) -> dict[str, Any] | None:
    """The Secret with the secret variables of ``config``, whose values are in place; None when it has none."""
    if not config.secrets:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret_name(service_id, revision), "labels": dict(labels)},
        "type": "Opaque",
        "stringData": {name: value.get_secret_value() for name, value in config.secrets.items()},
    }


def container(
    config: PodServiceConfig, image: str | None, service_id: str, revision: int, env: Mapping[str, str]
) -> dict[str, Any]:
    """The fields of a container that the configuration decides: resources, variables and, with an image, its rights.

    ``env`` are variables of ours, which the configuration's own replace. An empty field is left out.
    """
    resources = {"requests": amounts(config.requests), "limits": amounts(config.limits)}
    if config.gpus:
        resources["limits"]["nvidia.com/gpu"] = str(config.gpus)
    fields: dict[str, Any] = {
        "env": literal_env({**env, **config.env}),
        "envFrom": [{"secretRef": {"name": secret_name(service_id, revision)}}] if config.secrets else [],
        "resources": {name: values for name, values in resources.items() if values},
    }
    if image is not None:
        fields |= {
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "ports": [{"containerPort": PORT, "protocol": "TCP"}],
            "securityContext": dict(SECURITY_CONTEXT),
        }
    return {name: value for name, value in fields.items() if value}


def pod(config: PodServiceConfig, image_pull_secret: str | None) -> dict[str, Any]:
    """The fields of a pod that the configuration decides. An empty field is left out."""
    fields: dict[str, Any] = {
        "nodeSelector": dict(config.node_selector),
        "tolerations": [toleration(each) for each in config.tolerations],
        "serviceAccountName": config.service_account,
        "imagePullSecrets": [{"name": image_pull_secret}] if image_pull_secret else [],
    }
    if config.service_account is None:
        fields["automountServiceAccountToken"] = False
    return {name: value for name, value in fields.items() if value not in (None, [], {})}


def digest(content: Any) -> str:
    """What tells two contents apart, as a label's value."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
