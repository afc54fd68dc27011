"""What is particular to KServe, on a real cluster in which a stand-in does the work of KServe's controller."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import kube
import pytest
import yaml
from stackkit_kserve.deployer import KServeModelDeployer
from stackkit_kserve.inference_service import API, KIND
from stand_in_kserve import StandInKServe

from stackkit import Client
from stackkit.errors import DeploymentError, NotSupportedError, PredictionError
from stackkit.model_deployers import Service, ServiceState
from stackkit.stack import ComponentType

pytestmark = pytest.mark.kubernetes

TIMEOUT = 150.0


def deploy(deployer: KServeModelDeployer, **fields: Any) -> Service:
    return deployer.deploy_model(timeout=TIMEOUT, model_name="iris", **fields)


def live(deployer: KServeModelDeployer, service: Service) -> Any:
    found = deployer._cluster.get(API, KIND, f"stackkit-{service.id}")
    assert found is not None
    return found


def answers(service: Service, count: int = 60) -> dict[str, int]:
    """How often each image has answered."""
    said = [service.predict([[1.0]])[0] for _ in range(count)]
    return {answer: said.count(answer) for answer in set(said)}


def split(deployer: KServeModelDeployer, service: Service, image: str) -> dict[str, int]:
    """Have another image answer 30 % of the requests, and return how often each has answered 100 of them."""
    before = service.revision
    deployer.update_model_server(service, image=image, canary=30, timeout=TIMEOUT)
    service.refresh()
    assert service.canary is not None
    assert (service.revision, service.canary.revision, service.canary.percent) == (before, before + 1, 30)
    return answers(service, 100)


def test_a_canary_has_its_part_until_it_is_aborted_or_promoted(
    deployer: KServeModelDeployer, images: dict[str, str]
) -> None:
    service = deploy(deployer, image=images["one"], deployment_mode="serverless")
    assert 10 <= split(deployer, service, images["two"])["two"] <= 55
    deployer.abort_model_server(service, timeout=TIMEOUT)
    service.refresh()
    assert (service.revision, service.canary, answers(service)) == (1, None, {"one": 60})
    # what was aborted may not keep the next revision from its requests
    deployer.update_model_server(service, image=images["two"], timeout=TIMEOUT)
    service.refresh()
    assert (service.revision, answers(service)) == (2, {"two": 60})
    assert 10 <= split(deployer, service, images["one"])["one"] <= 55
    deployer.promote_model_server(service, timeout=TIMEOUT)
    service.refresh()
    assert (service.revision, service.canary, answers(service)) == (3, None, {"one": 60})


def test_a_canary_that_does_not_start_is_aborted_and_told(
    deployer: KServeModelDeployer, images: dict[str, str]
) -> None:
    service = deploy(deployer, image=images["one"], deployment_mode="serverless")
    with pytest.raises(DeploymentError, match="it cannot be loaded"):
        deployer.update_model_server(service, image=images["broken"], canary=30, timeout=TIMEOUT)
    service.refresh()
    assert (service.revision, service.canary) == (1, None)
    assert answers(service) == {"one": 60}


def test_a_plain_deployment_splits_no_requests(deployer: KServeModelDeployer, images: dict[str, str]) -> None:
    service = deploy(deployer, image=images["one"], deployment_mode="raw")
    with pytest.raises(NotSupportedError, match="serverless"):
        deployer.update_model_server(service, image=images["two"], canary=30, timeout=TIMEOUT)
    service.refresh()
    assert (service.is_running, service.revision, service.canary) == (True, 1, None)


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_a_format_is_served_by_a_runtime(deployer: KServeModelDeployer, protocol: str) -> None:
    service = deploy(deployer, model_uri="s3://models/iris", model_format="sklearn", protocol=protocol)
    assert service.prediction_url is not None
    name = f"stackkit-{service.id}"
    path = f"/v1/models/{name}:predict" if protocol == "v1" else f"/v2/models/{name}/infer"
    assert service.prediction_url.endswith(path)
    assert service.predict([[1.0], [2.0]]) == ["one", "one"]


def test_a_format_that_no_runtime_takes_fails_in_kserves_words(deployer: KServeModelDeployer) -> None:
    with pytest.raises(DeploymentError, match="No runtime found to support specified framework"):
        deploy(deployer, model_uri="s3://models/iris", model_format="onnx")
    (service,) = deployer.find_model_server()
    assert service.status.state is ServiceState.ERROR


def test_an_image_of_stackkits_answers_through_a_gateway_by_its_host(
    client: Client, deployer: KServeModelDeployer, kserve: StandInKServe, namespace: kube.Namespace, model_image: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(kserve, "_url", lambda resource: f"http://{kserve.host(resource)}")
    attributes = {**namespace.attributes, "base_url": kserve.gateway.url}
    client.register_component(ComponentType.MODEL_DEPLOYER, "gateway", "kserve", attributes)
    through = client.model_deployer("gateway")
    assert isinstance(through, KServeModelDeployer)
    service = deploy(through, image=model_image)
    assert (
        service.prediction_url == f"http://{kserve.host(live(through, service))}/v2/models/stackkit-{service.id}/infer"
    )
    assert service.predict([[1.0], [2.0]]) == [[1], [1]]
    with pytest.raises(PredictionError, match="answered 400"):
        service.predict({"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1.0]}]})
    with through.port_forward(service) as url, urllib.request.urlopen(f"{url}/v2/health/ready") as answer:
        assert answer.status == 200


def test_a_transformer_is_passed_first(deployer: KServeModelDeployer, images: dict[str, str]) -> None:
    service = deploy(
        deployer, image=images["one"], deployment_mode="raw", transformer={"image": images["two"], "env": {"SAYS": "t"}}
    )
    assert service.predict([[1.0]]) == ["t"]
    asked = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}]}).encode()
    path = f"/v2/models/stackkit-{service.id}/infer"
    with deployer.port_forward(service) as url, urllib.request.urlopen(f"{url}{path}", asked, timeout=30) as answer:
        assert json.load(answer)["outputs"][0]["data"] == ["t"]


def test_secrets_are_in_a_secret_of_the_revision_and_nowhere_else(
    deployer: KServeModelDeployer, images: dict[str, str]
) -> None:
    service = deploy(deployer, image=images["one"], secrets={"SAYS": "hidden"})
    assert service.predict([[1.0]]) == ["hidden"]
    manifest = deployer.manifest(service)
    assert "hidden" not in manifest + json.dumps(live(deployer, service))
    assert f"needs the Secret stackkit-{service.id}-r1" in manifest
    assert yaml.safe_load(manifest)["kind"] == KIND
    assert [each["metadata"]["name"] for each in deployer._cluster.find("v1", "Secret", {})] == [
        f"stackkit-{service.id}-r1"
    ]
    service.delete(timeout=TIMEOUT)
    assert not deployer._cluster.find("v1", "Secret", {})
    assert not deployer._cluster.find(API, KIND, {})


def test_a_stop_keeps_the_resource_where_kserve_knows_how_and_deletes_it_elsewhere(
    deployer: KServeModelDeployer, kserve: StandInKServe, images: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kserve, "grace_seconds", 2)  # what is stopped has left
    service = deploy(deployer, image=images["one"])
    service.stop(timeout=TIMEOUT)
    assert live(deployer, service)["metadata"]["annotations"]["serving.kserve.io/stop"] == "true"
    assert not deployer._cluster.find("v1", "Pod", {})
    service.start(timeout=TIMEOUT)
    assert live(deployer, service)["metadata"]["annotations"]["serving.kserve.io/stop"] == "false"
    assert service.predict([[1.0]]) == ["one"]
    service.delete(timeout=TIMEOUT)

    monkeypatch.setattr(kserve, "knows_stop", False)
    service = deploy(deployer, image=images["one"])
    service.stop(timeout=TIMEOUT)
    assert deployer._cluster.get(API, KIND, f"stackkit-{service.id}") is None
    service.start(timeout=TIMEOUT)
    assert service.is_running


def test_a_server_whose_row_was_lost_is_adopted(deployer: KServeModelDeployer, images: dict[str, str]) -> None:
    service = deploy(deployer, image=images["one"])
    deployer.delete_model_server(service, forget=True)
    (orphan,) = deployer.find_orphans()
    adopted = deployer.adopt_model_server(orphan.service_id)
    assert (adopted.id, adopted.is_running, adopted.config["image"]) == (service.id, True, images["one"])
