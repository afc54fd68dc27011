"""What is written of a configuration, each checked against KServe's own definition."""

from __future__ import annotations

from typing import Any

import crds
import pytest
from jsonschema import Draft7Validator
from pydantic import SecretStr
from stackkit_kserve.config import KServeServiceConfig
from stackkit_kserve.inference_service import build
from stackkit_kubernetes import custom_resources

from stackkit.errors import InvalidConfigError
from stackkit.stack.configs import parse

SERVICE_ID = "8f6f2c1e-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def schema() -> Draft7Validator:
    return Draft7Validator(crds.schema(crds.load("kserve-inferenceservices"), "v1beta1"))


def config(**fields: Any) -> KServeServiceConfig:
    return parse(KServeServiceConfig, {"model_name": "iris", **fields}, "a kserve service")


def written(schema: Draft7Validator, *, built: str | None = None, **fields: Any) -> dict[str, Any]:
    made = config(**fields)
    found = build(SERVICE_ID, 1, made, image=built or made.image)
    schema.validate(found)
    return found


def test_an_image_is_a_custom_predictor_that_is_not_root(schema: Draft7Validator) -> None:
    found = written(schema, built="registry/iris:1", model_uri="./model")
    (container,) = found["spec"]["predictor"]["containers"]
    assert (container["name"], container["image"]) == ("kserve-container", "registry/iris:1")
    assert {each["name"]: each["value"] for each in container["env"]} == {
        "PROTOCOL": "v2",
        "STACKKIT_SERVING_MODEL_NAME": f"stackkit-{SERVICE_ID}",
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert found["spec"]["predictor"]["automountServiceAccountToken"] is False


def test_an_image_has_its_model_fetched_by_kserve(schema: Draft7Validator) -> None:
    found = written(schema, image="registry/server:1", model_uri="s3://models/iris")
    (container,) = found["spec"]["predictor"]["containers"]
    env = {each["name"]: each["value"] for each in container["env"]}
    assert env["STORAGE_URI"] == "s3://models/iris"
    assert env["STACKKIT_SERVING_MODEL"] == "/mnt/models"


def test_a_format_picks_a_runtime_of_kserves(schema: Draft7Validator) -> None:
    found = written(
        schema, model_uri="s3://models/iris", model_format="sklearn", model_format_version="1", runtime="mine",
        service_account="reader", requests={"cpu": "1"}, limits={"memory": "1Gi"}, gpus=1,
    )  # fmt: skip
    predictor = found["spec"]["predictor"]
    assert predictor["model"] == {
        "modelFormat": {"name": "sklearn", "version": "1"},
        "protocolVersion": "v2",
        "storageUri": "s3://models/iris",
        "runtime": "mine",
        "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi", "nvidia.com/gpu": "1"}},
    }
    assert predictor["serviceAccountName"] == "reader"
    assert "automountServiceAccountToken" not in predictor


