"""The SeldonDeployment that a revision is, as data: asks nobody.

Fields: https://docs.seldon.ai/seldon-core-1/reference/seldon-deployment
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stackkit_kubernetes import custom_resources
from stackkit_kubernetes.cluster import REVISION, KubernetesObject, service_labels
from stackkit_kubernetes.custom_resources import CONTENT_LABEL
from stackkit_kubernetes.objects import main_name
from stackkit_kubernetes.pods import PORT

from stackkit.serving.container import PREFIX

from .config import SeldonServiceConfig

API, KIND = "machinelearning.seldon.io/v1", "SeldonDeployment"

GRAPH = "model"
"""What the one node of the graph is called, its container with it, and the model in the service's paths."""

STABLE, CANARY, SHADOW = "default", "canary", "shadow"
"""The predictors' names: Seldon has a Deployment and a Service for each."""

PREDICTOR = "version"
"""The label by which Istio's subsets tell predictors apart; Seldon's default for it is the predictor's name."""

MODELS_FOLDER = "/mnt/models"
"""Where Seldon's storage initializer puts a model."""


def build(
    service_id: str,
    revision: int,
    config: SeldonServiceConfig,
    *,
    image: str | None,
    image_pull_secret: str | None = None,
) -> KubernetesObject:
    """The SeldonDeployment of a revision that serves alone.

    ``image`` is None where a server of Seldon's own serves.
    """
    labels = {**config.labels, **service_labels(service_id)}
    predictors = [predictor(service_id, revision, config, image=image, image_pull_secret=image_pull_secret)]
    if config.shadow is not None:
        other = config.model_copy(
            update={"model_uri": config.shadow.model_uri, "image": config.shadow.image, "shadow": None}
        )
        copied = predictor(
            service_id, revision, other, image=config.shadow.image, image_pull_secret=image_pull_secret, name=SHADOW
        )
        predictors.append({**copied, "shadow": True, "traffic": config.shadow.traffic})
    metadata = {"name": main_name(service_id), "labels": labels, "annotations": dict(config.annotations)}
    return {
        "apiVersion": API,
        "kind": KIND,
        "metadata": metadata,
        "spec": {"name": main_name(service_id), "protocol": "v2", "predictors": predictors},
    }


def predictor(
    service_id: str,
    revision: int,
    config: SeldonServiceConfig,
    *,
    image: str | None,
    image_pull_secret: str | None,
    name: str = STABLE,
) -> dict[str, Any]:
    """One predictor, with a graph of one node. Its labels become its pods'."""
    container = {"name": GRAPH, **_container(service_id, revision, config, image)}
    graph: dict[str, Any] = {"name": GRAPH, "type": "MODEL"}
    if config.implementation is not None:
        graph |= {"implementation": config.implementation}
    if config.is_fetched:
        graph |= {"modelUri": config.model_uri}
    if config.env_secret is not None:
        graph["envSecretRefName"] = config.env_secret
    if config.service_account is not None:
        graph["serviceAccountName"] = config.service_account
    if config.parameters:
        graph["parameters"] = [
            {"name": key, "value": value, "type": "STRING"} for key, value in config.parameters.items()
        ]
    pod = {"containers": [container], **custom_resources.pod(config, image_pull_secret)}
    content = custom_resources.digest([revision, graph, pod])
    labels = {**service_labels(service_id), REVISION: str(revision), CONTENT_LABEL: content, PREDICTOR: name}
    return {
        "name": name,
        "graph": graph,
        "componentSpecs": [{"spec": pod}],
        "replicas": config.replicas,
        "labels": {**config.labels, **labels},
        "annotations": dict(config.annotations),
    }


def split(live: Mapping[str, Any], canary: dict[str, Any], percent: int) -> list[dict[str, Any]]:
    """The predictors with ``canary`` beside the stable one, which stays as it is in ``live``; a shadow stays too."""
    kept = {each["name"]: dict(each) for each in live["spec"]["predictors"] if each["name"] != CANARY}
    kept[STABLE]["traffic"] = 100 - percent
    return [kept.pop(STABLE), {**canary, "traffic": percent}, *kept.values()]


def predictor_of(found: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """The predictor of that name; None when there is none."""
    return next((each for each in found["spec"]["predictors"] if each["name"] == name), None)


def _container(service_id: str, revision: int, config: SeldonServiceConfig, image: str | None) -> dict[str, Any]:
    if image is None:
        return custom_resources.container(config, None, service_id, revision, {})
    ours = {f"{PREFIX}MODEL_NAME": GRAPH}
    if config.is_fetched:
        ours |= {f"{PREFIX}MODEL": MODELS_FOLDER, f"{PREFIX}MODEL_DIGEST": ""}
    fields = custom_resources.container(config, image, service_id, revision, ours)
    # by this name Seldon knows the port, in place of one that it would choose itself
    fields["ports"] = [{"name": "http", "containerPort": PORT, "protocol": "TCP"}]
    fields["readinessProbe"] = {"httpGet": {"path": "/v2/health/ready", "port": "http"}, "periodSeconds": 2}
    fields["livenessProbe"] = {
        "httpGet": {"path": "/v2/health/live", "port": "http"},
        "initialDelaySeconds": 60,
        "periodSeconds": 10,
    }
    return fields
