"""The pods of a service: what one of its revisions runs, as secure as the image bears."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from stackkit.model_deployers import Service
from stackkit.serving.container import FETCH, PREFIX

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
_MODEL_FOLDER = "/mnt/model"
"""Where a volume is mounted with the model that is not in the image: a claim, or what was fetched for this pod."""
_FETCHED = f"{_MODEL_FOLDER}/fetched"
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
    model = _model_volume(config)
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
        "initContainers": [_fetching(revision)] if _is_fetched(config) else None,
        "containers": [_serving(revision)],
        "volumes": [{"name": "tmp", "emptyDir": {}}, *([{"name": "model", **model}] if model else [])],
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


def _serving(revision: Revision) -> dict[str, Any]:
    """The container that serves."""
    config = revision.config
    variables = _environment(config)
    return _without_none(
        {
            **_container(CONTAINER, revision, variables, model=_mount(config, read_only=True)),
            "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
            "startupProbe": _probe(period=1, failures=_STARTUP_SECONDS),
            "readinessProbe": _probe(period=2, failures=2),
            "livenessProbe": _probe(period=10, failures=3),
            "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(_LEAVE_SECONDS)]}}},
        }
    )


def _fetching(revision: Revision) -> dict[str, Any]:
    """The container that fetches the model, before the other starts and not again when that one is started again."""
    config = revision.config
    # an image may bear the digest of the model that it was made for
    variables = {f"{PREFIX}MODEL_DIGEST": "", **config.env, f"{PREFIX}MODEL": config.model_uri}
    return {
        **_container("model", revision, variables, model=_mount(config, read_only=False)),
        "args": [FETCH, _FETCHED],
    }


def _container(
    name: str, revision: Revision, variables: Mapping[str, str], *, model: dict[str, Any] | None
) -> dict[str, Any]:
    config = revision.config
    return _without_none(
        {
            "name": name,
            "image": revision.image,
            "imagePullPolicy": "IfNotPresent",
            "env": literal_env(variables) or None,
            "envFrom": [{"secretRef": {"name": revision.secret}}] if revision.secret else None,
            "resources": _resources(config),
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "privileged": False,
                "readOnlyRootFilesystem": config.read_only_root,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [
                {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a container's own
                *([model] if model else []),
            ],
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }
    )


def _environment(config: KubernetesServiceConfig) -> Mapping[str, str]:
    if not config.model_uri:
        return config.env
    variables = {f"{PREFIX}MODEL_NAME": config.model_name, **config.env}
    if not config.is_fetched:
        return variables
    claim = _claim(config)
    path = _FETCHED if claim is None else f"{_MODEL_FOLDER}/{claim[1]}"
    return {**variables, f"{PREFIX}MODEL": path, f"{PREFIX}MODEL_DIGEST": ""}  # that is for who fetches


def _is_fetched(config: KubernetesServiceConfig) -> bool:
    return config.is_fetched and _claim(config) is None


def _model_volume(config: KubernetesServiceConfig) -> dict[str, Any] | None:
    """The volume that has the model; None where the image has it."""
    if claim := _claim(config):
        return {"persistentVolumeClaim": {"claimName": claim[0], "readOnly": True}}
    return {"emptyDir": {}} if _is_fetched(config) else None


def _mount(config: KubernetesServiceConfig, *, read_only: bool) -> dict[str, Any] | None:
    if _model_volume(config) is None:
        return None
    return {"name": "model", "mountPath": _MODEL_FOLDER, "readOnly": read_only}


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


def literal_env(variables: Mapping[str, str]) -> list[dict[str, str]]:
    """Variables as Kubernetes writes them: each has its value as it stands, of which ``$(NAME)`` is not replaced."""
    return [{"name": name, "value": value.replace("$", "$$")} for name, value in variables.items()]


def toleration(told: Toleration) -> dict[str, Any]:
    """A toleration as Kubernetes writes it."""
    values = told.model_dump()
    return _without_none({"tolerationSeconds": values.pop("toleration_seconds"), **values})


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
