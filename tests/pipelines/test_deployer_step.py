"""The standard deployer step, on servers in memory."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import SecretStr

from stackkit import Client, get_step_context, pipeline, step
from stackkit.errors import AlreadyExistsError, DeploymentError, InvalidConfigError, NotFoundError, PipelineError
from stackkit.model_deployers import BaseModelDeployer, ServiceConfig
from stackkit.model_deployers.memory import MemoryModelDeployerFlavor, MemoryServiceConfig
from stackkit.pipelines import Artifact, PipelineRun, model_deployer_step
from stackkit.stack import ComponentType
from stackkit.store import Database


class Constant:
    """A model."""

    def __init__(self, value: float) -> None:
        self.value = value

    def predict(self, rows: list[Any]) -> list[float]:
        return [self.value] * len(rows)


@step
def train(value: float) -> Annotated[Constant, "model"]:
    return Constant(value)


@step
def good_enough(value: float) -> bool:
    return value > 0.5


@step
def name_a_model() -> str:
    return "models:/churn/3"


@step
def save_a_model() -> Path:
    return Path("models/churn")


@pipeline
def training(value: float = 1.0, behaviour: str = "run") -> None:
    model_deployer_step(
        model=train(value),
        model_name="iris",
        deploy_decision=good_enough(value),
        service_fields={"behaviour": behaviour},
    )


def deployed(run: PipelineRun) -> dict[str, Any]:
    return {key: logged.value for key, logged in run.steps["model_deployer_step"].run_metadata.items()}


def test_a_run_deploys_the_model_that_it_trained(memory_deployer: BaseModelDeployer) -> None:
    run = training()
    service = memory_deployer.find_model_server(
        pipeline_name="training", pipeline_step_name="model_deployer_step", model_name="iris"
    )[0]
    assert service.is_running
    assert service.config["run_name"] == run.name
    assert service.config["model_uri"] == run.steps["train"].outputs["model"].uri
    assert deployed(run) == {"deployed_model_url": service.prediction_url, "service_uuid": service.id}


def test_the_next_run_replaces_it_under_the_same_uuid(memory_deployer: BaseModelDeployer) -> None:
    first, second = training(0.6), training(0.7)
    services = memory_deployer.find_model_server()
    assert len(services) == 1
    assert deployed(first) == deployed(second)
    assert services[0].revision == 2
    assert services[0].config["model_uri"] == second.steps["train"].outputs["model"].uri


def test_its_output_is_a_configuration_that_can_be_deployed_again(memory_deployer: BaseModelDeployer) -> None:
    output = training().steps["model_deployer_step"].outputs["service"]
    memory_deployer.find_model_server()[0].delete()
    config = output.load()
    assert isinstance(config, MemoryServiceConfig)
    service = memory_deployer.deploy_model(config)
    assert service.config == config
    assert service.name == "training/model_deployer_step/iris"


class SecretiveServiceConfig(MemoryServiceConfig):
    token: SecretStr


class SecretiveFlavor(MemoryModelDeployerFlavor):
    NAME = "secretive"
    service_config_class = SecretiveServiceConfig


def test_its_output_holds_no_secret(active_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flavor_for_tests", sys.modules[__name__])
    client = Client()
    client.flavors.register(ComponentType.MODEL_DEPLOYER, "flavor_for_tests.SecretiveFlavor")
    client.register_component(ComponentType.MODEL_DEPLOYER, "mine", "secretive", {"platform": "secretive"})

    @pipeline
    def flow() -> None:
        model_deployer_step(train(1), "iris", service_fields={"token": "hunter2"})

    output = flow().steps["model_deployer_step"].outputs["service"]
    assert "hunter2" not in Path(output.uri).read_text(encoding="utf-8")
    config = output.load()
    again = client.model_deployer().deploy_model(config)
    assert again.revision == 1  # the reference still stands for the same value
    assert "hunter2" not in repr(again.as_dict())


def test_a_later_step_gets_the_configuration(memory_deployer: BaseModelDeployer) -> None:
    @step
    def look(config: ServiceConfig) -> str:
        return config.model_name

    @pipeline
    def flow() -> None:
        look(model_deployer_step(train(1), "iris"))

    assert flow().steps["look"].outputs["output"].load() == "iris"


def test_a_negative_decision_leaves_the_server_that_is_there(memory_deployer: BaseModelDeployer) -> None:
    first = training(0.6)
    second = training(0.4)
    service = memory_deployer.find_model_server()[0]
    assert service.config["run_name"] == first.name
    assert service.revision == 1
    assert deployed(second) == deployed(first)


def test_a_negative_decision_starts_the_server_that_had_stopped(memory_deployer: BaseModelDeployer) -> None:
    training(0.6)
    memory_deployer.find_model_server()[0].stop()
    training(0.4)
    service = memory_deployer.find_model_server()[0]
    assert service.is_running
    assert service.revision == 1


def test_a_negative_decision_without_a_server_deploys_nothing(
    memory_deployer: BaseModelDeployer, caplog: pytest.LogCaptureFixture
) -> None:
    memory_deployer.deploy_model(model_name="iris", model_uri="another's", pipeline_name="another")
    with caplog.at_level(logging.INFO, logger="stackkit"):
        run = training(0.4)
    assert run.status == "completed"
    assert deployed(run) == {}
    assert run.steps["model_deployer_step"].outputs["service"].load() is None
    assert "training/model_deployer_step/iris was not to be deployed" in caplog.text
    assert len(memory_deployer.find_model_server()) == 1


def test_a_typed_configuration_is_filled_in(memory_deployer: BaseModelDeployer) -> None:
    @pipeline
    def flow() -> None:
        config = MemoryServiceConfig(model_name="overruled", replicas=3)
        model_deployer_step(train(1), "iris", config=config)

    run = flow()
    config = memory_deployer.find_model_server(pipeline_name="flow", model_name="iris")[0].config
    assert isinstance(config, MemoryServiceConfig)
    assert (config.replicas, config.run_name) == (3, run.name)


def test_a_service_name_of_its_own_is_found_again(memory_deployer: BaseModelDeployer) -> None:
    @pipeline
    def flow(deploy: bool) -> None:
        model_deployer_step(train(1), "iris", deploy, service_fields={"service_name": "mine"})

    assert deployed(flow(True)) == deployed(flow(False))
    assert [service.name for service in memory_deployer.find_model_server()] == ["mine"]


@pytest.mark.parametrize("model", ["models:/churn/3", Path("models/churn")], ids=["uri", "path"])
def test_a_model_can_be_named(model: Any, memory_deployer: BaseModelDeployer) -> None:
    @pipeline
    def flow() -> None:
        model_deployer_step(model, "churn")

    flow()
    assert memory_deployer.find_model_server()[0].config["model_uri"] == str(model)


@pytest.mark.parametrize(("named", "uri"), [(name_a_model, "models:/churn/3"), (save_a_model, "models/churn")])
def test_a_model_can_be_named_by_an_earlier_step(named: Any, uri: str, memory_deployer: BaseModelDeployer) -> None:
    @pipeline
    def flow() -> None:
        model_deployer_step(named(), "churn")

    flow()
    assert memory_deployer.find_model_server()[0].config["model_uri"] == uri


def test_a_failed_start_fails_the_step_with_the_platforms_words(memory_deployer: BaseModelDeployer) -> None:
    with pytest.raises(PipelineError, match=r"'model_deployer_step' of the run .* failed: .*it is broken") as caught:
        training(behaviour="fail")
    assert isinstance(caught.value.__cause__, DeploymentError)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"service_fields": {"wrokers": 2}}, "'wrokers' is no field of a memory service"),
        ({"service_fields": {}, "config": MemoryServiceConfig(model_name="x")}, "a config and service_fields"),
    ],
    ids=["unknown field", "both"],
)
def test_wrong_fields_are_refused(given: dict[str, Any], words: str, memory_deployer: BaseModelDeployer) -> None:
    @pipeline
    def flow() -> None:
        model_deployer_step("models:/x/1", "x", **given)

    with pytest.raises(PipelineError, match=words) as caught:
        flow()
    assert isinstance(caught.value.__cause__, InvalidConfigError)
    assert not memory_deployer.find_model_server()


@pytest.mark.usefixtures("active_database")
def test_a_stack_without_a_deployer_is_told() -> None:
    with pytest.raises(PipelineError, match="has no model deployer") as caught:
        training()
    assert isinstance(caught.value.__cause__, NotFoundError)


def test_in_any_other_orchestrator_it_is_a_function(memory_deployer: BaseModelDeployer) -> None:
    service = model_deployer_step("models:/churn/3", "churn")
    assert service.is_running
    assert service.config["pipeline_name"] is None
    again = model_deployer_step("models:/churn/4", "churn")
    assert (again.id, again.revision) == (service.id, 2)
    assert model_deployer_step("models:/churn/5", "churn", deploy_decision=False).revision == 2
    assert model_deployer_step("models:/other/1", "other", deploy_decision=False) is None


def test_what_others_deploy_under_the_same_names_is_still_refused(memory_deployer: BaseModelDeployer) -> None:
    @step(name="model_deployer_step")
    def deploy(model: Artifact) -> None:
        context = get_step_context()
        memory_deployer.deploy_model(
            model_name="iris",
            model_uri=model.uri,
            pipeline_name=context.pipeline_name,
            pipeline_step_name=context.step_name,
        )

    @pipeline(name="training")
    def flow() -> None:
        deploy(train(2))

    training()
    with pytest.raises(PipelineError) as caught:
        flow()
    assert isinstance(caught.value.__cause__, AlreadyExistsError)
