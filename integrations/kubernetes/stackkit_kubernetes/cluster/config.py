"""What says which cluster a component acts on."""

from __future__ import annotations

from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from stackkit.stack import ComponentConfig


class ClusterConfig(ComponentConfig):
    """The attributes that every model deployer on Kubernetes has."""

    kubernetes_context: str | None = Field(
        default=None, min_length=1, description="The kubeconfig's context; by default its current one."
    )
    kubernetes_namespace: str = Field(
        default="default",
        pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        max_length=63,
        description="The namespace that the servers live in; it has to be there.",
    )
    incluster: bool = Field(
        default=False, description="Whether to use the service account of the pod that this runs in, and no kubeconfig."
    )
    base_url: str | None = Field(
        default=None, description="Where the cluster's ingress is reached, such as https://models.example.com."
    )

    @field_validator("base_url")
    @classmethod
    def _is_a_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{url!r} is no base URL: write http:// or https://, a host, and a path if there is one")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if self.incluster and self.kubernetes_context is not None:
            raise ValueError("give either kubernetes_context or incluster")
        return self
