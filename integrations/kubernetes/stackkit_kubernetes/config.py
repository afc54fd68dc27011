"""What configures the Kubernetes model deployer and its services."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator, model_validator

from stackkit.model_deployers import ServiceConfig
from stackkit.stack.configs import Config, is_reference

from .cluster.config import ClusterConfig

OUR_PREFIX = "stackkit/"
"""How the keys of our own labels and annotations begin."""

PVC = "pvc://"

_QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?")
_PERCENT = re.compile(r"(100|\d{1,2})%")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.\-]{0,251}[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LABEL_KEY = re.compile(r"([a-z0-9.\-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._\-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._\-]{0,61}[A-Za-z0-9])?)?")


def _is_a_quantity(text: str) -> str:
    if not _QUANTITY.fullmatch(text):
        raise ValueError(f"{text!r} is no quantity of Kubernetes': write 500m or 2 for processors, 512Mi for memory")
    return text


def _is_a_name(text: str | None) -> str | None:
    if text is not None and not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} can name nothing in a cluster: lower case, digits, '-' and '.' alone")
    return text


def are_variables(variables: dict[str, Any]) -> dict[str, Any]:
    """The variables, whose names are possible and of which none refers to a secret in clear. Raises ValueError."""
    for name, value in variables.items():
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"{name!r} cannot name an environment variable")
        if isinstance(value, str) and is_reference(value):
            raise ValueError(f"{name} refers to a secret, which would be in clear in the pod: put it in secrets")
    return variables


def _leave_ours_alone(keys: dict[str, str]) -> dict[str, str]:
    for key in keys:
        if not _LABEL_KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no key: Kubernetes takes NAME or DOMAIN/NAME")
        if key.startswith(OUR_PREFIX) or key == "app.kubernetes.io/managed-by":
            raise ValueError(f"{key!r} is stackkit's own")
    return keys


def _are_label_values(labels: dict[str, str]) -> dict[str, str]:
    for key, value in labels.items():
        if not _LABEL_VALUE.fullmatch(value):
            raise ValueError(f"the label {key!r} cannot be {value!r}: 63 letters, digits, '-', '_' and '.' at most")
    return labels


Quantity = Annotated[str, BeforeValidator(str), AfterValidator(_is_a_quantity)]
Name = Annotated[str | None, AfterValidator(_is_a_name)]
Labels = Annotated[dict[str, str], AfterValidator(_leave_ours_alone), AfterValidator(_are_label_values)]
Annotations = Annotated[dict[str, str], AfterValidator(_leave_ours_alone)]


class KubernetesModelDeployerConfig(ClusterConfig):
    """The attributes of a Kubernetes model deployer."""

    image_registry: str | None = Field(
        default=None,
        min_length=1,
        description="Where built images are pushed to, such as registry:5000/team; else the nodes need this engine's.",
    )
    image_pull_secret: Name = Field(default=None, description="The Secret with which the nodes fetch images.")
    base_image: str | None = Field(
        default=None, min_length=1, description="What images are built from; by default python:<the model's>-slim."
    )


class Resources(Config):
    """Amounts of what a node has."""

    cpu: Quantity | None = Field(default=None, description="Processors, such as 500m or 2.")
    memory: Quantity | None = Field(default=None, description="Memory, such as 512Mi.")
    ephemeral_storage: Quantity | None = Field(default=None, description="Disk of the node, such as 1Gi.")


class Toleration(Config):
    """A taint that a pod may be scheduled despite of."""

    key: str | None = Field(default=None, description="The taint's key; every one's without.")
    operator: Literal["Exists", "Equal"] = Field(default="Exists", description="Whether its value counts.")
    value: str | None = Field(default=None, description="The taint's value, with Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(default=None)
    toleration_seconds: int | None = Field(default=None, ge=0, description="For how long, with NoExecute.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if (self.value is not None) != (self.operator == "Equal"):
            raise ValueError("a value goes with the operator Equal, and Equal with a value")
        if self.key is None and self.operator == "Equal":
            raise ValueError("Equal needs a key")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("toleration_seconds goes with the effect NoExecute")
        return self


class Ingress(Config):
    """The server's address outside of the cluster, for a controller that sees to Ingress objects."""

    host: str = Field(min_length=1, description="The host name, such as iris.example.com.")
    class_name: str | None = Field(default=None, description="The class, such as nginx; by default the cluster's.")
    tls_secret: Name = Field(default=None, description="The Secret with the certificate; without, plain HTTP.")

    @field_validator("host")
    @classmethod
    def _is_a_host(cls, host: str) -> str:
        if not _NAME.fullmatch(host.removeprefix("*.")):
            raise ValueError(f"{host!r} is no host name")
        return host


def _amount(value: Any) -> Any:
    """A number of pods as such, also from a command line; a percentage as text."""
    if isinstance(value, str) and value.isdigit():
        return int(value)
    if isinstance(value, str) and not _PERCENT.fullmatch(value):
        raise ValueError(f"{value!r} is neither a number of pods nor a percentage such as 50%")
    return value


