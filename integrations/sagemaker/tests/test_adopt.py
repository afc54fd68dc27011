"""Endpoints that lost their row are found by what is kept beside them, and adopted."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from stackkit_sagemaker import kept

from stackkit.model_deployers import BaseModelDeployer, Service

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serving"


def lose(deployer: BaseModelDeployer, service: Service) -> None:
    deployer.delete_model_server(service, forget=True)
    assert not deployer.find_model_server(refresh=False)


def test_only_those_that_no_row_names_are_orphans(deploy: Callable[..., Service], deployer: BaseModelDeployer) -> None:
    first, second = deploy(), deploy(model_name="other")
    assert deployer.find_orphans() == []
    deployer.delete_model_server(first, forget=True)
    (found,) = deployer.find_orphans()
    assert (found.service_id, found.revision, found.config["model_name"]) == (first.id, 1, "iris")
    assert second.refresh().is_running


def test_it_goes_on_where_it_was(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer, models: dict[str, str]
) -> None:
    service = deploy()
    deploy(model_uri=models["two"], autoscaling={"maximum": 2, "target": 10}, replace=True)
    lose(deployer, service)
    adopted = deployer.adopt_model_server(service.id)
    assert (adopted.id, adopted.revision, adopted.is_running) == (service.id, 2, True)
    assert adopted.source.digest
    again = deploy(image=f"{IMAGE}:3", replace=True)
    assert (again.id, again.revision) == (service.id, 3)
    again.delete()
    assert aws.names() == {}


def test_what_was_registered_for_it_goes_with_it(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer
) -> None:
    service = deploy(asynchronous={}, autoscaling={"minimum": 0, "maximum": 2, "target": 10})
    assert "alarms" in aws.names()
    lose(deployer, service)
    deployer.adopt_model_server(service.id).delete()
    assert aws.names() == {}


def test_a_name_that_was_used_before_the_row_was_lost_is_used_anew(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer
) -> None:
    service = deploy()
    deploy(image=f"{IMAGE}:2", replace=True)  # r2-2
    deployer.rollback_model_server(service, timeout=30)  # r3-3 serves
    found = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{service.id}")
    lose(deployer, service)
    adopted = deployer.adopt_model_server(service.id)
    assert found["EndpointConfigName"].startswith(f"stackkit-{adopted.id}-r3-")
    again = deploy(image=f"{IMAGE}:4", replace=True)
    found = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{again.id}")
    model = aws.client("sagemaker").describe_model(ModelName=found["EndpointConfigName"])
    assert model["PrimaryContainer"]["Image"] == f"{IMAGE}:4"


def test_with_a_canary_it_is_the_stable_revision_that_is_found(
    deploy: Callable[..., Service], deployer: BaseModelDeployer, models: dict[str, str]
) -> None:
    service = deploy()
    deployer.update_model_server(service, model_uri=models["two"], canary=20, timeout=30)
    lose(deployer, service)
    (found,) = deployer.find_orphans()
    assert (found.revision, found.source.uri) == (1, service.source.uri)


def test_secrets_are_kept_as_references(aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer) -> None:
    service = deploy(env={"TOKEN": "hush-hush"})
    deployer.update_model_server(service, env={"TOKEN": "hush-again"}, canary=20, timeout=30)
    lose(deployer, service)
    (found,) = deployer.find_orphans()
    assert "hush" not in repr(found)
    assert "{{" in found.config["env"]["TOKEN"]


def test_what_somebody_changed_is_none_of_ours() -> None:
    assert kept.kept_in({"stackkit:service": "id"}) is None
    assert kept.kept_in({"stackkit:service": "id", "stackkit:kept-0": "no base64"}) is None
    assert kept.kept_in({"stackkit:service": "id", "stackkit:kept-0": "aGVsbG8="}) is None


def test_an_endpoint_by_another_hand_is_left_alone(aws: Any, deployer: BaseModelDeployer) -> None:
    sagemaker = aws.client("sagemaker")
    sagemaker.create_model(ModelName="theirs", ExecutionRoleArn="arn:aws:iam::123456789012:role/x")
    variant = {"VariantName": "v", "ModelName": "theirs", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="theirs", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="stackkit-theirs", EndpointConfigName="theirs")
    assert deployer.find_orphans() == []


@pytest.mark.parametrize("length", [10, 100_000], ids=["short", "long"])
def test_what_is_too_long_for_tags_is_not_kept(length: int) -> None:
    row = {
        "id": "id",
        "revision": 1,
        "state": "active",
        "state_since": None,
        "target": "active",
        "message": "",
        "prediction_url": None,
        "unknown_since": None,
        "details": {},
        "config": {"model_uri": os.urandom(length).hex()},
        "source": {"uri": "/m"},
    }
    assert bool(kept.kept_tags(Service(row, None), "c", {})) is (length == 10)
