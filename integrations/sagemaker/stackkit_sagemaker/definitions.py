"""What SageMaker is asked to create, as the bodies of its requests: pure functions of a service's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stackkit.model_deployers import ModelSource, Service
from stackkit.serving.container import MODEL_FOLDER, PREFIX

from .config import Rollout, SageMakerModelDeployerConfig, SageMakerServiceConfig
from .names import tags

VARIANT = "AllTraffic"
"""The one production variant of an endpoint."""

_ROUTING = {"all_at_once": "ALL_AT_ONCE", "canary": "CANARY", "linear": "LINEAR"}


def split_reference(source: ModelSource) -> tuple[Path, str]:
    """Where the model's bytes lie on this machine, and the attribute to serve: empty but for Python code.

    The path of a Python module, which is not one, is not absolute.
    """
    reference = source.reference or ""
    if source.format != "python":
        return Path(reference), ""
    path, _, attribute = reference.rpartition(":")
    return Path(path), attribute


def model(
    name: str,
    service: Service,
    deployer: SageMakerModelDeployerConfig,
    config: SageMakerServiceConfig,
    *,
    image: str,
    archive: str | None,
) -> dict[str, Any]:
    """The body of CreateModel. ``config`` has its secrets in place.

    ``archive`` is the URI of the model's archive; None for an image that has the model in it.
    """
    given = {name: value.get_secret_value() for name, value in config.env.items()}
    environment = given if archive is None else {**_serving(service.source), **given}
    body: dict[str, Any] = {
        "ModelName": name,
        "PrimaryContainer": _given(Image=image, ModelDataUrl=archive, Environment=environment),
        "ExecutionRoleArn": deployer.execution_role_arn,
        "EnableNetworkIsolation": config.network_isolation,
        "Tags": tags(service.id, deployer.tags, config.tags),
    }
    if deployer.vpc_config is not None:
        body["VpcConfig"] = {
            "Subnets": deployer.vpc_config.subnets,
            "SecurityGroupIds": deployer.vpc_config.security_group_ids,
        }
    return body


def endpoint_config(
    name: str, service: Service, deployer: SageMakerModelDeployerConfig, config: SageMakerServiceConfig, folder: str
) -> dict[str, Any]:
    """The body of CreateEndpointConfig. ``folder`` is the URI below which the service's own objects lie."""
    variant: dict[str, Any] = {"VariantName": VARIANT, "ModelName": name}
    if config.serverless is not None:
        variant["ServerlessConfig"] = _given(
            MemorySizeInMB=config.serverless.memory_mb,
            MaxConcurrency=config.serverless.max_concurrency,
            ProvisionedConcurrency=config.serverless.provisioned_concurrency,
        )
    else:
        variant |= _given(
            InstanceType=config.instance_type,
            InitialInstanceCount=config.instance_count,
            InitialVariantWeight=1.0,
            VolumeSizeInGB=config.volume_size,
            ModelDataDownloadTimeoutInSeconds=config.download_timeout,
            ContainerStartupHealthCheckTimeoutInSeconds=config.startup_timeout,
        )
    return _given(
        EndpointConfigName=name,
        ProductionVariants=[variant],
        KmsKeyId=config.kms_key_id,
        DataCaptureConfig=_data_capture(config),
        AsyncInferenceConfig=_asynchronous(config, folder),
        Tags=tags(service.id, deployer.tags, config.tags),
    )


def deployment_config(rollout: Rollout | None) -> dict[str, Any]:
    """The part of UpdateEndpoint that says how traffic moves; empty for SageMaker's own way, which is all at once."""
    if rollout is None:
        return {}
    size = {"Type": "CAPACITY_PERCENT" if rollout.unit == "percent" else "INSTANCE_COUNT", "Value": rollout.step}
    body: dict[str, Any] = {}
    if rollout.strategy == "rolling":
        body["RollingUpdatePolicy"] = _given(
            MaximumBatchSize=size,
            WaitIntervalInSeconds=rollout.wait,
            MaximumExecutionTimeoutInSeconds=rollout.timeout,
        )
    else:
        body["BlueGreenUpdatePolicy"] = _given(
            TrafficRoutingConfiguration=_given(
                Type=_ROUTING[rollout.strategy],
                WaitIntervalInSeconds=rollout.wait,
                CanarySize=size if rollout.strategy == "canary" else None,
                LinearStepSize=size if rollout.strategy == "linear" else None,
            ),
            TerminationWaitInSeconds=rollout.termination_wait,
            MaximumExecutionTimeoutInSeconds=rollout.timeout,
        )
    if rollout.alarms:
        body["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": name} for name in rollout.alarms]}
    return body


def _serving(source: ModelSource) -> dict[str, str]:
    """What tells our own model server what to serve, also in an image that has another model in it; others ignore it.

    A folder's files lie in the container's model folder themselves, and so does the one file of any other model.
    """
    path, attribute = split_reference(source)
    return {f"{PREFIX}MODEL": f"{MODEL_FOLDER}/{path.name}:{attribute}" if attribute else MODEL_FOLDER}


def _data_capture(config: SageMakerServiceConfig) -> dict[str, Any] | None:
    if (capture := config.data_capture) is None:
        return None
    return _given(
        EnableCapture=True,
        InitialSamplingPercentage=capture.percentage,
        DestinationS3Uri=capture.destination,
        KmsKeyId=config.kms_key_id,
        CaptureOptions=[{"CaptureMode": mode} for mode in capture.capture],
        CaptureContentTypeHeader={"JsonContentTypes": ["application/json"], "CsvContentTypes": ["text/csv"]},
    )


def _asynchronous(config: SageMakerServiceConfig, folder: str) -> dict[str, Any] | None:
    if (wanted := config.asynchronous) is None:
        return None
    topics = _given(SuccessTopic=wanted.success_topic, ErrorTopic=wanted.error_topic)
    client = _given(MaxConcurrentInvocationsPerInstance=wanted.max_concurrency)
    return _given(
        ClientConfig=client or None,
        OutputConfig=_given(
            S3OutputPath=wanted.output or f"{folder}answers",
            S3FailurePath=wanted.failures or f"{folder}failures",
            KmsKeyId=config.kms_key_id,
            NotificationConfig=topics or None,
        ),
    )


def _given(**fields: Any) -> dict[str, Any]:
    """The fields that have a value: SageMaker takes no null for one that is left out."""
    return {name: value for name, value in fields.items() if value is not None}
