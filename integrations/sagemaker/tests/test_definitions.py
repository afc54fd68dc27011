"""Each request that can be made is one that botocore's description of SageMaker accepts."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.validate import ParamValidator
from pydantic import ValidationError
from stackkit_sagemaker import definitions
from stackkit_sagemaker.config import SageMakerModelDeployerConfig, SageMakerServiceConfig
from stackkit_sagemaker.names import SERVICE_TAG, revision_name
from stackkit_sagemaker.options import Rollout

from stackkit.model_deployers import Service

ID = "11111111-2222-4333-8444-555555555555"
NAME = revision_name(ID, 12, 345)
DEPLOYER = SageMakerModelDeployerConfig(region="us-east-1", execution_role_arn="arn:aws:iam::123456789012:role/serving")
SOURCE = {"uri": "/m", "digest": "sha256:ab", "reference": "/kept/ab/model", "format": "mlflow"}


def accepted(operation: str, body: dict[str, Any]) -> dict[str, Any]:
    """``body``, after botocore has found nothing in it that is unknown, missing or of the wrong type."""
    client = boto3.client("sagemaker", region_name="us-east-1")
    shape = client.meta.service_model.operation_model(operation).input_shape
    assert shape is not None
    assert not (errors := ParamValidator().validate(body, shape)).has_errors(), errors.generate_report()
    return body


def service(**source: Any) -> Service:
    return Service({"id": ID, "source": {**SOURCE, **source}}, None)


def config(**fields: Any) -> SageMakerServiceConfig:
    return SageMakerServiceConfig(**{"model_name": "m", "model_uri": "/m", "image": "repo:1", **fields})


def model(wanted: SageMakerServiceConfig, deployer: SageMakerModelDeployerConfig = DEPLOYER, **source: Any) -> Any:
    return accepted(
        "CreateModel",
        definitions.model(NAME, service(**source), deployer, wanted, image="repo:1", archive="s3://b/model.tar.gz"),
    )


def endpoint_config(wanted: SageMakerServiceConfig) -> Any:
    body = definitions.endpoint_config(NAME, service(), DEPLOYER, wanted, "s3://b/stackkit/id/")
    return accepted("CreateEndpointConfig", body)


def test_names_are_short_enough() -> None:
    assert len(revision_name(ID, 10**6, 10**7)) == 63


def test_a_model() -> None:
    body = model(config(env={"TOKEN": "secret"}, network_isolation=True, tags={"team": "ml"}))
    assert body["PrimaryContainer"] == {
        "Image": "repo:1",
        "ModelDataUrl": "s3://b/model.tar.gz",
        "Environment": {"STACKKIT_SERVING_MODEL": "/opt/ml/model", "TOKEN": "secret"},
    }
    assert body["EnableNetworkIsolation"] is True
    assert {tag["Key"]: tag["Value"] for tag in body["Tags"]} == {SERVICE_TAG: ID, "team": "ml"}


def test_an_image_with_the_model_in_it_is_told_nothing() -> None:
    body = definitions.model(NAME, service(), DEPLOYER, config(image=None), image="built:1", archive=None)
    assert accepted("CreateModel", body)["PrimaryContainer"] == {"Image": "built:1", "Environment": {}}


def test_python_code_is_named_with_its_attribute() -> None:
    body = model(config(), reference="/kept/ab/one.py:predict", format="python")
    assert body["PrimaryContainer"]["Environment"]["STACKKIT_SERVING_MODEL"] == "/opt/ml/model/one.py:predict"


def test_a_model_in_a_network() -> None:
    vpc = {"subnets": ["subnet-1"], "security_group_ids": ["sg-1"]}
    inside = SageMakerModelDeployerConfig(**{**DEPLOYER.model_dump(), "vpc_config": vpc})
    assert model(config(), inside)["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}


def test_an_endpoint_on_instances() -> None:
    body = endpoint_config(
        config(
            instance_type="ml.c5.large",
            instance_count=3,
            volume_size=20,
            startup_timeout=600,
            download_timeout=900,
            kms_key_id="key",
            data_capture={"destination": "s3://captured/here", "percentage": 10},
        )
    )
    assert body["ProductionVariants"] == [
        {
            "VariantName": "AllTraffic",
            "ModelName": NAME,
            "InstanceType": "ml.c5.large",
            "InitialInstanceCount": 3,
            "InitialVariantWeight": 1.0,
            "VolumeSizeInGB": 20,
            "ModelDataDownloadTimeoutInSeconds": 900,
            "ContainerStartupHealthCheckTimeoutInSeconds": 600,
        }
    ]
    assert body["DataCaptureConfig"]["CaptureOptions"] == [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}]


def test_a_serverless_endpoint_has_no_instances() -> None:
    (variant,) = endpoint_config(config(serverless={"memory_mb": 1024}))["ProductionVariants"]
    assert variant["ServerlessConfig"] == {"MemorySizeInMB": 1024, "MaxConcurrency": 5}
    assert "InstanceType" not in variant


def test_an_asynchronous_endpoint_answers_into_its_own_folder() -> None:
    body = endpoint_config(config(asynchronous={"max_concurrency": 4, "error_topic": "arn:aws:sns:us-east-1:1:t"}))
    assert body["AsyncInferenceConfig"] == {
        "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 4},
        "OutputConfig": {
            "S3OutputPath": "s3://b/stackkit/id/answers",
            "S3FailurePath": "s3://b/stackkit/id/failures",
            "NotificationConfig": {"ErrorTopic": "arn:aws:sns:us-east-1:1:t"},
        },
    }


@pytest.mark.parametrize(
    ("rollout", "expected"),
    [
        (None, {}),
        (
            {"strategy": "canary", "step": 5, "wait": 60, "alarms": ["errors"]},
            {
                "BlueGreenUpdatePolicy": {
                    "TrafficRoutingConfiguration": {
                        "Type": "CANARY",
                        "WaitIntervalInSeconds": 60,
                        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 5},
                    },
                    "TerminationWaitInSeconds": 0,
                },
                "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]},
            },
        ),
        (
            {"strategy": "linear", "step": 1, "unit": "instances", "timeout": 900},
            {
                "BlueGreenUpdatePolicy": {
                    "TrafficRoutingConfiguration": {
                        "Type": "LINEAR",
                        "WaitIntervalInSeconds": 300,
                        "LinearStepSize": {"Type": "INSTANCE_COUNT", "Value": 1},
                    },
                    "TerminationWaitInSeconds": 0,
                    "MaximumExecutionTimeoutInSeconds": 900,
                },
            },
        ),
        (
            {"strategy": "rolling", "step": 25},
            {
                "RollingUpdatePolicy": {
                    "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 25},
                    "WaitIntervalInSeconds": 300,
                }
            },
        ),
        (
            {"strategy": "all_at_once", "termination_wait": 120},
            {
                "BlueGreenUpdatePolicy": {
                    "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 300},
                    "TerminationWaitInSeconds": 120,
                }
            },
        ),
    ],
    ids=["default", "canary", "linear", "rolling", "all_at_once"],
)
def test_rollouts(rollout: dict[str, Any] | None, expected: dict[str, Any]) -> None:
    body = definitions.deployment_config(None if rollout is None else Rollout(**rollout))
    accepted("UpdateEndpoint", {"EndpointName": "e", "EndpointConfigName": "c", "DeploymentConfig": body})
    assert body == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"serverless": {}, "asynchronous": {}},
        {"serverless": {}, "network_isolation": True},
        {"serverless": {"memory_mb": 1000}},
        {"serverless": {"max_concurrency": 5, "provisioned_concurrency": 6}},
        {"variants": {"Canary-a": {"instance_type": "ml.m5.large"}}},
        {"variants": {f"a{'-' * 60}b": {"instance_type": "ml.m5.large"}}},
        {"serverless": {}, "rollout": {"strategy": "canary"}},
        {"instance_type": "m5.large"},
        {"instance_count": 0},
        {"image": ""},
        {"image": "with a space"},
        {"rollout": {"strategy": "canary", "step": 60}},
        {"rollout": {"strategy": "linear", "step": 5}},
        {"rollout": {"strategy": "rolling", "termination_wait": 5}},
        {"data_capture": {"destination": "here"}},
        {"tags": {"stackkit:service": "another"}},
        {"tags": {"AWS:x": "y"}},
        {"keep_revisions": 0},
        {"env": {"NO-NAME": "x"}},
        {"env": {"NAME": "x" * 1025}},
        {"asynchronous": {"no_such": 1}},
    ],
    ids=lambda fields: "-".join(map(str, fields)),
)
def test_what_sagemaker_would_refuse_is_refused_before(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"region": "virginia"},
        {"execution_role_arn": "serving"},
        {"bucket": "No_Bucket"},
        {"assume_role_arn": "arn:aws:iam::1:user/me"},
        {"endpoint_url": "localhost:5000"},
        {"vpc_config": {"subnets": []}},
    ],
    ids=str,
)
def test_wrong_attributes_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SageMakerModelDeployerConfig(**{**DEPLOYER.model_dump(), **fields})
