"""What configures the SageMaker model deployer and its endpoints."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from stackkit.model_deployers import ServiceConfig
from stackkit.stack import ComponentConfig

from .options import Asynchronous, Autoscaling, DataCapture, Rollout, Serverless, Variant, VpcConfig
from .texts import BUCKET, IMAGE, INSTANCE_TYPE, REGION, REPOSITORY, ROLE, URL, Tags, Variables

VARIANT = "AllTraffic"
"""What the one production variant of an endpoint is called whose configuration names none."""

CANARY = "Canary-"
"""How the names of the production variants begin that a canary adds to those that serve."""

_NOT_TOGETHER = {
    "serverless": {
        "asynchronous",
        "rollout",
        "data_capture",
        "kms_key_id",
        "volume_size",
        "network_isolation",
        "startup_timeout",
        "download_timeout",
        "instance_count",
        "variants",
        "autoscaling",
    },
    "variants": {"instance_count"},
}
"""Which fields an endpoint that has the field cannot have."""


def _possible_variants(variants: dict[str, Any]) -> dict[str, Any]:
    for name in variants:
        if re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*", name) is None or len(name) > 50:
            raise ValueError(f"{name!r} cannot name a variant: letters, digits and '-', 50 at most")
        if name.startswith(CANARY):
            raise ValueError(f"{name!r} cannot name a variant: those of a canary begin with {CANARY}")
    return variants


class SageMakerModelDeployerConfig(ComponentConfig):
    """The attributes of a SageMaker model deployer. Credentials are found the way boto3 finds them."""

    local: bool = Field(
        default=False, description="Run the containers on this machine's Docker Engine; nothing is asked of AWS."
    )
    region: Annotated[str | None, REGION] = Field(
        default=None, description="The AWS region, such as us-east-1; needed but for local."
    )
    execution_role_arn: Annotated[str | None, ROLE] = Field(
        default=None, description="The role that the containers run with; needed but for local."
    )
    bucket: Annotated[str | None, BUCKET] = Field(
        default=None,
        description="Where models are kept; by default one is made: stackkit-sagemaker-REGION-ACCOUNT.",
    )
    ecr_repository: Annotated[str | None, REPOSITORY] = Field(
        default=None,
        description="Where images that are built go in ECR; by default one is made: stackkit.",
    )
    base_image: str | None = Field(
        default=None, min_length=1, description="What images are built from; by default python:<the model's>-slim."
    )
    profile: str | None = Field(default=None, min_length=1, description="The profile in your AWS configuration.")
    assume_role_arn: Annotated[str | None, ROLE] = Field(default=None, description="A role to take on for all calls.")
    endpoint_url: Annotated[str | None, URL] = Field(default=None, description="Another address of AWS's API.")
    vpc_config: VpcConfig | None = Field(default=None, description="The network of the containers.")
    tags: Tags = Field(default={}, description="Tags for what is made in SageMaker.")

    @model_validator(mode="after")
    def _enough(self) -> Self:
        missing = [name for name in ("region", "execution_role_arn") if self[name] is None]
        if missing and not self.local:
            raise ValueError(f"it needs {' and '.join(missing)}, unless it is local")
        return self


class SageMakerServiceConfig(ServiceConfig):
    """What an endpoint can be told."""

    model_uri: str = Field(min_length=1, description="Where the model is: a path or a URI.")
    image: Annotated[str | None, IMAGE] = Field(
        default=None,
        description="A container image in ECR that answers as SageMaker's do; by default one is built of the model.",
    )
    instance_type: Annotated[str, INSTANCE_TYPE] = Field(default="ml.m5.large", description="The kind of instance.")
    instance_count: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="How many instances, to begin with; by default one, or as few as may be.",
    )
    variants: Annotated[dict[str, Variant], AfterValidator(_possible_variants)] = Field(
        default={}, max_length=10, description="Several kinds of instances in place of one, by a name for each."
    )
    autoscaling: Autoscaling | None = Field(default=None, description="Have instances come and go by load.")
    serverless: Serverless | None = Field(default=None, description="Serverless in place of instances.")
    asynchronous: Asynchronous | None = Field(default=None, description="Asynchronous inference.")
    rollout: Rollout | None = Field(default=None, description="How an update moves the traffic.")
    env: Variables = Field(
        default={},
        max_length=100,
        description="Environment variables of the container; kept encrypted here, readable in SageMaker.",
    )
    data_capture: DataCapture | None = Field(default=None, description="Keep requests and answers in S3.")
    kms_key_id: str | None = Field(default=None, description="The key that encrypts the instances' volumes.")
    volume_size: int | None = Field(default=None, ge=1, le=512, description="GB of each instance's volume.")
    network_isolation: bool = Field(default=False, description="Whether the container is cut off from the network.")
    startup_timeout: int | None = Field(default=None, ge=60, le=3600, description="Seconds to the first good ping.")
    download_timeout: int | None = Field(default=None, ge=60, le=3600, description="Seconds to fetch the model.")
    keep_revisions: int = Field(default=1, ge=1, le=50, description="How many earlier revisions stay in the account.")
    tags: Tags = Field(default={}, description="Tags beside the deployer's.")

    @model_validator(mode="after")
    def _possible_together(self) -> Self:
        given = {name for name in type(self).model_fields if self[name] not in (None, False, {})}
        for field, impossible in _NOT_TOGETHER.items():
            if refused := sorted(given & impossible) if field in given else []:
                raise ValueError(f"an endpoint that has {field} takes no {', '.join(refused)}")
        if self.variants and self.rollout is not None and self.rollout.strategy == "rolling":
            raise ValueError("a rolling rollout is for endpoints without variants")
        return self

    @model_validator(mode="after")
    def _scales_possibly(self) -> Self:
        if (wanted := self.autoscaling) is None:
            return self
        if wanted.minimum == 0 and self.asynchronous is None:
            raise ValueError("autoscaling.minimum is 0 for asynchronous endpoints alone; serverless ones need none")
        for fleet in self.fleets.values():
            if not max(1, wanted.minimum) <= fleet.instance_count <= wanted.maximum:
                raise ValueError(
                    f"{fleet.instance_count} instances to begin with are not between autoscaling's minimum and maximum"
                )
        return self

    @property
    def kind(self) -> Literal["serverless", "asynchronous", "real-time"]:
        """What an endpoint is from its creation on: an update cannot change it."""
        if self.serverless is not None:
            return "serverless"
        return "asynchronous" if self.asynchronous is not None else "real-time"

    @property
    def fleets(self) -> dict[str, Variant]:
        """The instances by the name of their production variant; empty for a serverless endpoint."""
        if self.serverless is not None:
            return {}
        if self.variants:
            return self.variants
        fewest = 1 if self.autoscaling is None else max(1, self.autoscaling.minimum)
        return {VARIANT: Variant(instance_type=self.instance_type, instance_count=self.instance_count or fewest)}

    @property
    def instance_types(self) -> set[str]:
        """The types of all instances; empty for a serverless endpoint."""
        return {fleet.instance_type for fleet in self.fleets.values()}