def test_scale_mode_and_placement(schema: Draft7Validator) -> None:
    found = written(
        schema, image="i", deployment_mode="serverless", min_replicas=0, max_replicas=4, scale_metric="concurrency",
        scale_target=10, node_selector={"pool": "gpu"}, tolerations=[{"key": "gpu", "effect": "NoSchedule"}],
        labels={"team": "ml"}, annotations={"note": "x"},
    )  # fmt: skip
    predictor = found["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (0, 4)
    assert (predictor["scaleMetric"], predictor["scaleTarget"]) == ("concurrency", 10)
    assert predictor["tolerations"] == [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert found["metadata"]["annotations"] == {
        "note": "x",
        "serving.kserve.io/deploymentMode": "Serverless",
        "serving.kserve.io/stop": "false",
    }
    assert found["metadata"]["labels"]["team"] == "ml"


@pytest.mark.parametrize("mode", ["raw", None], ids=["told", "as the cluster is set"])
def test_a_plain_deployment_keeps_its_capacity_while_it_rolls(schema: Draft7Validator, mode: str | None) -> None:
    spec = written(schema, image="i", transformer={"image": "t"}, deployment_mode=mode)["spec"]
    for component in ("predictor", "transformer"):
        assert spec[component]["deploymentStrategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert "deploymentStrategy" not in written(schema, image="i", deployment_mode="serverless")["spec"]["predictor"]


def test_a_transformer_stands_before_the_model(schema: Draft7Validator) -> None:
    found = written(
        schema, image="i",
        transformer={"image": "t", "args": ["--top=3"], "env": {"A": "b"}, "limits": {"cpu": "1"}, "min_replicas": 2},
    )  # fmt: skip
    transformer = found["spec"]["transformer"]
    (container,) = transformer["containers"]
    assert (container["image"], container["args"], transformer["minReplicas"]) == ("t", ["--top=3"], 2)
    assert container["env"] == [{"name": "A", "value": "b"}]


def test_variables_have_their_values_as_they_stand(schema: Draft7Validator) -> None:
    """Kubernetes puts other variables in the place of ``$(NAME)`` and makes one dollar of two."""
    env = {"A": "$(B)$"}
    spec = written(schema, image="i", env=env, transformer={"image": "t", "env": env})["spec"]
    for component in ("predictor", "transformer"):
        (container,) = spec[component]["containers"]
        assert {"name": "A", "value": "$$(B)$$"} in container["env"]


def test_variables_come_from_the_configuration_and_secrets_from_a_secret(schema: Draft7Validator) -> None:
    made = config(image="i", env={"PROTOCOL": "v2", "A": "b"}, secrets={"TOKEN": SecretStr("hidden")})
    found = build(SERVICE_ID, 3, made, image="i")
    schema.validate(found)
    (container,) = found["spec"]["predictor"]["containers"]
    assert {"name": "A", "value": "b"} in container["env"]
    assert container["envFrom"] == [{"secretRef": {"name": f"stackkit-{SERVICE_ID}-r3"}}]
    assert "hidden" not in str(found)
    secret = custom_resources.secret(SERVICE_ID, 3, made, {})
    assert secret is not None
    assert secret["stringData"] == {"TOKEN": "hidden"}


def test_what_pods_are_made_of_is_told_by_a_label_and_nothing_else_changes_it(schema: Draft7Validator) -> None:
    def content(**fields: Any) -> str:
        labels: dict[str, str] = written(schema, **fields)["spec"]["predictor"]["labels"]
        return labels["stackkit/content"]

    assert content(image="one") == content(image="one", max_replicas=9)
    assert content(image="one") != content(image="two")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({}, "give a model_uri or an image", id="nothing"),
        pytest.param({"image": "i", "model_format": "sklearn", "model_uri": "s3://m"}, "leave it out", id="both"),
        pytest.param({"image": "i", "runtime": "r"}, "go with model_format", id="runtime-alone"),
        pytest.param({"model_format": "sklearn", "model_uri": "./m"}, "cannot fetch './m'", id="local-path"),
        pytest.param({"model_format": "mlflow", "model_uri": "models:/m/1"}, "cannot fetch", id="registry-of-mlflow"),
        pytest.param({"model_uri": "./m", "protocol": "v1"}, "speaks v2 alone", id="v1-of-ours"),
        pytest.param({"image": "i", "min_replicas": 3, "max_replicas": 2}, "more than max_replicas", id="bounds"),
        pytest.param({"image": "i", "deployment_mode": "raw", "min_replicas": 0}, "only a serverless", id="zero"),
        pytest.param({"image": "i", "deployment_mode": "raw", "scale_metric": "rps"}, "only a serverless", id="metric"),
        pytest.param({"image": "i", "scale_target": 3}, "goes with scale_metric", id="target-alone"),
        pytest.param({"image": "i", "env": {"A": "{{vault.token}}"}}, "put it in secrets", id="secret-in-clear"),
        pytest.param({"image": "i", "env": {"A-B": "c"}}, "cannot name an environment variable", id="variable"),
        pytest.param({"image": "i", "labels": {"stackkit/service": "x"}}, "stackkit's own", id="our-label"),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidConfigError, match=words):
        config(**fields)
