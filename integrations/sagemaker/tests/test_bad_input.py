"""What is wrong is found before anything is made where it can be, and told in one line that says what mends it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from stackkit import Client
from stackkit.errors import (
    DeploymentError,
    DeploymentTimeoutError,
    InvalidConfigError,
    ModelError,
    NotSupportedError,
    PlatformUnavailableError,
    StackkitError,
)
from stackkit.model_deployers import BaseModelDeployer, Service, ServiceState
from stackkit.stack import ComponentType

ROLES = "arn:aws:iam::123456789012:role"


@pytest.fixture
def reconfigured(client: Client, deployer: BaseModelDeployer) -> Callable[..., BaseModelDeployer]:
    """The deployer with other attributes."""

    def reconfigured(**attributes: Any) -> BaseModelDeployer:
        client.update_component(ComponentType.MODEL_DEPLOYER, "aws", attributes)
        return client.model_deployer("aws")

    return reconfigured


def test_without_credentials_nothing_is_begun(
    aws: Any,
    deploy: Callable[..., Service],
    deployer: BaseModelDeployer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(PlatformUnavailableError, match="Unable to locate credentials") as raised:
        deploy()
    assert "aws sso login" in (raised.value.hint or "")
    assert not deployer.find_model_server(refresh=False)


def test_a_profile_that_does_not_exist(aws: Any, deploy: Callable[..., Service], reconfigured: Any) -> None:
    with pytest.raises(PlatformUnavailableError, match="nobody"):
        deploy(reconfigured(profile="nobody"))


def test_a_model_that_is_none_changes_nothing(deploy: Callable[..., Service], deployer: BaseModelDeployer) -> None:
    for uri in ("missing", "json:dumps"):
        with pytest.raises(ModelError):
            deploy(model_uri=uri)
    assert not deployer.find_model_server()


def test_serverless_in_a_network_is_refused_by_name(deploy: Callable[..., Service], reconfigured: Any) -> None:
    deployer = reconfigured(vpc_config={"subnets": ["subnet-1"], "security_group_ids": ["sg-1"]})
    with pytest.raises(NotSupportedError, match="network"):
        deploy(deployer, serverless={})
    assert not deployer.find_model_server()


@pytest.mark.parametrize("attributes", [{}, {"region": "us-east-1"}], ids=str)
def test_a_deployer_in_aws_needs_a_region_and_a_role(client: Client, attributes: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfigError, match=r"needs .*execution_role_arn, unless it is local"):
        client.register_component(ComponentType.MODEL_DEPLOYER, "other", "sagemaker", attributes)


@pytest.mark.parametrize("fields", [{"instance_type": "t2"}, {"serverless": {"memory": 1}}, {"no_such": 1}], ids=str)
def test_wrong_fields_change_nothing(
    deploy: Callable[..., Service], deployer: BaseModelDeployer, fields: dict[str, Any]
) -> None:
    with pytest.raises(InvalidConfigError, match=next(iter(fields))):
        deploy(**fields)
    assert not deployer.find_model_server()


@pytest.mark.parametrize(
    ("changes", "fields", "words"),
    [
        ({"execution_role_arn": f"{ROLES}/nobody"}, {}, "There is no role nobody in the account 123456789012"),
        ({"execution_role_arn": f"{ROLES}/lambda"}, {}, "lambda: it does not trust sagemaker.amazonaws.com"),
        ({"execution_role_arn": "arn:aws:iam::210987654321:role/serving"}, {}, "is of the account 210987654321"),
        ({}, {"instance_type": "ml.m5.larg"}, "knows no instance type 'ml.m5.larg'"),
        ({}, {"variants": {"a": {"instance_type": "ml.m5.larg"}}}, "knows no instance type 'ml.m5.larg'"),
        ({"bucket": "no-such-bucket"}, {}, "There is no bucket no-such-bucket"),
        ({"bucket": "far-away"}, {}, "The bucket far-away is in eu-west-1"),
        (
            {},
            {
                "image": None,
                "variants": {"a": {"instance_type": "ml.m5.large"}, "b": {"instance_type": "ml.c7g.large"}},
            },
            "No one image runs on ml.c7g.large, ml.m5.large",
        ),
    ],
    ids=["no role", "trust", "account", "instance", "variant", "bucket", "region", "architectures"],
)
def test_what_can_be_found_beforehand_changes_nothing(
    aws: Any,
    deploy: Callable[..., Service],
    reconfigured: Any,
    changes: dict[str, Any],
    fields: dict[str, Any],
    words: str,
) -> None:
    aws.client("s3").create_bucket(Bucket="far-away", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    aws.make_role("lambda", "lambda.amazonaws.com")
    deployer = reconfigured(**changes)
    with pytest.raises(StackkitError, match=words) as raised:
        deploy(deployer, **fields)
    assert "\n" not in raised.value.message
    assert raised.value.hint
    assert not deployer.find_model_server(refresh=False)
    assert aws.names() == {}


def test_who_may_not_look_at_roles_leaves_them_to_sagemaker(
    aws: Any, deploy: Callable[..., Service], reconfigured: Any
) -> None:
    aws.behave(faults={"GetRole": {"code": "AccessDenied", "times": 10}})
    assert deploy().is_running
    with pytest.raises(DeploymentError, match="Could not assume role") as raised:
        deploy(reconfigured(execution_role_arn=f"{ROLES}/untrusted"), model_name="other")
    assert "\n" not in raised.value.message


@pytest.mark.parametrize("call", ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"])
def test_what_only_aws_can_tell_is_told_and_nothing_runs(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer, call: str
) -> None:
    words = "The account-level service limit 'ml.m5.large for endpoint usage' is 0 Instances"
    aws.behave(faults={call: {"code": "ResourceLimitExceeded", "message": words, "times": 1}})
    with pytest.raises(DeploymentError, match="for endpoint usage") as raised:
        deploy()
    assert "\n" not in raised.value.message
    assert "Service Quotas" in (raised.value.hint or "")
    (service,) = deployer.find_model_server()
    assert service.status.state is ServiceState.ERROR
    assert "endpoints" not in aws.names()
    service.delete()
    assert aws.names() == {}


def test_a_revision_that_cannot_be_made_ready_leaves_the_old_one_serving(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer
) -> None:
    service = deploy()
    aws.behave(faults={"CreateEndpointConfig": {"code": "ValidationException", "message": "not today", "times": 1}})
    with pytest.raises(DeploymentError, match="not today"):
        deploy(instance_type="ml.c5.large", replace=True)
    seen = deployer.get_model_server(service)
    assert (seen.revision, seen.is_running) == (1, True)
    deploy(instance_type="ml.m5.xlarge", replace=True)
    assert len(aws.names()["models"]) == 2, "what the refused one had made is gone"


def test_a_bucket_of_ones_own_is_used(aws: Any, deploy: Callable[..., Service], reconfigured: Any) -> None:
    aws.client("s3").create_bucket(Bucket="my-models")
    service = deploy(reconfigured(bucket="my-models"))
    assert aws.client("s3").list_objects_v2(Bucket="my-models")["KeyCount"] == 1
    service.delete()
    assert [each["Name"] for each in aws.client("s3").list_buckets()["Buckets"]] == ["my-models"]


def test_where_the_servers_live_cannot_change_while_there_are_some(
    deploy: Callable[..., Service], reconfigured: Any
) -> None:
    deploy()
    with pytest.raises(StackkitError, match="region cannot change"):
        reconfigured(region="eu-west-1")


def test_another_account_leaves_the_services_unknown(
    aws: Any, deploy: Callable[..., Service], reconfigured: Any
) -> None:
    service = deploy()
    elsewhere = reconfigured(assume_role_arn="arn:aws:iam::210987654321:role/deployer")
    assert elsewhere.do_identify().id == "aws:210987654321:us-east-1"
    seen = elsewhere.get_model_server(service)
    assert seen.status.state is ServiceState.UNKNOWN
    with pytest.raises(PlatformUnavailableError, match="lives on AWS account 123456789012"):
        seen.delete()


def test_throttling_is_borne(aws: Any, deploy: Callable[..., Service], monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=waited.append))
    aws.behave(faults={"DescribeEndpoint": {"code": "ThrottlingException", "times": 3}})
    assert deploy().is_running
    assert len(waited) == 3


def test_throttling_without_end_makes_the_services_unknown(
    aws: Any, deploy: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = deploy()
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda seconds: None))
    aws.behave(faults={"DescribeEndpoint": {"code": "ThrottlingException", "times": 100}})
    seen = service.refresh()
    assert seen.status.state is ServiceState.UNKNOWN
    assert "AWS does not keep up" in seen.status.message


def test_credentials_that_expire_while_waiting_and_are_renewed(
    aws: Any, deploy: Callable[..., Service], deployer: Any
) -> None:
    sessions = []

    def progress(text: str) -> None:
        if "creating the endpoint" in text and not sessions:
            sessions.append(deployer._hosting.clients._session)
            aws.behave(ticks=1, faults={"DescribeEndpoint": {"code": "ExpiredTokenException", "times": 1}})

    aws.behave(ticks=3)
    assert deploy(progress=progress).is_running
    assert deployer._hosting.clients._session is not sessions[0], "they were not looked for anew"


def test_credentials_that_stay_expired_are_told(
    aws: Any, deploy: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    expired: list[str] = []
    monkeypatch.setattr("stackkit.model_deployers.Operation.remaining", lambda self: 0.0 if expired else 60.0)

    def progress(text: str) -> None:
        if "creating the endpoint" in text:
            expired.append(text)
            aws.behave(faults={"DescribeEndpoint": {"code": "ExpiredTokenException", "times": 10**6}})

    aws.behave(ticks=10**6)
    with pytest.raises(DeploymentTimeoutError, match="the AWS credentials have expired"):
        deploy(progress=progress)


def test_secrets_are_kept_encrypted_and_reach_the_container(aws: Any, deploy: Callable[..., Service]) -> None:
    service = deploy(env={"TOKEN": "hush-hush"})
    (model,) = aws.client("sagemaker").list_models()["Models"]
    found = aws.client("sagemaker").describe_model(ModelName=model["ModelName"])
    assert found["PrimaryContainer"]["Environment"]["TOKEN"] == "hush-hush"
    assert "hush" not in repr(service.refresh().as_dict()) + repr(service.stored())


def test_a_secret_that_aws_repeats_is_masked(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer
) -> None:
    words = "Value '{TOKEN=hush-hush}' at 'primaryContainer.environment' failed to satisfy constraint"
    aws.behave(faults={"CreateModel": {"code": "ValidationException", "message": words, "times": 1}})
    with pytest.raises(DeploymentError, match=r"TOKEN=\*+") as raised:
        deploy(env={"TOKEN": "hush-hush"})
    assert raised.value.__cause__ is None
    (service,) = deployer.find_model_server()
    assert "hush" not in repr(service.stored()) + repr(raised.value)
