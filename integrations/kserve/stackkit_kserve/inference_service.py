"""The InferenceService that a revision is, as data: asks nobody.

Fields: https://kserve.github.io/website/docs/reference/crd-api
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stackkit_kubernetes import custom_resources
from stackkit_kubernetes.cluster import REVISION, KubernetesObject, service_labels
from stackkit_kubernetes.custom_resources import CONTENT_LABEL, SECURITY_CONTEXT
from stackkit_kubernetes.objects import main_name
from stackkit_kubernetes.pods import PORT, amounts, literal_env

from stackkit.serving.container import PREFIX

from .config import KServeServiceConfig, Transformer

API, KIND = "serving.kserve.io/v1beta1", "InferenceService"

CONTAINER = "kserve-container"
"""The one container that KServe's own requests and probes go to."""

MODELS_FOLDER = "/mnt/models"
"""Where KServe's storage initializer puts a model."""

DEPLOYMENT_MODE = "serving.kserve.io/deploymentMode"
STOP = "serving.kserve.io/stop"

COMPONENT = "component"
"""The label by which KServe tells predictors' pods from transformers'."""

# the names before KServe 0.16, which it goes on to take for Knative and Standard
_MODES = {"serverless": "Serverless", "raw": "RawDeployment"}


def name_of(service_id: str) -> str:
    """What the InferenceService is called, and the model in its paths."""
    return main_name(service_id)


def build(
    service_id: str,
    revision: int,
    config: KServeServiceConfig,
    *,
    image: str | None,
    image_pull_secret: str | None = None,
) -> KubernetesObject:
    """The InferenceService of a revision.

    ``image`` is the custom predictor's, None where a runtime of KServe's serves.
    """
    pods = _predictor(service_id, revision, config, image, image_pull_secret)
    transformer = None if config.transformer is None else _transformer(config.transformer, image_pull_secret)
    labels = {**config.labels, **service_labels(service_id)}
    template_labels = {
        **labels,
        REVISION: str(revision),
        CONTENT_LABEL: custom_resources.digest([revision, pods, transformer]),
    }
    strategy = _given(deploymentStrategy=_strategy(config))
    predictor = {**pods, **strategy, **_scale(config), "labels": template_labels}
    spec: dict[str, Any] = {"predictor": predictor}
    if transformer is not None:
        spec["transformer"] = {**transformer, **strategy, "labels": template_labels}
    annotations = {**config.annotations, STOP: "false"}
    if config.deployment_mode is not None:
        annotations[DEPLOYMENT_MODE] = _MODES[config.deployment_mode]
    metadata = {"name": name_of(service_id), "labels": labels, "annotations": annotations}
    return {"apiVersion": API, "kind": KIND, "metadata": metadata, "spec": spec}


def labels_of_spec(inference_service: Mapping[str, Any]) -> Mapping[str, str]:
    """The labels of the pods that an InferenceService asks for."""
    return inference_service["spec"]["predictor"].get("labels") or {}


def _predictor(
    service_id: str, revision: int, config: KServeServiceConfig, image: str | None, image_pull_secret: str | None
) -> dict[str, Any]:
    pod = custom_resources.pod(config, image_pull_secret)
    if image is None:
        container = custom_resources.container(config, None, service_id, revision, {})
        model = {
            "modelFormat": _given(name=config.model_format, version=config.model_format_version),
            "protocolVersion": config.protocol,
            "storageUri": config.model_uri,
        }
        return {**pod, "model": {**model, **_given(runtime=config.runtime), **container}}
    # KServe takes V1 for granted of a container that does not say PROTOCOL
    ours = {"PROTOCOL": config.protocol, f"{PREFIX}MODEL_NAME": name_of(service_id)}
    if config.is_fetched:
        # asked for by this variable, the storage initializer fetches a custom predictor's model too
        ours |= {"STORAGE_URI": config.model_uri, f"{PREFIX}MODEL": MODELS_FOLDER, f"{PREFIX}MODEL_DIGEST": ""}
    container = {"name": CONTAINER, **custom_resources.container(config, image, service_id, revision, ours)}
    if config.protocol == "v2":
        container["readinessProbe"] = {"httpGet": {"path": "/v2/health/ready", "port": PORT}}
    return {**pod, "containers": [container]}


def _transformer(transformer: Transformer, image_pull_secret: str | None) -> dict[str, Any]:
    resources = _given(requests=amounts(transformer.requests), limits=amounts(transformer.limits))
    container = {
        "name": CONTAINER,
        "image": transformer.image,
        "securityContext": dict(SECURITY_CONTEXT),
        **_given(
            args=list(transformer.args),
            env=literal_env(transformer.env),
            resources=resources,
        ),
    }
    pull = [{"name": image_pull_secret}] if image_pull_secret else None
    scale = _given(minReplicas=transformer.min_replicas, maxReplicas=transformer.max_replicas, imagePullSecrets=pull)
    return {"containers": [container], "automountServiceAccountToken": False, **scale}


def _strategy(config: KServeServiceConfig) -> dict[str, Any]:
    """How a plain Deployment is updated: with full capacity.

    Knative's revisions are so by themselves, and KServe does not look at this where the cluster's default is Knative.
    """
    if config.deployment_mode == "serverless":
        return {}
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def _scale(config: KServeServiceConfig) -> dict[str, Any]:
    return _given(
        minReplicas=config.min_replicas,
        maxReplicas=config.max_replicas,
        scaleMetric=config.scale_metric,
        scaleTarget=config.scale_target,
    )


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, [], {})}
