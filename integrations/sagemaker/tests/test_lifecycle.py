"""What the deployer makes in AWS, keeps, changes and removes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stackkit_sagemaker.flavor import SageMakerModelDeployerFlavor

from stackkit import Client
from stackkit.environments.files import list_files
from stackkit.errors import DeploymentError, DeploymentTimeoutError, ModelError, PlatformUnavailableError, StackkitError
from stackkit.model_deployers import BaseModelDeployer, Service, ServiceState
from stackkit.stack import ComponentType

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serving"
BUCKET = "stackkit-sagemaker-us-east-1-123456789012"


def tags_of(aws: Any, arn: str) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in aws.client("sagemaker").list_tags(ResourceArn=arn)["Tags"]}


def test_everything_is_named_and_tagged_by_the_service(
    aws: Any, client: Client, deploy: Callable[..., Service]
) -> None:
    client.update_component(ComponentType.MODEL_DEPLOYER, "aws", {"tags": {"team": "ml", "stage": "test"}})
    service = deploy(deployer=client.model_deployer("aws"), tags={"stage": "live"})
    names = aws.names()
    assert names["endpoints"] == [f"stackkit-{service.id}"]
    assert names["configs"] == names["models"] == [f"stackkit-{service.id}-r1-1"]
    (key,) = names["objects"]
    assert key.startswith(f"stackkit/{service.id}/models/")
    sagemaker = aws.client("sagemaker")
    for arn in (
        sagemaker.list_endpoints()["Endpoints"][0]["EndpointArn"],
        sagemaker.list_endpoint_configs()["EndpointConfigs"][0]["EndpointConfigArn"],
        sagemaker.list_models()["Models"][0]["ModelArn"],
    ):
        found = {key: value for key, value in tags_of(aws, arn).items() if not key.startswith("stackkit:kept-")}
        assert found == {"stackkit:service": service.id, "team": "ml", "stage": "live"}


def test_what_is_known_of_it_is_shown(deploy: Callable[..., Service], aws: Any) -> None:
    service = deploy(instance_count=2).refresh()
    assert service.prediction_url == f"{aws.url}/endpoints/stackkit-{service.id}/invocations"
    assert service.platform == "AWS account 123456789012, us-east-1"
    info = service.deployer.do_info(service)
    assert info["ENDPOINT"] == f"stackkit-{service.id}"
    assert info["INSTANCES"] == "AllTraffic: 2 of 2, weight 1.0"
    assert info["ARCHIVE"].startswith(f"s3://{BUCKET}/stackkit/{service.id}/models/")


def test_a_stop_keeps_all_but_the_endpoint(aws: Any, deploy: Callable[..., Service]) -> None:
    service = deploy()
    before = aws.names()
    service.stop()
    assert aws.names() == {kind: names for kind, names in before.items() if kind != "endpoints"}


def test_what_is_in_s3_is_not_uploaded_again(
    aws: Any, deploy: Callable[..., Service], models: dict[str, str], client: Client
) -> None:
    service = deploy()
    written = aws.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"][0]["LastModified"]
    service.stop()
    for kept in client.settings.models_folder.glob("*/one.py"):  # as on a colleague's machine
        kept.unlink()
    service.start()
    assert service.is_running
    assert aws.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"][0]["LastModified"] == written


def test_bytes_that_are_nowhere_are_told(aws: Any, deploy: Callable[..., Service], client: Client) -> None:
    service = deploy()
    service.stop()
    (key,) = aws.names()["objects"]
    aws.client("s3").delete_object(Bucket=BUCKET, Key=key)
    for kept in client.settings.models_folder.glob("*/one.py"):
        kept.unlink()
    with pytest.raises(ModelError, match="not on this machine"):
        service.start()


def test_a_large_model_goes_in_parts(aws: Any, deploy: Callable[..., Service], tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "model.joblib").write_bytes(os.urandom(20 << 20))
    deploy(model_uri=str(folder))
    (item,) = aws.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]
    assert item["ETag"].endswith('-3"')
    assert "uploads" not in aws.names()


def test_a_model_that_changes_while_it_is_uploaded_leaves_no_part_of_it(
    aws: Any, deploy: Callable[..., Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "model.joblib").write_bytes(os.urandom(20 << 20))
    longer = [replace(file, size=file.size + 1) for file in list_files(folder)]
    monkeypatch.setattr("stackkit_sagemaker.storage.list_files", lambda path: longer)
    with pytest.raises(ModelError, match="changed"):
        deploy(model_uri=str(folder))
    assert aws.names() == {}


def test_an_upload_tells_how_far_it_is(deploy: Callable[..., Service], tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "model.joblib").write_bytes(os.urandom(20 << 20))
    told: list[str] = []
    deploy(model_uri=str(folder), progress=told.append)
    percents = [int(text.split()[-2]) for text in told if text.startswith("uploading ")]
    assert percents == sorted(set(percents))
    assert (percents[0], percents[-1]) == (0, 100)
    assert len(percents) > 10


def test_in_another_region_the_bucket_is_made_there(aws: Any, client: Client, deploy: Callable[..., Service]) -> None:
    client.update_component(ComponentType.MODEL_DEPLOYER, "aws", {"region": "eu-west-1"})
    deploy(client.model_deployer("aws"))
    bucket = "stackkit-sagemaker-eu-west-1-123456789012"
    assert aws.client("s3").get_bucket_location(Bucket=bucket)["LocationConstraint"] == "eu-west-1"


# Updates


def test_an_update_goes_through_sagemaker_by_the_rollout(
    aws: Any, deploy: Callable[..., Service], models: dict[str, str]
) -> None:
    first = deploy()
    created = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{first.id}")["CreationTime"]
    aws.make_alarm("errors")
    rollout = {"strategy": "canary", "step": 20, "wait": 60, "alarms": ["errors"]}
    service = deploy(model_uri=models["two"], rollout=rollout, replace=True)
    found = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{service.id}")
    assert found["CreationTime"] == created, "it was made anew"
    assert found["EndpointConfigName"].startswith(f"stackkit-{service.id}-r2-")
    assert found["LastDeploymentConfig"]["AutoRollbackConfiguration"] == {"Alarms": [{"AlarmName": "errors"}]}
    assert (service.revision, service.is_running) == (2, True)


def test_an_update_that_sagemaker_takes_back_leaves_the_old_revision(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer
) -> None:
    service = deploy()
    with pytest.raises(DeploymentError, match="did not pass the ping health check"):
        deploy(image=f"{IMAGE}:broken", replace=True)
    seen = deployer.get_model_server(service)
    assert (seen.is_running, seen.revision, seen.config["image"]) == (True, 1, f"{IMAGE}:1")
    # the number is given again, to another configuration
    again = deploy(image=f"{IMAGE}:2", replace=True)
    found = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{service.id}")
    (variant,) = aws.client("sagemaker").describe_endpoint_config(EndpointConfigName=found["EndpointConfigName"])[
        "ProductionVariants"
    ]
    model = aws.client("sagemaker").describe_model(ModelName=variant["ModelName"])
    assert (again.revision, model["PrimaryContainer"]["Image"]) == (2, f"{IMAGE}:2")


@pytest.mark.parametrize("code", ["ResourceLimitExceeded", "AccessDeniedException"])
def test_an_update_that_sagemaker_refuses_costs_no_request(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer, code: str
) -> None:
    service = deploy()
    created = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{service.id}")["CreationTime"]
    aws.behave(faults={"UpdateEndpoint": {"code": code, "message": "not for you", "times": 1}})
    with pytest.raises(StackkitError, match="not for you"):
        deploy(image=f"{IMAGE}:2", replace=True)
    seen = deployer.get_model_server(service)
    assert (seen.is_running, seen.revision) == (True, 1)
    now = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{service.id}")["CreationTime"]
    assert now == created, "it was stopped and made anew"
    assert deploy(image=f"{IMAGE}:2", replace=True).revision == 2


def test_another_kind_of_endpoint_is_made_anew(aws: Any, deploy: Callable[..., Service]) -> None:
    first = deploy()
    second = deploy(serverless={"memory_mb": 1024}, replace=True)
    assert (second.uuid, second.is_running, second.prediction_url) == (first.uuid, True, first.prediction_url)
    found = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{second.id}")
    assert "CurrentServerlessConfig" in found["ProductionVariants"][0]


def test_as_many_earlier_revisions_stay_as_asked(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer, models: dict[str, str]
) -> None:
    service = deploy()
    for image in ("2", "3", "4"):
        deploy(model_uri=models["two"], image=f"{IMAGE}:{image}", replace=True)
    names = aws.names()
    assert [name.split("-r")[1].split("-")[0] for name in names["models"]] == ["3", "4"]
    assert names["configs"] == names["models"]
    assert len(names["objects"]) == 1, "the first model's archive is of no revision that is kept"

    deployer.rollback_model_server(service, to=1, timeout=30)
    seen = deployer.get_model_server(service)
    assert (seen.revision, seen.is_running, seen.config["image"]) == (5, True, f"{IMAGE}:1")
    assert len(aws.names()["objects"]) == 2


# Deleting


@pytest.mark.parametrize("kind", ["models", "configs"])
def test_what_is_not_ours_is_refused_by_name(aws: Any, deploy: Callable[..., Service], kind: str) -> None:
    service = deploy()
    foreign, sagemaker = f"stackkit-{service.id}-by-hand", aws.client("sagemaker")
    if kind == "models":
        sagemaker.create_model(ModelName=foreign, ExecutionRoleArn="arn:aws:iam::123456789012:role/x")
    else:
        (model,) = aws.names()["models"]
        variant = {"VariantName": "v", "ModelName": model, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        sagemaker.create_endpoint_config(EndpointConfigName=foreign, ProductionVariants=[variant])
    with pytest.raises(DeploymentError, match=f"{foreign} was not made by stackkit"):
        service.delete(timeout=30)
    assert foreign in aws.names()[kind]
    if kind == "models":
        sagemaker.delete_model(ModelName=foreign)
    else:
        sagemaker.delete_endpoint_config(EndpointConfigName=foreign)
    service.delete()
    assert aws.names() == {}


def test_an_endpoint_without_our_tag_is_not_stopped(aws: Any, deploy: Callable[..., Service]) -> None:
    service = deploy()
    arn = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{service.id}")["EndpointArn"]
    aws.client("sagemaker").delete_tags(ResourceArn=arn, TagKeys=["stackkit:service"])
    with pytest.raises(DeploymentError, match=r"endpoint stackkit-\S+ was not made by stackkit"):
        service.stop(timeout=30)
    assert "endpoints" in aws.names()


@pytest.mark.parametrize("gone", ["config", "model", "object", "bucket"])
def test_a_deletion_removes_whatever_is_still_there(aws: Any, deploy: Callable[..., Service], gone: str) -> None:
    service = deploy()
    service.stop()
    names, sagemaker, s3 = aws.names(), aws.client("sagemaker"), aws.client("s3")
    if gone in ("config", "model"):
        sagemaker.delete_endpoint_config(EndpointConfigName=names["configs"][0])
    if gone == "model":
        sagemaker.delete_model(ModelName=names["models"][0])
    if gone in ("object", "bucket"):
        s3.delete_object(Bucket=BUCKET, Key=names["objects"][0])
    if gone == "bucket":
        s3.delete_bucket(Bucket=BUCKET)
    service.delete()
    assert aws.names() == {}


def test_an_upload_that_was_cut_off_goes_with_the_service(aws: Any, deploy: Callable[..., Service]) -> None:
    service = deploy()
    upload = {"Bucket": BUCKET, "Key": f"stackkit/{service.id}/models/ab/model.tar.gz"}
    started = aws.client("s3").create_multipart_upload(**upload)
    aws.client("s3").upload_part(**upload, UploadId=started["UploadId"], PartNumber=1, Body=b"half of it")
    assert "uploads" in aws.names()
    service.delete()
    assert aws.names() == {}


def test_other_services_objects_stay(aws: Any, deploy: Callable[..., Service]) -> None:
    first, second = deploy(), deploy(model_name="other")
    first.delete()
    assert all(second.id in name for names in aws.names().values() for name in names)
    assert second.refresh().is_running


# Failures


def test_an_endpoint_that_has_failed_is_retried_and_deleted(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer
) -> None:
    with pytest.raises(DeploymentError, match="ping health check") as raised:
        deploy(image=f"{IMAGE}:broken")
    assert "the model cannot be loaded" in raised.value.message, "the end of the log is part of it"
    (service,) = deployer.find_model_server()
    assert service.status.state is ServiceState.ERROR
    assert "endpoints" not in aws.names()
    assert deploy(replace=True).is_running
    service.delete()
    assert aws.names() == {}


def test_an_endpoint_that_is_stuck_is_deleted_once_sagemaker_lets_it_go(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SageMakerModelDeployerFlavor, "clean_up_seconds", 0.1)
    aws.behave(ticks=10**6)
    with pytest.raises(DeploymentTimeoutError, match="SageMaker is creating the endpoint"):
        deploy(timeout=0.3)
    (service,) = deployer.find_model_server()
    assert service.status.details["endpoint"]["status"] == "Creating"
    with pytest.raises(DeploymentTimeoutError):
        service.delete(timeout=0.1)
    aws.behave(ticks=0)
    service.refresh()
    service.delete(timeout=30)
    assert aws.names() == {}


def test_a_cancelled_update_leaves_the_endpoint_serving(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer
) -> None:
    service = deploy()
    created = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{service.id}")["CreationTime"]

    def cancel(text: str) -> None:
        if "updating the endpoint" in text:
            raise KeyboardInterrupt

    aws.behave(ticks=10**6)
    with pytest.raises(KeyboardInterrupt):
        deploy(image=f"{IMAGE}:2", replace=True, progress=cancel)
    seen = deployer.get_model_server(service)
    assert (seen.is_running, seen.revision) == (True, 1)
    aws.behave(ticks=1)
    seen.refresh()
    assert "update was interrupted" in seen.refresh().status.message, "SageMaker has finished it after all"
    again = deploy(image=f"{IMAGE}:2", replace=True)
    assert (again.is_running, again.revision) == (True, 2)
    now = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{service.id}")["CreationTime"]
    assert now == created


def test_an_update_that_takes_too_long_and_is_finished_after_all_is_told(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SageMakerModelDeployerFlavor, "clean_up_seconds", 0.1)
    service = deploy()
    aws.behave(ticks=10**6)
    with pytest.raises(DeploymentTimeoutError):
        deploy(image=f"{IMAGE}:2", replace=True, timeout=0.3)
    aws.behave(ticks=1)
    for _ in range(3):
        seen = deployer.get_model_server(service)
    assert "update was interrupted" in seen.status.message
    # asked for again, it does not take what is served for what was asked
    again = deploy(image=f"{IMAGE}:3", replace=True)
    found = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{service.id}")
    model = aws.client("sagemaker").describe_model(ModelName=found["EndpointConfigName"])
    assert (again.is_running, model["PrimaryContainer"]["Image"]) == (True, f"{IMAGE}:3")


# Half a start


@pytest.mark.parametrize("call", ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"])
def test_a_start_that_was_cut_off_is_finished_by_the_next(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer, call: str
) -> None:
    aws.behave(faults={call: {"code": "ValidationException", "message": "not today", "times": 1}})
    with pytest.raises(DeploymentError, match="not today"):
        deploy()
    (service,) = deployer.find_model_server()
    assert service.status.state is ServiceState.ERROR
    assert deploy().id == service.id
    names = aws.names()
    assert [len(found) for found in names.values()] == [1, 1, 1, 1]


def test_a_start_that_is_on_its_way_is_gone_on_with(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer
) -> None:
    aws.behave(ticks=10**6)
    service = deploy(timeout=0)
    before = aws.names()
    created = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{service.id}")["CreationTime"]
    aws.behave(ticks=3)
    assert deploy().is_running
    found = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{service.id}")
    assert (found["CreationTime"], aws.names()) == (created, before), "something was made anew"
    assert deploy(image=f"{IMAGE}:2", replace=True).revision == 2


def test_an_update_that_is_on_its_way_is_gone_on_with(aws: Any, deploy: Callable[..., Service]) -> None:
    service = deploy()
    aws.behave(ticks=10**6)
    deploy(image=f"{IMAGE}:2", replace=True, timeout=0)
    before = aws.names()
    created = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{service.id}")["CreationTime"]
    aws.behave(ticks=3)
    again = deploy(image=f"{IMAGE}:2")
    assert (again.is_running, again.revision) == (True, 2)
    found = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{service.id}")
    assert (found["CreationTime"], aws.names()) == (created, before), "something was made anew"


def test_a_start_that_was_given_up_is_not_gone_on_with(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = deploy()
    expired: list[str] = []
    monkeypatch.setattr("stackkit.model_deployers.Operation.remaining", lambda self: 0.0 if expired else 60.0)

    def get_stuck(text: str) -> None:
        if "creating the endpoint" in text and not expired:
            expired.append(text)
            aws.behave(ticks=10**6)

    with pytest.raises(DeploymentTimeoutError, match="creating the endpoint"):
        deploy(image=f"{IMAGE}:2", serverless={}, replace=True, progress=get_stuck)
    expired.clear()
    aws.behave(ticks=1)
    again = deploy(image=f"{IMAGE}:3", serverless={}, replace=True)
    assert again.is_running
    found = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{service.id}")
    model = aws.client("sagemaker").describe_model(ModelName=found["EndpointConfigName"])
    assert model["PrimaryContainer"]["Image"] == f"{IMAGE}:3"


def test_a_start_whose_answer_was_lost_is_one(
    aws: Any, deploy: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda seconds: None))
    lost = {"code": "ThrottlingException", "times": 1, "is_done": True}
    aws.behave(faults=dict.fromkeys(("CreateModel", "CreateEndpointConfig", "CreateEndpoint"), lost))
    assert deploy().is_running
    assert [len(found) for found in aws.names().values()] == [1, 1, 1, 1]


def test_preparing_and_starting_twice_makes_one(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("do_prepare", "do_start", "do_update", "do_stop", "do_delete"):
        once = getattr(deployer, name)
        monkeypatch.setattr(deployer, name, lambda operation, once=once: (once(operation), once(operation)))
    service = deploy()
    assert [len(found) for found in aws.names().values()] == [1, 1, 1, 1]
    assert deploy(image=f"{IMAGE}:2", replace=True).revision == 2
    service.delete()
    assert aws.names() == {}


def test_many_are_asked_about_with_one_list(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer
) -> None:
    services = [deploy(model_name=f"m{number}") for number in range(4)]
    services[0].stop()
    seen = deployer.do_check(services)
    assert set(seen) == {service.id for service in services[1:]}
    assert {each.state for each in seen.values()} == {ServiceState.ACTIVE}
    aws.behave(faults={"ListEndpoints": {"code": "AccessDeniedException", "times": 1}})
    with pytest.raises(PlatformUnavailableError, match="ListEndpoints is not allowed"):
        deployer.do_check(services)
