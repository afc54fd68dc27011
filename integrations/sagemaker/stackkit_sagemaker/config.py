"""What configures the SageMaker model deployer and its endpoints.

Limits are those of the API reference (docs.aws.amazon.com/sagemaker/latest/APIReference); what only an account can
tell, such as its quotas, is left to SageMaker to refuse.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from stackkit.model_deployers import ServiceConfig
from stackkit.stack import ComponentConfig
from stackkit.stack.configs import Config

TAG_PREFIX = "stackkit:"
"""How the keys of our own tags begin."""


def _written(pattern: str, words: str) -> AfterValidator:
    """Refuses a text that is not written as ``pattern`` says, in words; None passes."""

    def check(text: str | None) -> str | None:
        if text is not None and re.fullmatch(pattern, text) is None:
            raise ValueError(words)
        return text

    return AfterValidator(check)


_ROLE = _written(r"arn:aws[a-z\-]*:iam::\d{12}:role/[\w+=,.@\-/]+", "write a role as arn:aws:iam::ACCOUNT:role/NAME")
_S3 = _written(r"s3://[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9](/.*)?", "write a place in S3 as s3://BUCKET/FOLDER")
_REGION = _written(r"[a-z]{2,3}(-[a-z]+)+-\d", "write a region as us-east-1 is written")
_BUCKET = _written(
    r"[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]", "write the bucket's name alone: lower case, digits, '-' and '.'"
)
_REPOSITORY = _written(
    r"[a-z0-9]+([._/\-][a-z0-9]+)*", "write the repository's name alone: lower case, digits, and '/', '-', '_' or '.'"
)
_URL = _written(r"https?://\S+", "write a URL: https://HOST")
_IMAGE = _written(r"\S{1,255}", "write an image without spaces: ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG")
_INSTANCE_TYPE = _written(r"ml\.[a-z0-9.\-]+", "write a type of SageMaker's, which begin with ml., such as ml.m5.large")


def _free_of_reserved(tags: dict[str, str]) -> dict[str, str]:
    for key, value in tags.items():
        if not key or len(key) > 128 or len(value) > 256:
            raise ValueError(f"the tag {key!r} is too long or empty: AWS takes keys of 1 to 128 and values of 256")
        if key.lower().startswith(("aws:", TAG_PREFIX)):
            raise ValueError(f"the tag {key!r} begins with a prefix that is reserved")
    return tags


def _possible_variables(variables: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, value in variables.items():
        if re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]{0,1023}", name) is None:
            raise ValueError(f"{name!r} cannot name an environment variable")
        if len(value.get_secret_value()) > 1024:
            raise ValueError(f"the value of {name} is longer than the 1024 characters that SageMaker takes")
    return variables


Tags = Annotated[dict[str, str], AfterValidator(_free_of_reserved)]


class VpcConfig(Config):
    """The network in which the containers run."""

    subnets: list[str] = Field(min_length=1, max_length=16, description="Subnet IDs.")
    security_group_ids: list[str] = Field(min_length=1, max_length=5, description="Security group IDs.")


class Serverless(Config):
    """Serverless inference: no instances, billed by the request."""

    memory_mb: Literal[1024, 2048, 3072, 4096, 5120, 6144] = Field(default=2048, description="Memory in MB.")
    max_concurrency: int = Field(default=5, ge=1, le=200, description="Requests at a time.")
    provisioned_concurrency: int | None = Field(default=None, ge=1, le=200, description="Kept warm.")


class Asynchronous(Config):
    """Asynchronous inference: requests and answers are objects in S3."""

    output: Annotated[str | None, _S3] = Field(default=None, description="Where answers go; by default our bucket.")
    failures: Annotated[str | None, _S3] = Field(default=None, description="Where failures go.")
    max_concurrency: int | None = Field(default=None, ge=1, le=1000, description="Requests at a time per instance.")
    success_topic: str | None = Field(default=None, description="The ARN of an SNS topic told of answers.")
    error_topic: str | None = Field(default=None, description="The ARN of an SNS topic told of failures.")


class DataCapture(Config):
    """Keeps requests and answers in S3."""

    destination: Annotated[str, _S3] = Field(description="Where they are kept.")
    percentage: int = Field(default=100, ge=1, le=100, description="How many of a hundred requests.")
    capture: list[Literal["Input", "Output"]] = Field(default=["Input", "Output"], min_length=1)


class Rollout(Config):
    """How an update moves the traffic: SageMaker's deployment guardrails.

    ``canary`` moves ``step`` first and then the rest, ``linear`` moves ``step`` at a time, both to a fleet of new
    instances; ``rolling`` replaces ``step`` instances at a time. Any of ``alarms`` that goes off within ``wait``
    takes it all back.
    """

    strategy: Literal["all_at_once", "canary", "linear", "rolling"] = Field(default="all_at_once")
    step: int = Field(default=10, ge=1, description="How much at a time.")
    unit: Literal["percent", "instances"] = Field(default="percent", description="What step counts.")
    wait: int = Field(default=300, ge=0, le=3600, description="Seconds to watch the alarms after each step.")
    termination_wait: int = Field(default=0, ge=0, le=3600, description="Seconds to keep the old fleet at the end.")
    timeout: int | None = Field(default=None, ge=600, le=28800, description="Seconds that all of it may take.")
    alarms: list[str] = Field(default=[], max_length=10, description="Names of CloudWatch alarms.")

    @model_validator(mode="after")
    def _within_limits(self) -> Self:
        low, high = {"canary": (1, 50), "linear": (10, 50), "rolling": (5, 50)}.get(self.strategy, (1, 100))
        if self.unit == "percent" and not low <= self.step <= high:
            raise ValueError(f"a {self.strategy} rollout takes steps of {low} to {high} percent")
        if self.strategy == "rolling" and self.termination_wait:
            raise ValueError("a rolling rollout keeps no old fleet, so it takes no termination_wait")
        return self


class SageMakerModelDeployerConfig(ComponentConfig):
    """The attributes of a SageMaker model deployer. Credentials are found the way boto3 finds them."""

    region: Annotated[str, _REGION] = Field(description="The AWS region, such as us-east-1.")
    execution_role_arn: Annotated[str, _ROLE] = Field(description="The role that the containers run with.")
    bucket: Annotated[str | None, _BUCKET] = Field(
        default=None,
        description="Where models are kept; by default one is made: stackkit-sagemaker-REGION-ACCOUNT.",
    )
    ecr_repository: Annotated[str | None, _REPOSITORY] = Field(
        default=None,
        description="Where images that are built go in ECR; by default one is made: stackkit.",
    )
    base_image: str | None = Field(
        default=None, min_length=1, description="What images are built from; by default python:<the model's>-slim."
    )
    profile: str | None = Field(default=None, min_length=1, description="The profile in your AWS configuration.")
    assume_role_arn: Annotated[str | None, _ROLE] = Field(default=None, description="A role to take on for all calls.")
    endpoint_url: Annotated[str | None, _URL] = Field(default=None, description="Another address of AWS's API.")
    vpc_config: VpcConfig | None = Field(default=None, description="The network of the containers.")
    tags: Tags = Field(default={}, description="Tags for everything that is made.")


class SageMakerServiceConfig(ServiceConfig):
    """What an endpoint can be told."""

    model_uri: str = Field(min_length=1, description="Where the model is: a path or a URI.")
    image: Annotated[str | None, _IMAGE] = Field(
        default=None,
        description="A container image in ECR that answers as SageMaker's do; by default one is built of the model.",
    )
    instance_type: Annotated[str, _INSTANCE_TYPE] = Field(default="ml.m5.large", description="The kind of instance.")
    instance_count: int = Field(default=1, ge=1, le=1000, description="How many instances.")
    serverless: Serverless | None = Field(default=None, description="Serverless in place of instances.")
    asynchronous: Asynchronous | None = Field(default=None, description="Asynchronous inference.")
    rollout: Rollout | None = Field(default=None, description="How an update moves the traffic.")
    env: Annotated[dict[str, SecretStr], AfterValidator(_possible_variables)] = Field(
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
        if self.serverless is None:
            return self
        given = {
            "asynchronous": self.asynchronous,
            "rollout": self.rollout,
            "data_capture": self.data_capture,
            "kms_key_id": self.kms_key_id,
            "volume_size": self.volume_size,
            "network_isolation": self.network_isolation or None,
            "startup_timeout": self.startup_timeout,
            "download_timeout": self.download_timeout,
        }
        refused = [name for name, value in given.items() if value is not None]
        if refused:
            raise ValueError(f"a serverless endpoint takes no {', '.join(refused)}")
        return self

    @property
    def kind(self) -> Literal["serverless", "asynchronous", "real-time"]:
        """What an endpoint is from its creation on: an update cannot change it."""
        if self.serverless is not None:
            return "serverless"
        return "asynchronous" if self.asynchronous is not None else "real-time"
