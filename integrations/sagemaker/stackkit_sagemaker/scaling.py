"""Application Auto Scaling of an endpoint's production variants, and the alarm that wakes one that has no instances.

What is registered goes with the endpoint: SageMaker refuses to remove or change a variant that is registered.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from .clients import Clients
from .config import SageMakerServiceConfig
from .errors import gone_before
from .names import endpoint_name
from .options import Autoscaling

if TYPE_CHECKING:
    from mypy_boto3_application_autoscaling import ApplicationAutoScalingClient
    from mypy_boto3_cloudwatch import CloudWatchClient

_TRACKING, _WAKING = "stackkit-tracking", "stackkit-waking"
_NAMESPACE = "AWS/SageMaker"


class Scaling:
    """Every method raises PlatformUnavailableError and DeploymentError."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def register(self, service_id: str, config: SageMakerServiceConfig) -> None:
        """Have the variants of an endpoint that is in service scale as ``config.autoscaling`` says; re-entrant."""
        wanted = config.autoscaling
        if wanted is None:
            return
        with self._clients.calling("The endpoint's autoscaling was not set up"):
            for variant in config.fleets:
                target = _target(service_id, variant)
                self._autoscaling.register_scalable_target(
                    **target, MinCapacity=wanted.minimum, MaxCapacity=wanted.maximum
                )
                self._autoscaling.put_scaling_policy(
                    **target,
                    PolicyName=_TRACKING,
                    PolicyType="TargetTrackingScaling",
                    TargetTrackingScalingPolicyConfiguration=tracking(service_id, variant, config.kind, wanted),
                )
                if wanted.minimum == 0:
                    self._wake(service_id, variant)
                else:
                    self._let_sleep(service_id, variant)

    def remove(self, service_id: str, variants: Collection[str]) -> None:
        """Have these variants scale no more; a no-op for those that do not."""
        with self._clients.calling("The endpoint's autoscaling was not removed"):
            for variant in variants:
                self._let_sleep(service_id, variant)
                with gone_before():
                    self._autoscaling.deregister_scalable_target(**_target(service_id, variant))  # with its policies

    @property
    def _autoscaling(self) -> ApplicationAutoScalingClient:
        return self._clients.autoscaling

    @property
    def _cloudwatch(self) -> CloudWatchClient:
        return self._clients.cloudwatch

    def _wake(self, service_id: str, variant: str) -> None:
        # a backlog for each instance says nothing while there is none, so that a metric of its own has to
        policy = self._autoscaling.put_scaling_policy(
            **_target(service_id, variant),
            PolicyName=_WAKING,
            PolicyType="StepScaling",
            StepScalingPolicyConfiguration={
                "AdjustmentType": "ChangeInCapacity",
                "MetricAggregationType": "Average",
                "Cooldown": 300,
                "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
            },
        )
        self._cloudwatch.put_metric_alarm(
            AlarmName=waking_alarm(service_id, variant),
            AlarmActions=[policy["PolicyARN"]],
            Namespace=_NAMESPACE,
            MetricName="HasBacklogWithoutCapacity",
            Dimensions=[{"Name": "EndpointName", "Value": endpoint_name(service_id)}],
            Statistic="Average",
            Period=60,
            EvaluationPeriods=2,
            DatapointsToAlarm=2,
            Threshold=1,
            ComparisonOperator="GreaterThanOrEqualToThreshold",
            TreatMissingData="missing",
        )

    def _let_sleep(self, service_id: str, variant: str) -> None:
        with gone_before():
            self._cloudwatch.delete_alarms(AlarmNames=[waking_alarm(service_id, variant)])


def waking_alarm(service_id: str, variant: str) -> str:
    """What the alarm is called that wakes a variant without instances."""
    return f"{endpoint_name(service_id)}-{variant}-waking"


def tracking(service_id: str, variant: str, kind: str, wanted: Autoscaling) -> Any:
    """What a variant's instances follow, as PutScalingPolicy takes it."""
    body: dict[str, Any] = {
        "TargetValue": wanted.target,
        "ScaleOutCooldown": wanted.scale_out_cooldown,
        "ScaleInCooldown": wanted.scale_in_cooldown,
    }
    endpoint = {"EndpointName": endpoint_name(service_id)}
    if (metric := wanted.metric) is not None:
        dimensions = metric.dimensions or {**endpoint, "VariantName": variant}
        return body | {
            "CustomizedMetricSpecification": _metric(metric.namespace, metric.name, metric.statistic, dimensions)
        }
    if kind == "asynchronous":
        backlog = _metric(_NAMESPACE, "ApproximateBacklogSizePerInstance", "Average", endpoint)
        return body | {"CustomizedMetricSpecification": backlog}
    invocations = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
    return body | {"PredefinedMetricSpecification": invocations}


def _metric(namespace: str, name: str, statistic: str, dimensions: dict[str, str]) -> dict[str, Any]:
    return {
        "Namespace": namespace,
        "MetricName": name,
        "Statistic": statistic,
        "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
    }


def _target(service_id: str, variant: str) -> Any:
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint_name(service_id)}/variant/{variant}",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
