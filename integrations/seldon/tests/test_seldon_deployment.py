"""What is written of a configuration, each checked against Seldon Core's own definition."""

from __future__ import annotations

from typing import Any

import crds
import pytest
from jsonschema import Draft7Validator
from stackkit_seldon.config import SeldonServiceConfig
from stackkit_seldon.observations import prediction_url
from stackkit_seldon.seldon_deployment import CANARY, build, predictor, split

from stackkit.errors import InvalidConfigError
from stackkit.stack.configs import parse

SERVICE_ID = "8f6f2c1e-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def schema() -> Draft7Validator:
    return Draft7Validator(crds.schema(crds.load("seldon-seldondeployments"), "v1"))


def config(**fields: Any) -> SeldonServiceConfig:
    return parse(SeldonServiceConfig, {"model_name": "iris", **fields}, "a seldon service")


def written(schema: Draft7Validator, *, built: str | None = None, **fields: Any) -> dict[str, Any]:
    made = config(**fields)
    found = build(SERVICE_ID, 1, made, image=built or made.image)
    schema.validate(found)
    return found


def test_an_image_is_one_node_under_the_protocol_v2(schema: Draft7Validator) -> None:
    found = written(schema, built="registry/iris:1", model_uri="./model", replicas=2)
    assert found["spec"]["protocol"] == "v2"
    (stable,) = found["spec"]["predictors"]
    (container,) = stable["componentSpecs"][0]["spec"]["containers"]
    assert stable["graph"] == {"name": "model", "type": "MODEL"}
    assert (stable["name"], stable["replicas"], container["name"]) == ("default", 2, "model")
    assert container["ports"] == [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]
    assert {"name": "STACKKIT_SERVING_MODEL_NAME", "value": "model"} in container["env"]
    assert container["securityContext"]["runAsNonRoot"] is True
    assert "traffic" not in stable


def test_an_implementation_is_a_server_of_seldons(schema: Draft7Validator) -> None:
    found = written(
        schema, model_uri="s3://models/iris", implementation="MLFLOW_SERVER", env_secret="storage",
        service_account="reader", parameters={"method": "predict"}, requests={"cpu": "1"},
    )  # fmt: skip
    (stable,) = found["spec"]["predictors"]
    assert stable["graph"] == {
        "name": "model",
        "type": "MODEL",
        "implementation": "MLFLOW_SERVER",
        "modelUri": "s3://models/iris",
        "envSecretRefName": "storage",
        "serviceAccountName": "reader",
        "parameters": [{"name": "method", "value": "predict", "type": "STRING"}],
    }
    (container,) = stable["componentSpecs"][0]["spec"]["containers"]
    assert container == {"name": "model", "resources": {"requests": {"cpu": "1"}}}


def test_an_image_has_its_model_fetched_by_seldon(schema: Draft7Validator) -> None:
    (stable,) = written(schema, image="server", model_uri="gs://models/iris")["spec"]["predictors"]
    assert stable["graph"]["modelUri"] == "gs://models/iris"
    (container,) = stable["componentSpecs"][0]["spec"]["containers"]
    assert {"name": "STACKKIT_SERVING_MODEL", "value": "/mnt/models"} in container["env"]


def test_a_shadow_is_a_predictor_whose_answers_nobody_sees(schema: Draft7Validator) -> None:
    found = written(schema, image="one", shadow={"image": "two", "traffic": 50}, secrets={"TOKEN": "hidden"})
    stable, shadow = found["spec"]["predictors"]
    assert (stable["name"], "shadow" in stable) == ("default", False)
    assert (shadow["name"], shadow["shadow"], shadow["traffic"]) == ("shadow", True, 50)
    assert shadow["componentSpecs"][0]["spec"]["containers"][0]["image"] == "two"
    assert "hidden" not in str(found)


def test_a_canary_stands_beside_a_stable_one_that_stays_as_it_is(schema: Draft7Validator) -> None:
    live = written(schema, image="one", shadow={"image": "three"})
    canary = predictor(SERVICE_ID, 2, config(image="two"), image="two", image_pull_secret=None, name=CANARY)
    found = {**live, "spec": {**live["spec"], "predictors": split(live, canary, 20)}}
    schema.validate(found)
    stable, beside, shadow = found["spec"]["predictors"]
    assert [(each["name"], each["traffic"]) for each in (stable, beside, shadow)] == [
        ("default", 80),
        ("canary", 20),
        ("shadow", 100),
    ]
    assert {**stable, "traffic": 0} == {**live["spec"]["predictors"][0], "traffic": 0}
    again = split(found, canary, 50)
    assert [each["traffic"] for each in again] == [50, 50, 100]


def test_the_prediction_url_is_that_of_seldons_routes() -> None:
    through = prediction_url("https://models.example.com", "team", "stackkit-1", "http://ignored")
    assert through == "https://models.example.com/seldon/team/stackkit-1/v2/models/model/infer"
    address = "http://stackkit-1-default.team.svc.cluster.local:8000/v2/models/model/infer"
    assert prediction_url(None, "team", "stackkit-1", address) == address
    assert prediction_url(None, "team", "stackkit-1", None) is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({}, "give a model_uri or an image", id="nothing"),
        pytest.param(
            {"image": "i", "implementation": "MLFLOW_SERVER", "model_uri": "s3://m"}, "leave it out", id="both"
        ),
        pytest.param({"implementation": "mlflow", "model_uri": "s3://m"}, "implementation", id="lower-case"),
        pytest.param({"implementation": "MLFLOW_SERVER", "model_uri": "./m"}, "cannot fetch './m'", id="local-path"),
        pytest.param({"image": "i", "env_secret": "s"}, "nothing is fetched", id="credentials-for-nothing"),
        pytest.param({"image": "i", "parameters": {"a": "b"}}, "go with an implementation", id="parameters"),
        pytest.param({"image": "i", "shadow": {"model_uri": "s3://m"}}, "of the same kind", id="shadow-of-another"),
        pytest.param(
            {"implementation": "MLFLOW_SERVER", "model_uri": "s3://m", "shadow": {"model_uri": "./m"}},
            "cannot fetch './m' for the shadow",
            id="shadow-of-a-local-path",
        ),
        pytest.param({"image": "i", "shadow": {}}, "either model_uri or image", id="shadow-of-nothing"),
        pytest.param({"image": "i", "replicas": 0}, "replicas", id="no-replicas"),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidConfigError, match=words):
        config(**fields)
