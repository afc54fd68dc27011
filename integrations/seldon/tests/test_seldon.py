"""What is particular to Seldon Core, on a real cluster in which a stand-in does the work of Seldon's controller."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import kube
import pytest
import yaml
from stackkit_seldon.deployer import SeldonModelDeployer
from stackkit_seldon.seldon_deployment import API, KIND
from stand_in_seldon import StandInSeldon

from stackkit import Client
from stackkit.errors import DeploymentError, PredictionError
from stackkit.model_deployers import Service, ServiceState
from stackkit.stack import ComponentType

pytestmark = pytest.mark.kubernetes

TIMEOUT = 150.0


def deploy(deployer: SeldonModelDeployer, **fields: Any) -> Service:
    return deployer.deploy_model(timeout=TIMEOUT, model_name="iris", **fields)


def live(deployer: SeldonModelDeployer, service: Service) -> Any:
    found = deployer._cluster.get(API, KIND, f"stackkit-{service.id}")
    assert found is not None
    return found


def answers(service: Service, count: int = 60) -> dict[str, int]:
    """How often each image has answered."""
    said = [service.predict([[1.0]])[0] for _ in range(count)]
    return {answer: said.count(answer) for answer in set(said)}


def test_a_canary_has_its_part_until_it_is_aborted_or_promoted(
    deployer: SeldonModelDeployer, images: dict[str, str]
) -> None:
    service = deploy(deployer, image=images["one"])
    for outcome in ("abort", "promote"):
        deployer.update_model_server(service, image=images["two"], canary=30, timeout=TIMEOUT)
        service.refresh()
        assert service.canary is not None
        assert (service.revision, service.canary.revision, service.canary.percent) == (1, 2, 30)
        shares = answers(service, 100)
        assert 10 <= shares["two"] <= 55
        assert shares["one"] + shares["two"] == 100
        if outcome == "abort":
            deployer.abort_model_server(service, timeout=TIMEOUT)
            service.refresh()
            assert (service.revision, service.canary) == (1, None)
            assert answers(service) == {"one": 60}
    url = service.prediction_url
    deployer.promote_model_server(service, timeout=TIMEOUT)
    service.refresh()
    assert (service.revision, service.canary, service.prediction_url) == (2, None, url)
    assert answers(service) == {"two": 60}
    assert [each["name"] for each in live(deployer, service)["spec"]["predictors"]] == ["default"]


def test_a_canary_that_does_not_start_is_aborted_and_told(
    deployer: SeldonModelDeployer, images: dict[str, str]
) -> None:
    service = deploy(deployer, image=images["one"])
    with pytest.raises(DeploymentError, match="it cannot be loaded"):
        deployer.update_model_server(service, image=images["broken"], canary=30, timeout=TIMEOUT)
    service.refresh()
    assert (service.revision, service.canary) == (1, None)
    assert answers(service) == {"one": 60}


def test_a_shadow_gets_copies_and_answers_nobody(
    deployer: SeldonModelDeployer, seldon: StandInSeldon, images: dict[str, str]
) -> None:
    service = deploy(deployer, image=images["one"], shadow={"image": images["two"]})
    before = seldon.gateway.shadowed
    assert answers(service, 10) == {"one": 10}
    assert seldon.gateway.shadowed == before + 10


def test_an_implementation_is_served_by_seldons_own_server(deployer: SeldonModelDeployer) -> None:
    service = deploy(deployer, model_uri="s3://models/iris", implementation="MLFLOW_SERVER", env_secret="storage")
    assert service.predict([[1.0], [2.0]]) == ["one", "one"]
    (stable,) = live(deployer, service)["spec"]["predictors"]
    assert stable["graph"]["envSecretRefName"] == "storage"


def test_an_implementation_that_there_is_not_fails_in_seldons_words(deployer: SeldonModelDeployer) -> None:
    with pytest.raises(DeploymentError, match="No entry in predictors map for OTHER_SERVER"):
        deploy(deployer, model_uri="s3://models/iris", implementation="OTHER_SERVER")
    (service,) = deployer.find_model_server()
    assert service.status.state is ServiceState.ERROR


def test_an_image_of_stackkits_answers_under_seldons_path(
    deployer: SeldonModelDeployer, namespace: kube.Namespace, seldon: StandInSeldon, model_image: str
) -> None:
    service = deploy(deployer, image=model_image)
    path = f"/seldon/{namespace.name}/stackkit-{service.id}/v2/models/model/infer"
    assert service.prediction_url == f"{seldon.gateway.url}{path}"
    assert service.predict([[1.0], [2.0]]) == [[1], [1]]
    with pytest.raises(PredictionError, match="answered 400"):
        service.predict({"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1.0]}]})
    with deployer.port_forward(service) as url, urllib.request.urlopen(f"{url}/v2/health/ready") as answer:
        assert answer.status == 200


def test_without_a_base_url_it_has_its_address_in_the_cluster_and_is_asked_all_the_same(
    client: Client, deployer: SeldonModelDeployer, namespace: kube.Namespace, images: dict[str, str]
) -> None:
    client.register_component(ComponentType.MODEL_DEPLOYER, "inside", "seldon", namespace.attributes)
    inside = client.model_deployer("inside")
    assert isinstance(inside, SeldonModelDeployer)
    service = deploy(inside, image=images["one"])
    host = f"stackkit-{service.id}-default.{namespace.name}.svc.cluster.local:8000"
    assert service.prediction_url == f"http://{host}/v2/models/model/infer"
    assert service.predict([[1.0]]) == ["one"]  # by a forwarded port: nobody here knows that host
    inside.update_model_server(service, image=images["two"], canary=30, timeout=TIMEOUT)
    assert answers(service.refresh(), 5) == {"one": 5}, "that leads to the stable revision"


def test_secrets_are_in_a_secret_of_the_revision_and_nowhere_else(
    deployer: SeldonModelDeployer, seldon: StandInSeldon, images: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seldon, "grace_seconds", 2)  # what is deleted has left
    service = deploy(deployer, image=images["one"], secrets={"SAYS": "hidden"})
    assert service.predict([[1.0]]) == ["hidden"]
    manifest = deployer.manifest(service)
    assert "hidden" not in manifest + json.dumps(live(deployer, service))
    assert f"needs the Secret stackkit-{service.id}-r1" in manifest
    assert yaml.safe_load(manifest)["kind"] == KIND
    service.delete(timeout=TIMEOUT)
    for kind in ((API, KIND), ("v1", "Secret"), ("v1", "Pod")):
        assert not deployer._cluster.find(*kind, {})


def test_a_server_whose_row_was_lost_is_adopted(deployer: SeldonModelDeployer, images: dict[str, str]) -> None:
    service = deploy(deployer, image=images["one"])
    deployer.delete_model_server(service, forget=True)
    (orphan,) = deployer.find_orphans()
    adopted = deployer.adopt_model_server(orphan.service_id)
    assert (adopted.id, adopted.is_running, adopted.config["image"]) == (service.id, True, images["one"])
