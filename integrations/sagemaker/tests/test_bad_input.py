"""What is wrong is found before anything is made where it can be, and told in one line that says what mends it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse, HeadersDict
from stackkit_sagemaker.clients import Clients

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

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serving:1"
ROLES = "arn:aws:iam::123456789012:role"


@pytest.fixture
def reconfigured(client: Client, deployer: BaseModelDeployer) -> Callable[..., BaseModelDeployer]:
    """The deployer with other attributes."""

    def reconfigured(**attributes: Any) -> BaseModelDeployer:
        client.update_component(ComponentType.MODEL_DEPLOYER, "aws", attributes)
        return client.model_deployer("aws")

    return reconfigured


@pytest.fixture
def logged_out(aws: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> dict[str, str]:
    """Has nobody be known to AWS; the variables that would change that."""
    keys = {name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    for name in keys:
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    return keys


@pytest.mark.usefixtures("logged_out")
def test_without_credentials_nothing_is_begun(deploy: Callable[..., Service], deployer: BaseModelDeployer) -> None:
    with pytest.raises(PlatformUnavailableError, match="Unable to locate credentials") as raised:
        deploy()
    assert "aws sso login" in (raised.value.hint or "")
    assert not deployer.find_model_server(refresh=False)


@pytest.mark.usefixtures("logged_out")
def test_a_role_that_is_to_be_taken_on_without_credentials(deploy: Callable[..., Service], reconfigured: Any) -> None:
    with pytest.raises(PlatformUnavailableError, match="Unable to locate credentials"):
        deploy(reconfigured(assume_role_arn=f"{ROLES}/deployer"))


def test_who_logs_in_meanwhile_is_known_from_then_on(
    deploy: Callable[..., Service], logged_out: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PlatformUnavailableError):
        deploy()
    for name, value in logged_out.items():
        monkeypatch.setenv(name, value)
    assert deploy().is_running, "as for a process that watches"


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


@pytest.mark.parametrize("action", ["STS:assumeRole", "sts:Assume*"])
def test_a_role_trusts_in_whatever_writing(
    aws: Any, deploy: Callable[..., Service], reconfigured: Any, action: str
) -> None:
    trust = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": action}
    document = json.dumps({"Version": "2012-10-17", "Statement": trust})
    aws.client("iam").create_role(RoleName="other", AssumeRolePolicyDocument=document)
    assert deploy(reconfigured(execution_role_arn=f"{ROLES}/other")).is_running


def test_alarms_that_do_not_exist_are_refused_before_anything_is_made(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer
) -> None:
    aws.make_alarm("errors")
    with pytest.raises(DeploymentError, match="no alarm eror to guard") as raised:
        deploy(rollout={"alarms": ["errors", "eror"]})
    assert "rollout.alarms" in (raised.value.hint or "")
    assert not deployer.find_model_server()
    assert aws.names() == {}
    aws.behave(faults={"DescribeAlarms": {"code": "AccessDenied", "times": 1}})
    assert deploy(rollout={"alarms": ["eror"]}).is_running, "who may not look leaves them to SageMaker"


def test_who_may_not_look_at_roles_leaves_them_to_sagemaker(
    aws: Any, deploy: Callable[..., Service], reconfigured: Any
) -> None:
    aws.behave(faults={"GetRole": {"code": "AccessDenied", "times": 10}})
    assert deploy().is_running
    with pytest.raises(DeploymentError, match="Could not assume role") as raised:
        deploy(reconfigured(execution_role_arn=f"{ROLES}/untrusted"), model_name="other")
    assert "\n" not in raised.value.message


QUOTA = "The account-level service limit 'ml.m5.large for endpoint usage' is 0 Instances"
MAKING = ["CreateModel", "CreateEndpointConfig", "AddTags", "CreateEndpoint"]


def refuse(aws: Any, *calls: str) -> None:
    """Have AWS refuse each of these calls once."""
    aws.behave(faults={call: {"code": "ResourceLimitExceeded", "message": QUOTA, "times": 1} for call in calls})


@pytest.mark.parametrize("image", ["serving:1", None], ids=["given", "built"])
@pytest.mark.parametrize("call", MAKING)
def test_what_only_aws_can_tell_is_told_and_undone(
    aws: Any,
    engine: Any,
    deploy: Callable[..., Service],
    deployer: BaseModelDeployer,
    call: str,
    image: str | None,
) -> None:
    refuse(aws, call)
    with pytest.raises(DeploymentError, match="for endpoint usage") as raised:
        deploy(image=image)
    assert "\n" not in raised.value.message
    assert "Service Quotas" in (raised.value.hint or "")
    (service,) = deployer.find_model_server()
    assert service.status.state is ServiceState.ERROR
    assert not {"ARCHIVE", "CONTAINER_IMAGE"} & deployer.do_info(service).keys()
    assert aws.names() == {}
    service.start(timeout=30)
    assert service.is_running
    service.delete()
    assert aws.names() == {}


@pytest.mark.parametrize("image", ["serving:1", None], ids=["given", "built"])
@pytest.mark.parametrize("call", MAKING)
def test_a_start_that_is_refused_keeps_the_bytes_that_served_before(
    aws: Any, engine: Any, deploy: Callable[..., Service], client: Client, call: str, image: str | None
) -> None:
    service = deploy(image=image)
    service.stop()
    refuse(aws, call)
    with pytest.raises(DeploymentError, match="for endpoint usage"):
        service.start()
    assert list(aws.names()) == ["images" if image is None else "objects"]
    for kept in client.settings.models_folder.glob("*/one.py"):  # as on a colleague's machine
        kept.unlink()
    service.start()
    assert service.is_running


def test_what_cannot_be_undone_goes_with_the_next_start(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer
) -> None:
    refuse(aws, "CreateEndpoint", "DeleteModel")
    with pytest.raises(DeploymentError, match="The endpoint was not created"):
        deploy()
    (left,) = aws.names()["models"]
    refuse(aws, "CreateEndpoint")
    with pytest.raises(DeploymentError, match="The endpoint was not created"):
        deploy()
    assert aws.names() == {}, f"{left} and the model's bytes are there, which nothing was ever made of"
    assert deploy().is_running


@pytest.mark.parametrize("call", ["CreateModel", "CreateEndpointConfig", "AddTags", "UpdateEndpoint"])
@pytest.mark.parametrize("canary", [None, 10], ids=["update", "canary"])
def test_a_revision_that_is_refused_leaves_what_was(
    aws: Any,
    deploy: Callable[..., Service],
    deployer: BaseModelDeployer,
    models: dict[str, str],
    call: str,
    canary: int | None,
) -> None:
    service = deploy()
    before = aws.names()
    refuse(aws, call)
    with pytest.raises(DeploymentError, match="for endpoint usage"):
        deployer.update_model_server(service, model_uri=models["two"], canary=canary, timeout=30)
    seen = deployer.get_model_server(service)
    assert (seen.revision, seen.canary, seen.is_running) == (1, None, True)
    assert aws.names() == before
    deployer.update_model_server(service, model_uri=models["two"], canary=canary, timeout=30)
    assert deployer.get_model_server(service).is_running


def test_a_promotion_that_is_refused_loses_nothing_that_is_kept(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer, models: dict[str, str]
) -> None:
    service = deploy()
    deployer.update_model_server(service, model_uri=models["two"], canary=10, timeout=30)
    before = aws.names()
    refuse(aws, "UpdateEndpoint")
    with pytest.raises(DeploymentError, match="for endpoint usage"):
        deployer.promote_model_server(service, timeout=30)
    assert aws.names() == before
    assert deployer.get_model_server(service).is_running


def test_another_kind_that_is_refused_gives_way_to_the_old_one(
    aws: Any, deploy: Callable[..., Service], models: dict[str, str]
) -> None:
    service = deploy()
    objects = aws.names()["objects"]
    refuse(aws, "CreateEndpoint")
    with pytest.raises(DeploymentError, match="for endpoint usage"):
        deploy(model_uri=models["two"], serverless={}, replace=True)
    assert (service.refresh().revision, service.is_running) == (1, True)
    names = aws.names()
    assert names["objects"] == objects
    assert [len(found) for found in names.values()] == [1, 1, 1, 1]


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


def test_throttling_of_whatever_is_asked_first_is_borne(
    aws: Any,
    engine: Any,
    deploy: Callable[..., Service],
    deployer: BaseModelDeployer,
    models: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda seconds: None))
    throttled: set[str] = set()
    make = Clients._client

    def throttle(request: Any, event_name: str, **given: Any) -> AWSResponse | None:
        if event_name in throttled:
            return None
        throttled.add(event_name)
        return AWSResponse(request.url, 503, HeadersDict(), SimpleNamespace(stream=lambda: iter(())))

    def listened_to(clients: Clients, service: str) -> Any:
        found = make(clients, service)
        found.meta.events.register("before-send", throttle, unique_id="throttle")
        return found

    monkeypatch.setattr(Clients, "_client", listened_to)
    aws.make_alarm("errors")
    service = deploy(autoscaling={"maximum": 2, "target": 5})
    deployer.update_model_server(service, model_uri=models["two"], canary=10, timeout=30)
    deployer.promote_model_server(service, timeout=30)
    deploy(image=None, rollout={"alarms": ["errors"]}, replace=True)
    assert service.predict([[1.0]]) == [[1.0]]
    assert list(service.logs(tail=2))
    deployer.transforms.run(model_uri=models["one"], image=IMAGE, input_uri="s3://data/in", output_uri="s3://data/out")
    service.stop()
    service.delete()
    assert aws.names() == {}
    assert len(throttled) > 40, "nothing was throttled"


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
