"""What configures the KServe model deployer and its services."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from stackkit_kubernetes.config import KubernetesModelDeployerConfig, PodServiceConfig, Resources, are_variables
from stackkit_kubernetes.custom_resources import is_fetched_by_pods

from stackkit.stack.configs import Config


class KServeModelDeployerConfig(KubernetesModelDeployerConfig):
    """The attributes of a KServe model deployer.

    ``base_url`` is the address of the cluster's ingress gateway, for when the host names that KServe gives its
    services are known to no DNS: requests then go there, with the service's name in the header ``Host``.
    """


class Transformer(Config):
    """A container that requests pass before the model, and answers after it."""

    image: str = Field(min_length=1, pattern=r"^\S+$", description="Its image, made with KServe's Python SDK.")
    args: list[str] = Field(default=[], description="Arguments beside those that KServe gives it.")
    env: Annotated[dict[str, str], AfterValidator(are_variables)] = Field(
        default={}, description="Environment variables, in clear in the pod."
    )
    requests: Resources = Field(default=Resources(), description="What a node must have free.")
    limits: Resources = Field(default=Resources(), description="The most that it may use.")
    min_replicas: int | None = Field(default=None, ge=0, description="The fewest pods.")
    max_replicas: int | None = Field(default=None, ge=1, description="The most pods.")


class KServeServiceConfig(PodServiceConfig):
    """What an InferenceService can be told.

    A model whose image is built; or an image that has one, or into which KServe fetches ``model_uri``; or, with a
    ``model_format``, a model that one of KServe's own runtimes fetches and serves.
    """

    model_format: str | None = Field(
        default=None, min_length=1, description="The format of model_uri, such as sklearn or mlflow: picks the runtime."
    )
    model_format_version: str | None = Field(default=None, min_length=1, description="The format's version.")
    runtime: str | None = Field(
        default=None, min_length=1, description="The ServingRuntime; by default the first that takes the format."
    )
    protocol: Literal["v1", "v2"] = Field(
        default="v2", description="What it speaks: v1 (TensorFlow Serving's), or v2 (the Open Inference Protocol)."
    )
    deployment_mode: Literal["serverless", "raw"] | None = Field(
        default=None,
        description="By Knative, or as a plain Deployment; by default what the cluster's KServe is set to.",
    )
    min_replicas: int | None = Field(default=None, ge=0, description="The fewest pods; 0 only when serverless.")
    max_replicas: int | None = Field(default=None, ge=1, description="The most pods.")
    scale_metric: Literal["cpu", "memory", "concurrency", "rps"] | None = Field(
        default=None, description="What pods are added by; concurrency and rps only when serverless."
    )
    scale_target: int | None = Field(default=None, ge=1, description="The metric's value that is aimed at.")
    transformer: Transformer | None = Field(default=None, description="What requests pass before the model.")

    @model_validator(mode="after")
    def _one_way_to_serve(self) -> Self:
        if not self.model_uri and not self.image:
            raise ValueError("give a model_uri or an image")
        if self.image is not None and self.model_format is not None:
            raise ValueError("model_format picks a runtime of KServe's: leave it out, or the image")
        if self.model_format is None and (self.runtime or self.model_format_version):
            raise ValueError("runtime and model_format_version go with model_format")
        if self.is_fetched and not is_fetched_by_pods(self.model_uri):
            raise ValueError(
                f"KServe cannot fetch {self.model_uri!r}: give a URI such as s3://BUCKET/PATH or pvc://CLAIM/PATH, or "
                "the model_uri alone, to have an image built with the model in it"
            )
        if self.protocol == "v1" and self.image is None and self.model_format is None:
            raise ValueError("the image that is built speaks v2 alone")
        return self

    @property
    def is_fetched(self) -> bool:
        return super().is_fetched or self.model_format is not None

    @model_validator(mode="after")
    def _possible_scale(self) -> Self:
        if self.max_replicas is not None and (self.min_replicas or 1) > self.max_replicas:
            raise ValueError("min_replicas is more than max_replicas")
        if self.deployment_mode == "raw" and self.min_replicas == 0:
            raise ValueError("only a serverless deployment can have min_replicas 0")
        if self.deployment_mode == "raw" and self.scale_metric in ("concurrency", "rps"):
            raise ValueError(f"only a serverless deployment is scaled by {self.scale_metric}")
        if self.scale_target is not None and self.scale_metric is None:
            raise ValueError("scale_target goes with scale_metric")
        return self
