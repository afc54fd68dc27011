"""The policy in the documentation allows the calls that are really made, no fewer and no more."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from stackkit.errors import DeploymentError
from stackkit.model_deployers import BaseModelDeployer, Service

PAGE = Path(__file__).parents[3] / "docs" / "sagemaker.md"

S3_ACTIONS = {
    "HeadBucket": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "HeadObject": "s3:GetObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "DeleteObjects": "s3:DeleteObject",
    "PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
}
"""What an operation of S3 needs, where that is called otherwise: docs.aws.amazon.com/service-authorization."""

SERVICES = {"monitoring": "cloudwatch"}
"""What a service is called in policies that signs its requests by another name."""

WITHOUT_PERMISSION = {"sts:GetCallerIdentity"}
"""What everybody may do."""

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


@pytest.fixture
def made(aws: Any, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The actions of all calls that are made through botocore."""
    made: set[str] = set()
    client = boto3.Session.client

    def note(model: Any, **given: Any) -> None:
        service = SERVICES.get(model.service_model.signing_name, model.service_model.signing_name)
        made.add(S3_ACTIONS.get(model.name, f"s3:{model.name}") if service == "s3" else f"{service}:{model.name}")

    def listened_to(*given: Any, **options: Any) -> Any:
        found = client(*given, **options)
        found.meta.events.register("before-call", note)
        return found

    monkeypatch.setattr(boto3.Session, "client", listened_to)
    return made


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
    made: set[str], aws: Any, engine: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer
) -> None:
    use_it_all(aws, deploy, deployer)
    made -= {"s3:ListBuckets", "s3:CreateMultipartUpload"}  # this test's own
    (policy,) = re.findall(r"```json\n(\{\n  \"Version\".*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    allowed = {action for statement in json.loads(policy)["Statement"] for action in statement["Action"]}
    assert allowed == made - WITHOUT_PERMISSION | NEEDED_BESIDE
