"""Batch transforms: SageMaker runs the container over data in S3, on instances that go when it is done.

Everything of a transform bears its job's name: the job, its model, and the model's bytes in S3 or ECR. No row names
them; so a note in S3, made before anything else and removed after it, says what the transform is to be. By that what is
left behind by whoever was killed is listed, goes on when it is asked for again, and can be removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from botocore.exceptions import ClientError
from pydantic import Field, model_validator

from stackkit.errors import NotSupportedError, StackkitError
from stackkit.model_deployers import ModelSource, Progress, Transform, TransformConfig, TransformState

from . import definitions, preflight
from .clients import Clients
from .config import SageMakerModelDeployerConfig
from .errors import is_missing, is_refusal
from .names import tags
from .notes import Notes
from .registry import platform_of
from .resources import Resources
from .sources import Sources
from .texts import IMAGE, INSTANCE_TYPE, S3_URI, Tags, Variables

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

_MODEL = "STACKKIT_TRANSFORM_MODEL"
_MOST_QUESTIONS = 16
_MOST_MEGABYTES = 100  # of all requests that are on their way to an instance
_STATES = {
    "InProgress": TransformState.RUNNING,
    "Stopping": TransformState.STOPPING,
    "Completed": TransformState.COMPLETED,
    "Failed": TransformState.FAILED,
    "Stopped": TransformState.STOPPED,
}


class SageMakerTransformConfig(TransformConfig):
    """What a batch transform can be told."""

    input_uri: Annotated[str, S3_URI] = Field(
        description="The object, or what the names of several begin with: s3://BUCKET/PREFIX."
    )
    output_uri: Annotated[str, S3_URI] = Field(description="Where each object's answers go: s3://BUCKET/FOLDER.")
    image: Annotated[str | None, IMAGE] = Field(
        default=None,
        description="A container image in ECR that answers as SageMaker's do; by default one is built of the model.",
    )
    instance_type: Annotated[str, INSTANCE_TYPE] = Field(default="ml.m5.large", description="The kind of instance.")
    instance_count: int = Field(default=1, ge=1, le=100, description="How many instances; each takes whole objects.")
    content_type: str = Field(default="text/csv", min_length=1, max_length=256, description="What the objects are.")
    accept: str | None = Field(default=None, max_length=256, description="What the answers are to be.")
    split: Literal["none", "line"] = Field(
        default="none", description="Whether an object is one request, or each of its lines is a record without header."
    )
    max_payload_mb: int = Field(default=6, ge=1, le=100, description="The most of an object in one request, in MB.")
    max_concurrency: int = Field(default=1, ge=1, le=100, description="Requests at a time per instance.")
    request_timeout: int = Field(default=600, ge=1, le=3600, description="Seconds for one request.")
    input_filter: str | None = Field(default=None, max_length=63, description="The part of a record that is asked.")
    output_filter: str | None = Field(default=None, max_length=63, description="The part of an answer that is kept.")
    join_input: bool = Field(default=False, description="Put each record beside its answer.")
    env: Variables = Field(default={}, max_length=100, description="Environment variables of the container.")
    kms_key_id: str | None = Field(default=None, description="The key that encrypts the instances' volumes.")
    tags: Tags = Field(default={}, description="Tags beside the deployer's.")

    @model_validator(mode="after")
    def _within_limits(self) -> Self:
        if self.max_payload_mb * self.max_concurrency > _MOST_MEGABYTES:
            raise ValueError(f"max_payload_mb times max_concurrency may be {_MOST_MEGABYTES} MB at most")
        if self.split == "none" and (self.join_input or self.input_filter or self.output_filter):
            raise ValueError("filters and join_input are for records: they need split=line")
        return self


class Transforms:
    """The batch transforms of a deployer. Every method raises PlatformUnavailableError and DeploymentError."""

    def __init__(
        self, clients: Clients, config: SageMakerModelDeployerConfig, sources: Sources, resources: Resources
    ) -> None:
        self._clients = clients
        self._config = config
        self._sources = sources
        self._resources = resources
        self._notes = Notes(sources.storage)

    def run(self, name: str, config: SageMakerTransformConfig, source: ModelSource, progress: Progress) -> None:
        """Have the job ``name`` run; a no-op when there is one. What was made of it before is used.

        What fails is undone, unless somebody else is at the same; where that does not succeed, it is listed as pending.
        """
        if self._describe(name) is not None:
            return
        preflight.check_instance_types(self._clients, [config.instance_type], shape="TransformInstanceType")
        self._sources.storage.ensure_bucket()
        maker = self._notes.join(name, told(config))
        try:
            self._create(name, config, source, progress)
        except BaseException as error:
            with suppress(StackkitError):  # the first error is the one to be raised
                if self._is_made(name):
                    if isinstance(error, StackkitError):
                        return  # somebody else was quicker
                elif self._notes.leave(name, maker):
                    self._remove(name)
            raise

    def find(self, prefix: str) -> Sequence[Transform]:
        """Our transforms whose name begins with ``prefix``, newest first; pending is what has no job yet."""
        with self._clients.calling("The transforms cannot be listed"):
            pages = self._sagemaker.get_paginator("list_transform_jobs").paginate(
                NameContains=prefix, SortBy="CreationTime", SortOrder="Descending"
            )
            listed = [each["TransformJobName"] for page in pages for each in page["TransformJobSummaries"]]
        noted = self._sources.storage.owners(prefix)
        names = dict.fromkeys([*(name for name in listed if name.startswith(prefix)), *noted])
        with ThreadPoolExecutor(min(_MOST_QUESTIONS, len(names) or 1)) as pool:
            found = [each for each in pool.map(lambda name: self._find(name, name in noted), names) if each is not None]
        return sorted(found, key=lambda each: each.created, reverse=True)

    def end(self, name: str) -> None:
        """Stop the job if it runs, and remove what was made for it but for its answers; a no-op on what is gone."""
        found = self._describe(name)
        if found is not None and found["TransformJobStatus"] == "InProgress":
            with self._clients.calling("The transform was not stopped"):
                try:
                    self._sagemaker.stop_transform_job(TransformJobName=name)
                except ClientError as error:
                    if not is_refusal(error):  # it has ended meanwhile
                        raise
        self._remove(name)

    def _create(self, name: str, config: SageMakerTransformConfig, source: ModelSource, progress: Progress) -> None:
        marked = tags(name, self._config.tags, config.tags)
        image, archive = config.image, None
        if image is None:
            image = self._sources.build(name, source, platform_of([config.instance_type]), progress)
        else:
            archive = self._sources.upload(name, source, progress)
        progress(f"creating the transform {name}")
        self._resources.create_model(
            definitions.container(
                name, source, self._config, image=image, archive=archive, env=config.env, isolated=False, tags=marked
            ),
            secrets=[value.get_secret_value() for value in config.env.values()],
        )
        with self._clients.calling("The transform was not created"):
            self._sagemaker.create_transform_job(**job(name, config, marked))

    def _is_made(self, name: str) -> bool:
        """Whether there is the job; what was made for one that has ended meanwhile goes."""
        found = self._describe(name)
        if found is not None and not _transform(found, False).is_under_way:
            self._remove(name)
        return found is not None

    def _find(self, name: str, has_parts: bool) -> Transform | None:
        found = self._describe(name)
        if found is not None:
            return _transform(found, has_parts)
        noted = self._notes.read(name)
        return None if noted is None else _pending(name, noted)

    def _remove(self, name: str) -> None:
        """Remove what was made for a transform but for its answers, and last of all what tells of it."""
        noted = self._notes.read(name)
        self._resources.remove_model(name, name)
        if noted is not None and noted["is_built"]:  # who gives images needs no rights in ECR
            self._sources.remove_images(name)
        self._sources.remove_archives(name, ())
        self._sources.storage.remove_all(name)

    @property
    def _sagemaker(self) -> SageMakerClient:
        return self._clients.sagemaker

    def _describe(self, name: str) -> dict[str, Any] | None:
        with self._clients.calling("The transform cannot be looked at"):
            try:
                return dict(self._sagemaker.describe_transform_job(TransformJobName=name))
            except ClientError as error:
                if is_missing(error):
                    return None
                raise


class NoTransforms:
    """For a deployer that is local: it has none, and refuses to make one."""

    def run(self, name: str, config: SageMakerTransformConfig, source: ModelSource, progress: Progress) -> None:
        raise NotSupportedError(
            "A deployer that is local has no batch transforms.",
            "Predict on this machine: stackkit predict. Or use a deployer in AWS.",
        )

    def find(self, prefix: str) -> Sequence[Transform]:
        return []

    def end(self, name: str) -> None:
        """Nothing: there is none."""


def told(config: SageMakerTransformConfig) -> dict[str, Any]:
    """What is noted of a transform. It holds no secret."""
    uris = {name: config[name] for name in ("model_uri", "input_uri", "output_uri")}
    return {**uris, "is_built": config.image is None}


def job(name: str, config: SageMakerTransformConfig, marked: list[dict[str, str]]) -> dict[str, Any]:
    """The body of CreateTransformJob, whose model has its name."""
    by_line = config.split == "line"
    body = {
        "TransformJobName": name,
        "ModelName": name,
        "MaxConcurrentTransforms": config.max_concurrency,
        "ModelClientConfig": {"InvocationsTimeoutInSeconds": config.request_timeout},
        "MaxPayloadInMB": config.max_payload_mb,
        "BatchStrategy": "MultiRecord" if by_line else "SingleRecord",
        "Environment": {_MODEL: config.model_uri},  # the one place where it is told again
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": config.input_uri}},
            "ContentType": config.content_type,
            "SplitType": "Line" if by_line else "None",
        },
        "TransformOutput": definitions.given(
            S3OutputPath=config.output_uri,
            Accept=config.accept,
            AssembleWith="Line" if by_line else None,
            KmsKeyId=config.kms_key_id,
        ),
        "TransformResources": definitions.given(
            InstanceType=config.instance_type, InstanceCount=config.instance_count, VolumeKmsKeyId=config.kms_key_id
        ),
        "Tags": marked,
    }
    processing = definitions.given(
        InputFilter=config.input_filter,
        OutputFilter=config.output_filter,
        JoinSource="Input" if config.join_input else None,
    )
    return {**body, "DataProcessing": processing} if processing else body


def _pending(name: str, noted: Mapping[str, str]) -> Transform:
    return Transform(
        name=name,
        state=TransformState.PENDING,
        model_uri=noted["model_uri"],
        input_uri=noted["input_uri"],
        output_uri=noted["output_uri"],
        created=datetime.fromisoformat(noted["created"]),
        message="What it needs is being made, or that was interrupted.",
    )


def _transform(found: Mapping[str, Any], has_parts: bool) -> Transform:
    resources, name = found["TransformResources"], found["TransformJobName"]
    state = _STATES[found["TransformJobStatus"]]
    failure = " ".join(str(found.get("FailureReason") or "").split())
    left = f"What was made for it goes with: stackkit model-deployer models transforms stop {name}."
    return Transform(
        name=name,
        state=state,
        model_uri=found.get("Environment", {}).get(_MODEL, ""),
        input_uri=found["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"],
        output_uri=found["TransformOutput"]["S3OutputPath"],
        created=found["CreationTime"],
        ended=found.get("TransformEndTime"),
        message=failure or (left if has_parts and found.get("TransformEndTime") else ""),
        details={"instances": f"{resources['InstanceCount']} {resources['InstanceType']}"},
    )
