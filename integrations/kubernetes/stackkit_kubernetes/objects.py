"""The objects of a service: pure functions from its configuration to what is applied.

Their names are derived from the service's UUID alone, so that doing it twice finds the same: ``stackkit-<uuid>`` for
all that there is one of, ``…-canary`` for the Deployment of a canary, and ``…-r<revision>`` for the Secret of one
revision, which pods of another must not see change.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from stackkit.model_deployers import FoundServer, ModelSource, Service, ServiceConfig

from .cluster import REVISION, SERVICE, KubernetesObject, service_labels
from .cluster.objects import epoch_of
from .config import OUR_PREFIX, KubernetesServiceConfig
from .pods import TRACK, Revision, Track, pod_labels, template

KEPT = f"{OUR_PREFIX}kept"
"""The annotation that keeps a revision's stored configuration and source beside it, so that it can be adopted."""

HTTP_PORT = 80
_TARGET_CPU = 80
_DEADLINE_SECONDS = 3600
"""When Kubernetes itself calls a rollout that does not get on stuck; whoever waits has a timeout of their own."""

DEPLOYMENTS = "apps/v1"
CORE = "v1"
INGRESSES = "networking.k8s.io/v1"
AUTOSCALERS = ("autoscaling/v2", "autoscaling/v2beta2", "autoscaling/v1")
DISRUPTION_BUDGETS = ("policy/v1", "policy/v1beta1")
"""The versions of what not every cluster serves alike, the best first."""

OPTIONAL: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "HorizontalPodAutoscaler": ("max_replicas", AUTOSCALERS),
    "PodDisruptionBudget": ("disruption_budget", DISRUPTION_BUDGETS),
    "Ingress": ("ingress", (INGRESSES,)),
}
"""What only some services have, by kind: the field of the configuration that asks for it, and the versions."""


def main_name(service_id: str) -> str:
    return f"stackkit-{service_id}"


def deployment_name(service_id: str, track: Track) -> str:
    return main_name(service_id) if track == "stable" else f"{main_name(service_id)}-canary"


def secret_name(service_id: str, revision: int) -> str:
    return f"{main_name(service_id)}-r{revision}"


def revision_of(service: Service, config: KubernetesServiceConfig, *, image: str, pull_secret: str | None) -> Revision:
    """What the objects of the service's revision are made of."""
    content = hashlib.sha256(kept(service).encode()).hexdigest()[:16]
    secret = secret_name(service.id, service.revision) if config.secrets else None
    return Revision(service, config, image, content, secret, pull_secret)


def example(config: KubernetesServiceConfig) -> Revision:
    """A revision of a service that is none, to see what its objects would be like."""
    row = {"id": str(UUID(int=0)), "revision": 1, "config": {}, "source": {"uri": config.model_uri}}
    return Revision(Service(row, None), config, image=config.image or "none", content="", secret=None, pull_secret=None)


def make_secret(revision: Revision) -> KubernetesObject | None:
    """The Secret with the revision's variables; None where it has none."""
    if revision.secret is None:
        return None
    values = {name: value.get_secret_value() for name, value in revision.config.secrets.items()}
    return {
        **_head(revision, CORE, "Secret", revision.secret),
        "type": "Opaque",
        "data": {name: b64encode(value.encode()).decode() for name, value in values.items()},
    }


def make_deployment(revision: Revision, track: Track, *, replicas: int) -> KubernetesObject:
    service_id = revision.service.id
    head = _head(revision, DEPLOYMENTS, "Deployment", deployment_name(service_id, track))
    head["metadata"]["labels"][TRACK] = track
    head["metadata"]["annotations"][KEPT] = kept(revision.service)
    return {
        **head,
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": pod_labels(service_id, track)},
            # what serves goes only when what takes its place is ready
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
            "progressDeadlineSeconds": _DEADLINE_SECONDS,
            "revisionHistoryLimit": 1,
            "template": template(revision, track),
        },
    }


