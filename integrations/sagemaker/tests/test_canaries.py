"""A canary: the newer revision's variants beside those that serve, with a share of the requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.validate import ParamValidator
from stackkit_sagemaker import definitions

from stackkit import Client
from stackkit.errors import DeploymentError, NotSupportedError
from stackkit.model_deployers import BaseModelDeployer, Canary, Service

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serving"
LOAD = {"minimum": 1, "maximum": 4, "target": 100}


def weights(aws: Any, service: Service) -> dict[str, float]:
    found = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{service.id}")
    return {each["VariantName"]: each["DesiredWeight"] for each in found["ProductionVariants"]}


def revisions(aws: Any, service: Service) -> dict[str, str]:
    """Which revision each variant serves."""
    found = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{service.id}")
    config = aws.client("sagemaker").describe_endpoint_config(EndpointConfigName=found["EndpointConfigName"])
    return {
        each["VariantName"]: each["ModelName"].removeprefix(f"stackkit-{service.id}-r").partition("-")[0]
        for each in config["ProductionVariants"]
    }


@pytest.fixture
def canary(deploy: Callable[..., Service], deployer: BaseModelDeployer, models: dict[str, str]) -> Service:
    """A service with a canary that answers a tenth of its requests."""
    service = deploy()
    return deployer.update_model_server(service, model_uri=models["two"], canary=10, timeout=30)


def test_the_shares_are_a_hundred() -> None:
    stable = {"ProductionVariants": [{"VariantName": name, "InitialVariantWeight": 1.0} for name in ("a", "b", "c")]}
    canary = {"ProductionVariants": [{"VariantName": "a", "InitialVariantWeight": 7.0}]}
    body = definitions.split_config("name", stable, canary, 10)
    shares = {each["VariantName"]: each["InitialVariantWeight"] for each in body["ProductionVariants"]}
    assert shares == {"a": 30.0, "b": 30.0, "c": 30.0, "Canary-a": 10.0}


def test_a_split_is_one_that_sagemaker_takes() -> None:
    variant = {"VariantName": "a", "ModelName": "m", "InitialVariantWeight": 1.0, "InstanceType": "ml.m5.large"}
    body = definitions.split_config("name", {"ProductionVariants": [variant]}, {"ProductionVariants": [variant]}, 50)
    shape = boto3.client("sagemaker", region_name="us-east-1").meta.service_model.shape_for("CreateEndpointConfigInput")
    assert not (errors := ParamValidator().validate(body, shape)).has_errors(), errors.generate_report()


def test_it_answers_its_share(aws: Any, canary: Service) -> None:
    assert (canary.revision, canary.canary, canary.is_running) == (1, Canary(2, 10), True)
    assert weights(aws, canary) == {"AllTraffic": 90.0, "Canary-AllTraffic": 10.0}
    assert revisions(aws, canary) == {"AllTraffic": "1", "Canary-AllTraffic": "2"}
    assert canary.refresh().status.message == ""
    assert "CONTAINER_IMAGE" not in canary.deployer.do_info(canary), "what was made last is the canary's"


def test_another_share_makes_no_other_instances(
    aws: Any, canary: Service, deployer: BaseModelDeployer, models: dict[str, str]
) -> None:
    before = aws.names()
    deployer.update_model_server(canary, model_uri=models["two"], canary=50, timeout=30)
    assert weights(aws, canary) == {"AllTraffic": 50.0, "Canary-AllTraffic": 50.0}
    assert aws.names() == before


def test_promoted_it_serves_alone(aws: Any, canary: Service, deployer: BaseModelDeployer) -> None:
    service = deployer.promote_model_server(canary, timeout=30)
    assert (service.revision, service.canary, service.is_running) == (2, None, True)
    assert revisions(aws, service) == {"AllTraffic": "2"}
    assert service.refresh().revision == 2
    service.delete()
    assert aws.names() == {}


def test_aborted_it_goes(aws: Any, canary: Service, deployer: BaseModelDeployer) -> None:
    service = deployer.abort_model_server(canary, timeout=30)
    assert (service.revision, service.canary, service.is_running) == (1, None, True)
    assert revisions(aws, service) == {"AllTraffic": "1"}
    assert service.refresh().status.message == ""


def test_one_that_does_not_start_leaves_the_old_revision_alone(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer
) -> None:
    service = deploy()
    with pytest.raises(DeploymentError, match="did not pass the ping health check"):
        deployer.update_model_server(service, image=f"{IMAGE}:broken", canary=10, timeout=30)
    seen = deployer.get_model_server(service)
    assert (seen.revision, seen.canary, seen.is_running) == (1, None, True)
    assert revisions(aws, service) == {"AllTraffic": "1"}


def test_a_stop_and_a_deletion_end_both(aws: Any, canary: Service) -> None:
    canary.stop()
    assert "endpoints" not in aws.names()
    canary.start()
    assert revisions(aws, canary) == {"AllTraffic": "1"}
    canary.delete()
    assert aws.names() == {}


def test_what_serves_goes_on_scaling_beside_it(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer, models: dict[str, str]
) -> None:
    service = deploy(autoscaling=LOAD)
    name, sagemaker = f"stackkit-{service.id}", aws.client("sagemaker")
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name, DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 3}]
    )

    def counts() -> dict[str, int]:
        found = sagemaker.describe_endpoint(EndpointName=name)["ProductionVariants"]
        return {each["VariantName"]: each["DesiredInstanceCount"] for each in found}

    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 0})
    deployer.update_model_server(service, model_uri=models["two"], canary=10, timeout=30)
    (scaling,) = aws.names()["scaling"]
    assert scaling.endswith("/AllTraffic")
    assert counts() == {"AllTraffic": 3, "Canary-AllTraffic": 1}
    deployer.promote_model_server(service, timeout=30)
    assert aws.names()["scaling"] == [scaling]
    assert counts() == {"AllTraffic": 3}


def on_its_way(aws: Any, service: Service, deployer: BaseModelDeployer, models: dict[str, str]) -> None:
    """Have SageMaker bring up a canary with a tenth of the requests, which nobody waits for."""
    aws.behave(ticks=10**6)
    deployer.update_model_server(service, model_uri=models["two"], canary=10, timeout=0)


def test_another_share_of_one_on_its_way_is_its_share_once_it_answers(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer, models: dict[str, str]
) -> None:
    service = deploy()
    on_its_way(aws, service, deployer, models)
    aws.behave(ticks=2)
    seen = deployer.update_model_server(service, canary=50, timeout=30)
    assert seen.canary == Canary(2, 50)
    assert weights(aws, seen) == {"AllTraffic": 50.0, "Canary-AllTraffic": 50.0}
    assert seen.refresh().status.message == ""


def test_another_share_that_nobody_waits_for_is_told_until_it_is_asked_for_again(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer, models: dict[str, str]
) -> None:
    service = deploy()
    on_its_way(aws, service, deployer, models)
    deployer.update_model_server(service, canary=50, timeout=0)
    assert "will answer 10 % of the requests, and not 50 %: ask for its share again" in (
        deployer.get_model_server(service).status.message
    )
    aws.behave(ticks=0)
    told = deployer.get_model_server(service).refresh().status.message
    assert told == "The canary answers 10 % of the requests, and not 50 %: ask for its share again."
    deployer.update_model_server(service, canary=50, timeout=30)
    assert weights(aws, service) == {"AllTraffic": 50.0, "Canary-AllTraffic": 50.0}
    assert service.refresh().status.message == ""


@pytest.mark.parametrize("is_there", [False, True], ids=["new", "another share"])
def test_one_is_refused_while_the_endpoint_is_on_its_way_elsewhere(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer, models: dict[str, str], is_there: bool
) -> None:
    service = deploy()
    share: dict[str, Any] = {} if is_there else {"model_uri": models["two"]}
    if is_there:
        deployer.update_model_server(service, model_uri=models["two"], canary=10, timeout=30)
    found = aws.client("sagemaker").describe_endpoint(EndpointName=f"stackkit-{service.id}")
    first = sorted(aws.names()["configs"])[-2 if is_there else -1]
    aws.behave(ticks=10**6)
    aws.client("sagemaker").update_endpoint(EndpointName=found["EndpointName"], EndpointConfigName=first)
    before = aws.names()
    with pytest.raises(NotSupportedError, match="SageMaker is changing the endpoint of 'iris'") as raised:
        deployer.update_model_server(service, **share, canary=50, timeout=30)
    assert f"models describe {service.id[:8]}" in str(raised.value.hint)
    assert aws.names() == before
    seen = deployer.get_model_server(service, refresh=False)
    assert seen.canary == (Canary(2, 10) if is_there else None), "what is refused changes nothing"


@pytest.mark.parametrize("kind", ["serverless", "asynchronous"])
def test_one_that_the_kind_of_endpoint_cannot_have_is_refused_before_anything_is_made(
    aws: Any, client: Client, deploy: Callable[..., Service], deployer: BaseModelDeployer, kind: str
) -> None:
    service = deploy(**{kind: {}})
    before = aws.names(), client.servers.history(service.id)
    with pytest.raises(NotSupportedError, match=f"{kind.capitalize()} endpoints have no canary"):
        deployer.update_model_server(service, image=f"{IMAGE}:2", canary=10, timeout=30)
    assert (aws.names(), client.servers.history(service.id)) == before
    assert deployer.get_model_server(service).revision == 1


def test_more_variants_than_sagemaker_takes_are_refused_before_anything_is_made(
    aws: Any, deploy: Callable[..., Service], deployer: BaseModelDeployer
) -> None:
    service = deploy(variants={f"v{number}": {"instance_type": "ml.m5.large"} for number in range(6)})
    before = aws.names()
    with pytest.raises(NotSupportedError, match="would be 12, and SageMaker gives an endpoint 10 at most"):
        deployer.update_model_server(service, image=f"{IMAGE}:2", canary=10, timeout=30)
    assert aws.names() == before
