"""The parts of an endpoint's configuration that are more than a field.

Limits are those of the API reference (docs.aws.amazon.com/sagemaker/latest/APIReference); what only an account can
tell, such as its quotas, is left to SageMaker to refuse.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stackkit.stack.configs import Config

from .texts import INSTANCE_TYPE, S3_URI


class VpcConfig(Config):
    """The network in which the containers run."""

    subnets: list[str] = Field(min_length=1, max_length=16, description="Subnet IDs.")
    security_group_ids: list[str] = Field(min_length=1, max_length=5, description="Security group IDs.")


class Serverless(Config):
    """Serverless inference: no instances, billed by the request."""

    memory_mb: Literal[1024, 2048, 3072, 4096, 5120, 6144] = Field(default=2048, description="Memory in MB.")
    max_concurrency: int = Field(default=5, ge=1, le=200, description="Requests at a time.")
    provisioned_concurrency: int | None = Field(default=None, ge=1, le=200, description="Kept warm.")

    @model_validator(mode="after")
    def _within_limits(self) -> Self:
        if self.provisioned_concurrency is not None and self.provisioned_concurrency > self.max_concurrency:
            raise ValueError(
                f"its provisioned_concurrency {self.provisioned_concurrency} is above its max_concurrency "
                f"{self.max_concurrency}"
            )
        return self


class Asynchronous(Config):
    """Asynchronous inference: requests and answers are objects in S3."""

    output: Annotated[str | None, S3_URI] = Field(default=None, description="Where answers go; by default our bucket.")
    failures: Annotated[str | None, S3_URI] = Field(default=None, description="Where failures go.")
    max_concurrency: int | None = Field(default=None, ge=1, le=1000, description="Requests at a time per instance.")
    success_topic: str | None = Field(default=None, description="The ARN of an SNS topic told of answers.")
    error_topic: str | None = Field(default=None, description="The ARN of an SNS topic told of failures.")


class Metric(Config):
    """A metric in CloudWatch."""

    name: str = Field(min_length=1, max_length=255, description="Its name, such as CPUUtilization.")
    namespace: str = Field(default="/aws/sagemaker/Endpoints", min_length=1, description="Where it is.")
    statistic: Literal["Average", "Minimum", "Maximum", "SampleCount", "Sum"] = Field(default="Average")
    dimensions: dict[str, str] = Field(
        default={}, max_length=30, description="What it is of; by default the endpoint and its variant."
    )


class Autoscaling(Config):
    """Instances come and go so that a metric stays at ``target``, for each production variant.

    Without ``metric`` it is the requests that an instance gets in a minute, and of an asynchronous endpoint those
    that wait for each instance. An asynchronous endpoint may go down to a ``minimum`` of no instances.
    """

    minimum: int = Field(default=1, ge=0, le=1000, description="The fewest instances.")
    maximum: int = Field(ge=1, le=1000, description="The most instances.")
    target: float = Field(gt=0, description="What the metric is kept at.")
    metric: Metric | None = Field(default=None, description="Another metric.")
    scale_out_cooldown: int = Field(default=60, ge=0, le=3600, description="Seconds between two additions.")
    scale_in_cooldown: int = Field(default=300, ge=0, le=3600, description="Seconds between two removals.")

    @model_validator(mode="after")
    def _a_range(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError(f"its minimum {self.minimum} is above its maximum {self.maximum}")
        return self


class Variant(Config):
    """A production variant: instances of one type, that get a share of the requests."""

    instance_type: Annotated[str, INSTANCE_TYPE] = Field(description="The kind of instance.")
    instance_count: int = Field(default=1, ge=1, le=1000, description="How many instances.")
    weight: float = Field(default=1.0, gt=0, description="Its share, compared with the others' weights.")


class DataCapture(Config):
    """Keeps requests and answers in S3."""

    destination: Annotated[str, S3_URI] = Field(description="Where they are kept.")
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