def make_service(revision: Revision) -> KubernetesObject:
    return {
        **_head(revision, CORE, "Service", main_name(revision.service.id)),
        "spec": {
            "type": revision.config.service_type,
            "selector": service_labels(revision.service.id),
            "ports": [{"name": "http", "port": HTTP_PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def make_autoscaler(revision: Revision, version: str) -> KubernetesObject:
    config, name = revision.config, main_name(revision.service.id)
    target = config.target_cpu or _TARGET_CPU
    bounds = {
        "scaleTargetRef": {"apiVersion": DEPLOYMENTS, "kind": "Deployment", "name": name},
        "minReplicas": config.min_replicas or 1,
        "maxReplicas": config.max_replicas,
    }
    by_cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": target}}
    measured: dict[str, Any] = (
        {"targetCPUUtilizationPercentage": target}
        if version == "autoscaling/v1"
        else {"metrics": [{"type": "Resource", "resource": by_cpu}]}
    )
    return {**_head(revision, version, "HorizontalPodAutoscaler", name), "spec": {**bounds, **measured}}


def make_disruption_budget(revision: Revision, version: str) -> KubernetesObject:
    budget = revision.config.disruption_budget
    least, most = (None, None) if budget is None else (budget.min_available, budget.max_unavailable)
    return {
        **_head(revision, version, "PodDisruptionBudget", main_name(revision.service.id)),
        "spec": {
            "selector": {"matchLabels": service_labels(revision.service.id)},
            **({"minAvailable": least} if least is not None else {"maxUnavailable": most}),
        },
    }


def make_ingress(revision: Revision) -> KubernetesObject:
    name, ingress = main_name(revision.service.id), revision.config.ingress
    if ingress is None:
        raise ValueError("it has no ingress")
    backend = {"service": {"name": name, "port": {"name": "http"}}}
    spec: dict[str, Any] = {
        "rules": [{"host": ingress.host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]
    }
    if ingress.class_name is not None:
        spec["ingressClassName"] = ingress.class_name
    if ingress.tls_secret is not None:
        spec["tls"] = [{"hosts": [ingress.host], "secretName": ingress.tls_secret}]
    return {**_head(revision, INGRESSES, "Ingress", name), "spec": spec}


def replicas_of(config: KubernetesServiceConfig, now: int) -> int:
    """How many pods the stable Deployment is to have, ``now`` being what its autoscaler has made of it."""
    if config.max_replicas is None:
        return config.replicas
    return min(max(now, config.min_replicas or 1), config.max_replicas)


def optional_kinds(config: ServiceConfig) -> list[str]:
    """The kinds of OPTIONAL that a service with this configuration has."""
    return [kind for kind, (field, _) in OPTIONAL.items() if getattr(config, field, None) is not None]


def found_server(deployment: KubernetesObject) -> FoundServer | None:
    """The server that a Deployment runs; None for a canary's, and one that does not say what it is."""
    metadata = deployment["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    service_id = labels.get(SERVICE, "")
    try:
        told, revision = json.loads(annotations[KEPT]), int(labels[REVISION])
    except (KeyError, ValueError):
        return None
    if metadata["name"] != main_name(service_id):
        return None
    source = ModelSource(**told["source"])
    details: dict[str, Any] = {}
    if told["config"].get("image") is None:
        image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
        details = {"images": [image], "image_of": {source.digest: image}}
    return FoundServer(service_id, told["config"], source, revision, details, epoch=max(1, epoch_of(deployment)))


def _head(revision: Revision, api_version: str, kind: str, name: str) -> KubernetesObject:
    service, config = revision.service, revision.config
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "labels": {**config.labels, **service_labels(service.id), REVISION: str(service.revision)},
            "annotations": dict(config.annotations),
        },
    }


def kept(service: Service) -> str:
    """The revision's stored configuration and source, for the annotation by which its server can be adopted."""
    stored: Mapping[str, Any] = service.stored()
    # what is only shown, and not kept, has its secrets in place: they turn into asterisks
    return json.dumps({"config": stored["config"], "source": dict(stored["source"])}, sort_keys=True, default=str)
