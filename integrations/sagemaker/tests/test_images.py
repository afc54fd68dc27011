"""A model's own image: built when none is given, pushed to ECR, kept as long as a revision needs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from stackkit_sagemaker.config import SageMakerModelDeployerConfig
from stackkit_sagemaker.endpoints import Endpoints
from stackkit_sagemaker.registry import image_tag, platform_of

from stackkit import Client
from stackkit.errors import DeploymentError, ImageError
from stackkit.model_deployers import BaseModelDeployer, ModelSource, Service, ServiceState
from stackkit.stack import ComponentType

HOST = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


def container(aws: Any, service: Service) -> dict[str, Any]:
    found = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{service.id}")
    model = aws.client("sagemaker").describe_model(ModelName=found["EndpointConfigName"])
    return dict(model["PrimaryContainer"])


@pytest.mark.parametrize(
    ("instance_types", "platform"),
    [
        ([], "linux/amd64"),
        (["ml.m5.large", "ml.c5.large"], "linux/amd64"),
        (["ml.g4dn.xlarge"], "linux/amd64"),
        (["ml.inf2.xlarge"], "linux/amd64"),
        (["ml.c7g.large"], "linux/arm64"),
        (["ml.m6gd.large", "ml.c7g.large"], "linux/arm64"),
    ],
    ids=str,
)
def test_graviton_is_arm(instance_types: list[str], platform: str) -> None:
    assert platform_of(instance_types) == platform


@pytest.mark.parametrize(
    ("partition", "region", "domain"),
    [
        ("aws", "eu-west-1", "amazonaws.com"),
        ("aws-us-gov", "us-gov-west-1", "amazonaws.com"),
        ("aws-cn", "cn-north-1", "amazonaws.com.cn"),
        ("aws-eusc", "eusc-de-east-1", "amazonaws.eu"),
        ("aws-of-tomorrow", "us-east-1", "amazonaws.com"),
    ],
)
def test_each_part_of_aws_has_its_own_hosts_and_arns(
    aws: Any, monkeypatch: pytest.MonkeyPatch, partition: str, region: str, domain: str
) -> None:
    role = f"arn:{partition}:iam::123456789012:role/serving"
    hosting = Endpoints(SageMakerModelDeployerConfig(region=region, execution_role_arn=role, endpoint_url=aws.url))
    sts: Any = hosting.clients._client("sts")
    caller = {"Account": "123456789012", "Arn": f"arn:{partition}:sts::123456789012:assumed-role/me/me"}
    monkeypatch.setattr(sts, "get_caller_identity", lambda: caller)
    source = ModelSource("/m", "sha256:ab")
    address = hosting.sources.image_address("id", source, "linux/amd64")
    assert address.startswith(f"123456789012.dkr.ecr.{region}.{domain}/stackkit:stackkit-id-")
    assert hosting.identify().id == f"{partition}:123456789012:{region}"
    arn = f"arn:{partition}:sagemaker:{region}:123456789012:endpoint-config/name"
    assert hosting.resources._config_arn("name") == arn


def test_another_image_has_another_tag() -> None:
    made = [
        image_tag("id", digest, platform, base)
        for digest in ("a", "b")
        for platform in ("linux/amd64", "linux/arm64")
        for base in (None, "python:3.12-slim")
    ]
    assert len(set(made)) == len(made)


def test_it_is_built_once_and_has_the_model_in_it(aws: Any, deploy: Callable[..., Service], engine: Any) -> None:
    service = deploy(image=None, env={"LEVEL": "debug"})
    (built,) = engine.built
    assert built["tag"].startswith(f"{HOST}/stackkit:stackkit-{service.id}-")
    assert container(aws, service) == {"Image": built["tag"], "Environment": {"LEVEL": "debug"}}
    assert "objects" not in aws.names(), "the archive is for images that are given"
    service.stop()
    service.start()
    assert len(engine.built) == 1


def test_images_of_revisions_that_are_not_kept_go(
    aws: Any, deploy: Callable[..., Service], engine: Any, models: dict[str, str]
) -> None:
    service = deploy(image=None)
    deploy(image=None, model_uri=models["two"], replace=True)
    assert len(aws.names()["images"]) == 2
    deploy(image=None, model_uri=models["two"], instance_type="ml.c6g.large", replace=True)
    assert len(aws.names()["images"]) == 2
    assert [built["platform"] for built in engine.built] == ["linux/amd64", "linux/amd64", "linux/arm64"]
    other = deploy(image=None, model_name="other")
    service.delete()
    assert all(other.id in tag for tag in aws.names()["images"])
    other.delete()
    assert aws.names() == {}


def test_one_that_cannot_be_built_leaves_the_old_revision(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer, engine: Any, models: dict[str, str]
) -> None:
    service = deploy(image=None)
    engine.broken = True
    with pytest.raises(ImageError, match="no matching distribution"):
        deploy(image=None, model_uri=models["two"], replace=True)
    seen = deployer.get_model_server(service)
    assert (seen.revision, seen.is_running) == (1, True)


def test_a_repository_of_ones_own(
    aws: Any, client: Client, deploy: Callable[..., Service], deployer: BaseModelDeployer, engine: Any
) -> None:
    client.update_component(ComponentType.MODEL_DEPLOYER, "aws", {"ecr_repository": "team/models"})
    deployer = client.model_deployer("aws")
    with pytest.raises(DeploymentError, match="no repository team/models in ECR"):
        deploy(deployer, image=None)
    (service,) = deployer.find_model_server()
    assert service.status.state is ServiceState.ERROR
    aws.client("ecr").create_repository(repositoryName="team/models")
    assert deploy(deployer, image=None).is_running
    assert engine.built[0]["tag"].startswith(f"{HOST}/team/models:")


def test_without_an_image_of_ours_nothing_is_asked_of_ecr(
    deploy: Callable[..., Service], deployer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = deploy()
    deploy(image="serving:2", replace=True)
    service.delete()
    assert "ecr" not in deployer._hosting.clients._made
