"""What configures the Seldon Core model deployer and its services."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from stackkit_kubernetes.config import KubernetesModelDeployerConfig, Name, PodServiceConfig
from stackkit_kubernetes.custom_resources import is_fetched_by_pods

from stackkit.stack.configs import Config


class SeldonModelDeployerConfig(KubernetesModelDeployerConfig):
    """The attributes of a Seldon Core model deployer.

    ``base_url`` is where the cluster's ingress is reached that Seldon's routes are bound to: a service answers there
    under ``/seldon/NAMESPACE/NAME``. Without it, services have the address that Seldon gives them in the cluster.
    """


class Shadow(Config):
    """Another model that gets copies of the requests, and whose answers nobody sees."""

    model_uri: str = Field(default="", description="Where the model is, for the same implementation.")
    image: str | None = Field(default=None, min_length=1, pattern=r"^\S+$", description="An image, in its place.")
    traffic: int = Field(default=100, ge=1, le=100, description="The percentage of requests that are copied to it.")

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if bool(self.model_uri) == bool(self.image):
            raise ValueError("give either model_uri or image")
        return self


class SeldonServiceConfig(PodServiceConfig):
    """What a SeldonDeployment can be told.

    A model whose image is built; or an image that has one, or into which Seldon fetches ``model_uri``; or, with an
    ``implementation``, a model that one of Seldon's own servers fetches and serves. All speak the protocol V2.
    """

    implementation: str | None = Field(
        default=None,
        pattern="^[A-Z][A-Z0-9_]*$",
        description="The server for model_uri, such as MLFLOW_SERVER, SKLEARN_SERVER or XGBOOST_SERVER.",
    )
    env_secret: Name = Field(
        default=None, description="The Secret with the storage's credentials (envSecretRefName), for fetching models."
    )
    parameters: dict[str, str] = Field(default={}, description="Parameters of the implementation, as text.")
    replicas: int = Field(default=1, ge=1, description="How many pods.")
    shadow: Shadow | None = Field(default=None, description="Another model that gets copies of the requests.")

    @model_validator(mode="after")
    def _one_way_to_serve(self) -> Self:
        if not self.model_uri and not self.image:
            raise ValueError("give a model_uri or an image")
        if self.image is not None and self.implementation is not None:
            raise ValueError("implementation is a server of Seldon's: leave it out, or the image")
        if self.implementation is None and self.parameters:
            raise ValueError("parameters go with an implementation")
        if self.is_fetched and not is_fetched_by_pods(self.model_uri):
            raise ValueError(
                f"Seldon cannot fetch {self.model_uri!r}: give a URI such as s3://BUCKET/PATH, or the model_uri alone, "
                "to have an image built with the model in it"
            )
        if self.env_secret is not None and not self.is_fetched:
            raise ValueError("env_secret is for fetching model_uri, and nothing is fetched")
        return self

    @model_validator(mode="after")
    def _shadow_of_its_kind(self) -> Self:
        shadow = self.shadow
        if shadow is not None and (shadow.image is None) != (self.implementation is not None):
            raise ValueError("a shadow is of the same kind: an image, or with an implementation another model_uri")
        if shadow is not None and shadow.model_uri and not is_fetched_by_pods(shadow.model_uri):
            raise ValueError(
                f"Seldon cannot fetch {shadow.model_uri!r} for the shadow: give a URI such as s3://BUCKET/PATH"
            )
        return self

    @property
    def is_fetched(self) -> bool:
        return super().is_fetched or self.implementation is not None