class DisruptionBudget(Config):
    """How many pods an orderly disruption, such as a node that is drained, has to leave."""

    min_available: Annotated[int | str | None, BeforeValidator(_amount)] = Field(default=None)
    max_unavailable: Annotated[int | str | None, BeforeValidator(_amount)] = Field(default=None)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.min_available is None) == (self.max_unavailable is None):
            raise ValueError("give either min_available or max_unavailable")
        return self


class PodServiceConfig(ServiceConfig):
    """What the pods of every flavor on Kubernetes can be told."""

    image: str | None = Field(
        default=None,
        min_length=1,
        pattern=r"^\S+$",
        description="An image that answers on port 8080; by default one is built of model_uri.",
    )
    requests: Resources = Field(default=Resources(), description="What a node must have free.")
    limits: Resources = Field(default=Resources(), description="The most that it may use.")
    gpus: int = Field(default=0, ge=0, description="How many GPUs each pod has (nvidia.com/gpu).")
    node_selector: dict[str, str] = Field(default={}, description="Labels that the node must have.")
    tolerations: list[Toleration] = Field(default=[], description="Taints that it tolerates.")
    env: Annotated[dict[str, str], AfterValidator(are_variables)] = Field(
        default={}, description="Environment variables, in clear in the pod."
    )
    secrets: Annotated[dict[str, SecretStr], AfterValidator(are_variables)] = Field(
        default={}, description="Environment variables; kept encrypted here, and in a Secret in the cluster."
    )
    service_account: Name = Field(default=None, description="The service account, which may hold storage credentials.")
    labels: Labels = Field(default={}, description="Labels beside ours.")
    annotations: Annotations = Field(default={}, description="Annotations beside ours.")

    @property
    def is_fetched(self) -> bool:
        """Whether the platform itself fetches ``model_uri``, for the image or for a server of its own."""
        return bool(self.model_uri) and self.image is not None

    @property
    def builds_image(self) -> bool:
        """Whether an image is built of ``model_uri``."""
        return self.image is None and not self.is_fetched

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        if both := sorted(set(self.env) & set(self.secrets)):
            raise ValueError(f"{', '.join(both)} is both in env and in secrets")
        return self


class KubernetesServiceConfig(PodServiceConfig):
    """What a model server on Kubernetes can be told: a model whose image is built, an image, or both."""

    replicas: int = Field(default=1, ge=1, description="How many pods.")
    min_replicas: int | None = Field(default=None, ge=1, description="The fewest pods, in place of replicas.")
    max_replicas: int | None = Field(default=None, ge=1, description="The most pods.")
    target_cpu: int | None = Field(
        default=None, ge=1, description="The percentage of requests.cpu that pods are added above; 80 unless told."
    )
    affinity: dict[str, Any] = Field(default={}, description="An Affinity, as Kubernetes writes it.")
    service_type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(
        default="ClusterIP", description="How it is exposed."
    )
    ingress: Ingress | None = Field(default=None, description="Its address outside of the cluster.")
    disruption_budget: DisruptionBudget | None = Field(default=None, description="What a disruption has to leave.")
    run_as_user: int | None = Field(default=None, ge=1, description="The user, where the image's is root or a name.")
    read_only_root: bool = Field(default=True, description="Whether it can write to /tmp alone.")
    patch: dict[str, dict[str, Any]] = Field(
        default={}, description="By kind, such as Deployment, a JSON merge patch of the object that would be made."
    )
    patch_security: bool = Field(
        default=False, description="Lets patch loosen the security context, share the host's namespaces or files."
    )

    @model_validator(mode="after")
    def _possible_together(self) -> Self:
        if not self.model_uri and not self.image:
            raise ValueError("give a model_uri or an image")
        if self.model_uri.startswith(PVC):
            claim, _, _ = self.model_uri.removeprefix(PVC).partition("/")
            if not _NAME.fullmatch(claim):
                raise ValueError(f"{self.model_uri!r} names no claim: write pvc://CLAIM/FOLDER")
            if not self.image:
                raise ValueError("a model in a claim cannot be read from here: give the image that is to serve it")
        return self._possible_scale()

    def _possible_scale(self) -> Self:
        if self.max_replicas is None:
            if self.min_replicas is not None or self.target_cpu is not None:
                raise ValueError("min_replicas and target_cpu need max_replicas")
            return self
        if "replicas" in self.model_fields_set and self.replicas != 1:
            raise ValueError("give either replicas, or min_replicas and max_replicas")
        if (self.min_replicas or 1) > self.max_replicas:
            raise ValueError("min_replicas is more than max_replicas")
        if self.requests.cpu is None and self.limits.cpu is None:  # of which Kubernetes makes a request
            raise ValueError("max_replicas needs requests.cpu: pods are added by what share of it is used")
        return self
