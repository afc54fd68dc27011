"""The policy in the documentation allows the calls that are really made, no fewer and no more."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import pytest

from stackkit.errors import DeploymentError
from stackkit.model_deployers import BaseModelDeployer, Service

ACCOUNT = "us-east-1:123456789012"

NEEDED_BESIDE = {"cloudwatch:DescribeAlarms", "iam:CreateServiceLinkedRole", "iam:PassRole", "sagemaker:AddTags"} | {
    f"ecr:{name}"
    for name in (
        "BatchCheckLayerAvailability",
        "BatchGetImage",
        "CompleteLayerUpload",
        "InitiateLayerUpload",
        "PutImage",
        "UploadLayerPart",
    )
}
"""What creating a model with a role, anything with tags, and autoscaling need beside the calls themselves
(docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-prerequisites.html); and what the Docker Engine asks of
ECR: docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html.
"""


CHOSEN_BY_MOTO = "arn:aws:s3:::sagemaker-output-"
"""Where moto puts the answers of asynchronous endpoints, which SageMaker puts where their configuration says."""

KINDS = {
    "EndpointName": "endpoint",
    "EndpointConfigName": "endpoint-config",
    "ModelName": "model",
    "TransformJobName": "transform-job",
}


def resources(call: Any) -> list[str]:
    """What a call is about, as a policy names it; "*" where an action knows no resources."""
    service, params = call.action.partition(":")[0], call.params
    if service == "sagemaker":
        named = [f"arn:aws:sagemaker:{ACCOUNT}:{KINDS[key]}/{params[key]}" for key in KINDS if key in params]
        return [params["ResourceArn"]] if "ResourceArn" in params else named or ["*"]
    if service == "s3":
        keys = (
            [params["Key"]]
            if "Key" in params
            else [each["Key"] for each in params.get("Delete", {}).get("Objects", ())]
        )
        bucket = f"arn:aws:s3:::{params['Bucket']}"
        return [f"{bucket}/{key}" for key in keys] or [bucket]
    if service == "ecr" and "repositoryName" in params:
        return [f"arn:aws:ecr:{ACCOUNT}:repository/{params['repositoryName']}"]
    if service == "logs":
        return [f"arn:aws:logs:{ACCOUNT}:log-group:{params['logGroupName']}"]
    return [f"arn:aws:iam::123456789012:role/{params['RoleName']}"] if service == "iam" else ["*"]


def use_it_all(aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer) -> None:
    service = deploy()
    deploy(image="serving:2", replace=True)
    with pytest.raises(DeploymentError):
        deploy(image="serving:broken", replace=True)
    deployer.rollback_model_server(service, timeout=30)
    others = [deploy(model_name=f"other{number}") for number in range(3)]
    list(deployer.find_model_server())
    service.predict([[1.0]])
    assert list(service.logs(tail=2))
    assert list(service.logs())
    service.stop()
    service.start()
    later = deploy(model_name="later", asynchronous={})
    aws.answer_later({"data": "[1]"})
    assert later.predict([[1.0]]) == [1]
    built = deploy(model_name="built", image=None)
    scaled = deploy(model_name="scaled", asynchronous={}, autoscaling={"minimum": 0, "maximum": 2, "target": 5})
    deployer.update_model_server(service, image="serving:5", canary=10, timeout=30)
    deployer.update_model_server(service, image="serving:5", canary=20, timeout=30)
    deployer.promote_model_server(service, timeout=30)
    assert not deployer.find_orphans()
    data = {"input_uri": "s3://data/in", "output_uri": "s3://data/out"}
    aws.behave(ticks=6)
    begun = deployer.transforms.run(model_uri=built.source.uri, image="serving:1", wait=False, **data)
    deployer.transforms.stop(begun.name)
    aws.behave(ticks=1)
    bucket = aws.client("s3").list_buckets()["Buckets"][0]["Name"]
    aws.client("s3").create_multipart_upload(Bucket=bucket, Key=f"stackkit/{service.id}/models/a")
    for each in (service, later, built, scaled, *others):
        each.delete()


def test_the_policy_is_neither_too_narrow_nor_too_wide(
    calls: list[Any],
    policy: list[dict[str, Any]],
    aws: Any,
    engine: Any,
    deploy: Callable[..., Service],
    deployer: BaseModelDeployer,
) -> None:
    use_it_all(aws, deploy, deployer)
    allowed = {action for statement in policy for action in statement["Action"]}
    assert allowed == {call.action for call in calls} | NEEDED_BESIDE
    for call in calls:
        for resource in (each for each in resources(call) if not each.startswith(CHOSEN_BY_MOTO)):
            assert any(
                call.action in statement["Action"] and fnmatchcase(resource, statement["Resource"])
                for statement in policy
            ), f"{call.action} of {resource} is not allowed"
