"""The pods of a service: what one of its revisions runs, as secure as the image bears."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from stackkit.model_deployers import Service
from stackkit.serving.container import PREFIX

from .cluster import REVISION, service_labels
from .config import OUR_PREFIX, PVC, KubernetesServiceConfig, Resources, Toleration

TRACK = f"{OUR_PREFIX}track"
CONTENT = f"{OUR_PREFIX}content"

CONTAINER = "server"
PORT = 8080
"""Where the server in the container listens, as SageMaker's contract has it."""

GRACE_SECONDS = 30
_LEAVE_SECONDS = 10
"""For how long a pod that is to end goes on serving: until then, every node knows not to send it requests."""

_STARTUP_SECONDS = 1800
_CLAIM_FOLDER = "/mnt/model"
_GPU = "nvidia.com/gpu"

Track = Literal["stable", "canary"]


@dataclass(frozen=True)
class Revision:
    """What a revision's objects are made of.

    ``content`` tells two revisions apart that bear the same number, as after an update that was given up; ``secret``
    is the name of the Secret with its variables, None where it has none.
    """

    service: Service
    config: KubernetesServiceConfig
    image: str
    content: str
    secret: str | None
    pull_secret: str | None


def pod_labels(service_id: str, track: Track) -> dict[str, str]:
    """What selects the pods of one of a service's Deployments."""
    return {**service_labels(service_id), TRACK: track}


def template(revision: Revision, track: Track) -> dict[str, Any]:
    """The pod template of a Deployment."""
    config = revision.config
    claim = _claim(config)
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # variables for every Service of the namespace: ours are refused when unknown
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": _without_none(
            {
                "runAsNonRoot": True,
                "runAsUser": config.run_as_user,
                "seccompProfile": {"type": "RuntimeDefault"},
            }
        ),
        "containers": [_container(revision)],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            *([{"name": "model", "persistentVolumeClaim": {"claimName": claim[0], "readOnly": True}}] if claim else []),
        ],
        "serviceAccountName": config.service_account,
        "imagePullSecrets": [{"name": revision.pull_secret}] if revision.pull_secret else None,
        "nodeSelector": config.node_selector or None,
        "tolerations": [toleration(each) for each in config.tolerations] or None,
        "affinity": config.affinity or None,
    }
    return {
        "metadata": {
            "labels": {
                **config.labels,
                **pod_labels(revision.service.id, track),
                REVISION: str(revision.service.revision),
            },
            "annotations": {**config.annotations, CONTENT: revision.content},
        },
        "spec": _without_none(spec),
    }


def _container(revision: Revision) -> dict[str, Any]:
    config = revision.config
    variables = _environment(config, revision.service)
    return _without_none(
        {
            "name": CONTAINER,
            "image": revision.image,
            "imagePullPolicy": "IfNotPresent",
            "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
            "env": [{"name": name, "value": value} for name, value in variables.items()] or None,
            "envFrom": [{"secretRef": {"name": revision.secret}}] if revision.secret else None,
            "resources": _resources(config),
            "startupProbe": _probe(period=1, failures=_STARTUP_SECONDS),
            "readinessProbe": _probe(period=2, failures=2),
            "livenessProbe": _probe(period=10, failures=3),
            "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(_LEAVE_SECONDS)]}}},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "privileged": False,
                "readOnlyRootFilesystem": config.read_only_root,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [
                {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a container's own
                *([{"name": "model", "mountPath": _CLAIM_FOLDER, "readOnly": True}] if _claim(config) else []),
            ],
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }
    )


def _environment(config: KubernetesServiceConfig, service: Service) -> Mapping[str, str]:
    if config.image is None:
        return {f"{PREFIX}MODEL_NAME": config.model_name, **config.env}
    if not config.model_uri:
        return config.env
    claim = _claim(config)
    return {
        f"{PREFIX}MODEL_NAME": config.model_name,
        f"{PREFIX}MODEL": config.model_uri if claim is None else f"{_CLAIM_FOLDER}/{claim[1]}",
        f"{PREFIX}MODEL_DIGEST": service.source.digest or "",
        **config.env,
    }


def _claim(config: KubernetesServiceConfig) -> tuple[str, str] | None:
    """The claim that holds the model and the path in it; None where no claim does."""
    if not config.model_uri.startswith(PVC):
        return None
    claim, _, path = config.model_uri.removeprefix(PVC).partition("/")
    return claim, path


def _resources(config: KubernetesServiceConfig) -> dict[str, dict[str, str]] | None:
    limits = amounts(config.limits)
    if config.gpus:
        limits[_GPU] = str(config.gpus)  # a request of the same follows by itself
    found = {"requests": amounts(config.requests), "limits": limits}
    return {name: amounts for name, amounts in found.items() if amounts} or None


def amounts(resources: Resources) -> dict[str, str]:
    """Amounts as Kubernetes names them; what was not given is left out."""
    return {name.replace("_", "-"): amount for name, amount in resources.model_dump().items() if amount is not None}


def _probe(*, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": "/ping", "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def toleration(told: Toleration) -> dict[str, Any]:
    """A toleration as Kubernetes writes it."""
    values = told.model_dump()
    return _without_none({"tolerationSeconds": values.pop("toleration_seconds"), **values})


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
