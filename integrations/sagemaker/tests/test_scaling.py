"""Instances that come and go: registered once the endpoint is in service, and gone with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.validate import ParamValidator
from pydantic import ValidationError
from stackkit_sagemaker.config import SageMakerServiceConfig
from stackkit_sagemaker.options import Autoscaling
from stackkit_sagemaker.scaling import tracking

from stackkit.errors import DeploymentError
from stackkit.model_deployers import BaseModelDeployer, Service, ServiceState

LOAD = {"minimum": 1, "maximum": 4, "target": 100}
TWO = {"fast": {"instance_type": "ml.c5.large", "weight": 3}, "slow": {"instance_type": "ml.m5.large"}}


def target(aws: Any, service: Service, variant: str = "AllTraffic") -> dict[str, Any] | None:
    resource = f"endpoint/stackkit-{service.id}/variant/{variant}"
    found = aws.client("application-autoscaling").describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[resource]
    )["ScalableTargets"]
    return dict(found[0]) if found else None


def count(aws: Any, service: Service, instances: int) -> None:
    """Have the endpoint have so many instances, as Application Auto Scaling would."""
    aws.client("sagemaker").update_endpoint_weights_and_capacities(
        EndpointName=f"stackkit-{service.id}",
        DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": instances}],
    )
    aws.client("sagemaker").get_waiter("endpoint_in_service").wait(
        EndpointName=f"stackkit-{service.id}", WaiterConfig={"Delay": 0}
    )


def accepted(body: dict[str, Any]) -> dict[str, Any]:
    """``body``, after botocore has found nothing in it that is unknown, missing or of the wrong type."""
    client = boto3.client("application-autoscaling", region_name="us-east-1")
    shape = client.meta.service_model.shape_for("TargetTrackingScalingPolicyConfiguration")
    assert not (errors := ParamValidator().validate(body, shape)).has_errors(), errors.generate_report()
    return body


def test_it_tracks_the_invocations_of_an_instance() -> None:
    assert accepted(tracking("id", "v", "real-time", Autoscaling(maximum=2, target=70))) == {
        "TargetValue": 70,
        "ScaleOutCooldown": 60,
        "ScaleInCooldown": 300,
        "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
    }


@pytest.mark.parametrize(
    ("kind", "metric", "name", "dimensions"),
    [
        ("asynchronous", None, "ApproximateBacklogSizePerInstance", {"EndpointName": "stackkit-id"}),
        (
            "real-time",
            {"name": "CPUUtilization"},
            "CPUUtilization",
            {"EndpointName": "stackkit-id", "VariantName": "v"},
        ),
        ("real-time", {"name": "Queue", "namespace": "Ours", "dimensions": {"q": "1"}}, "Queue", {"q": "1"}),
    ],
    ids=["backlog", "cpu", "own"],
)
def test_it_tracks_another_metric(
    kind: str, metric: dict[str, Any] | None, name: str, dimensions: dict[str, str]
) -> None:
    body = accepted(tracking("id", "v", kind, Autoscaling.model_validate({**LOAD, "metric": metric})))
    found = body["CustomizedMetricSpecification"]
    assert found["MetricName"] == name
    assert {each["Name"]: each["Value"] for each in found["Dimensions"]} == dimensions


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"autoscaling": {"minimum": 3, "maximum": 2, "target": 1}}, "above its maximum"),
        ({"autoscaling": {**LOAD, "minimum": 0}}, "asynchronous endpoints alone"),
        ({"autoscaling": LOAD, "instance_count": 5}, "not between"),
        ({"autoscaling": LOAD, "serverless": {}}, "takes no autoscaling"),
        ({"variants": TWO, "instance_count": 2}, "takes no instance_count"),
        ({"variants": TWO, "rollout": {"strategy": "rolling"}}, "without variants"),
        ({"variants": {"no name": TWO["fast"]}}, "cannot name a variant"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_scale_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SageMakerServiceConfig(model_name="m", model_uri="/m", **fields)


def test_as_many_instances_begin_as_there_must_be() -> None:
    wanted = SageMakerServiceConfig(model_name="m", model_uri="/m", autoscaling=Autoscaling(**{**LOAD, "minimum": 2}))
    assert [fleet.instance_count for fleet in wanted.fleets.values()] == [2]


def test_it_is_registered_once_the_endpoint_answers_and_goes_with_it(aws: Any, deploy: Callable[..., Service]) -> None:
    service = deploy(autoscaling=LOAD)
    found = target(aws, service)
    assert found is not None
    assert (found["MinCapacity"], found["MaxCapacity"]) == (1, 4)
    assert aws.names()["policies"] == [f"stackkit-tracking {found['ResourceId']}"]
    assert "alarms" not in aws.names()
    assert service.deployer.do_info(service)["AUTOSCALING"] == "1 to 4 instances"
    service.stop()
    assert not {"scaling", "policies", "alarms"} & aws.names().keys()
    service.start()
    assert target(aws, service) is not None
    service.delete()
    assert aws.names() == {}


def test_each_variant_scales(aws: Any, deploy: Callable[..., Service]) -> None:
    service = deploy(variants=TWO, autoscaling=LOAD)
    assert len(aws.names()["scaling"]) == 2
    found = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{service.id}")
    weights = {each["VariantName"]: each["CurrentWeight"] for each in found["ProductionVariants"]}
    assert weights == {"fast": 3.0, "slow": 1.0}
    assert (
        service.refresh().deployer.do_info(service)["INSTANCES"] == "fast: 1 of 1, weight 3.0, slow: 1 of 1, weight 1.0"
    )


def test_an_asynchronous_endpoint_sleeps_and_is_woken(aws: Any, deploy: Callable[..., Service]) -> None:
    service = deploy(asynchronous={}, autoscaling={**LOAD, "minimum": 0})
    (alarm,) = aws.client("cloudwatch").describe_alarms(AlarmNames=aws.names()["alarms"])["MetricAlarms"]
    assert alarm["MetricName"] == "HasBacklogWithoutCapacity"
    assert len(alarm["AlarmActions"]) == 1
    count(aws, service, 0)
    assert service.refresh().status.state is ServiceState.SCALED_TO_ZERO
    aws.answer_later({"data": "[1]"})
    assert service.predict([[1.0]]) == [1], "its requests are queued"
    count(aws, service, 1)
    assert service.refresh().status.state is ServiceState.ACTIVE
    service.delete()
    assert aws.names().keys() <= {"objects"}, "moto keeps its answers in a bucket of its own"


def test_one_that_sleeps_is_left_asleep_by_a_start_and_updated_where_it_is(
    aws: Any, deploy: Callable[..., Service], models: dict[str, str]
) -> None:
    fields = {"asynchronous": {}, "autoscaling": {**LOAD, "minimum": 0}}
    service = deploy(**fields)
    created = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{service.id}")["CreationTime"]
    count(aws, service, 0)
    service.start()
    assert service.refresh().status.state is ServiceState.SCALED_TO_ZERO
    assert deploy(model_uri=models["two"], replace=True, **fields).revision == 2
    found = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{service.id}")
    assert found["CreationTime"] == created, "it was made anew"


# Updates


def test_an_update_of_the_model_keeps_the_instances_that_there_are(
    aws: Any, deploy: Callable[..., Service], models: dict[str, str]
) -> None:
    service = deploy(autoscaling=LOAD)
    count(aws, service, 3)
    again = deploy(model_uri=models["two"], autoscaling=LOAD, replace=True)
    found = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{service.id}")
    assert (again.revision, found["ProductionVariants"][0]["DesiredInstanceCount"]) == (2, 3)
    assert target(aws, service) is not None


@pytest.mark.parametrize(
    ("fields", "maximum"),
    [
        ({"autoscaling": {**LOAD, "maximum": 8}}, 8),
        ({"autoscaling": LOAD, "instance_type": "ml.c5.large"}, 4),
        ({}, None),
    ],
    ids=["other limits", "other instances", "none"],
)
def test_an_update_changes_it(
    aws: Any, deploy: Callable[..., Service], fields: dict[str, Any], maximum: int | None
) -> None:
    service = deploy(autoscaling=LOAD)
    assert deploy(replace=True, **fields).revision == 2
    found = target(aws, service)
    assert (None if found is None else found["MaxCapacity"]) == maximum
    service.delete()
    assert aws.names() == {}


def test_an_update_that_fails_leaves_the_old_revision_scaling(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer
) -> None:
    service = deploy(autoscaling=LOAD)
    with pytest.raises(DeploymentError, match="ping health check"):
        deploy(image="serving:broken", instance_type="ml.c5.large", replace=True)
    assert deployer.get_model_server(service).revision == 1
    found = target(aws, service)
    assert found is not None
    assert found["MaxCapacity"] == 4


def test_what_cannot_be_registered_fails_the_start(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer
) -> None:
    aws.behave(faults={"PutScalingPolicy": {"code": "ValidationException", "message": "no such metric", "times": 1}})
    with pytest.raises(DeploymentError, match="autoscaling was not set up: no such metric"):
        deploy(autoscaling=LOAD)
    assert not {"endpoints", "scaling", "policies"} & aws.names().keys()
    assert deploy(autoscaling=LOAD).is_running
