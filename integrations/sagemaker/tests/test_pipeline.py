"""In a pipeline, and in the words of the README: the flavor is another, and the code is the same."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stackkit.model_deployers import BaseModelDeployer
from stackkit.pipelines import model_deployer_step, pipeline, step
from stackkit.store import database as database_room
from stackkit.store import default_database

EXAMPLE = Path(__file__).parents[1] / "examples" / "pipeline.py"


@pytest.fixture(autouse=True)
def default(monkeypatch: pytest.MonkeyPatch, deployer: BaseModelDeployer) -> Iterator[None]:
    """The database that the environment names, which is where the deployer was registered; closed at the end."""
    monkeypatch.setattr(database_room, "_databases", {})
    yield
    default_database().close()


@step
def train(path: str) -> str:
    return path


@pipeline
def training(path: str) -> None:
    model_deployer_step(model=train(path), model_name="iris", service_fields={"image": "serving:1"}, timeout=30)


def test_the_standard_step_deploys_and_replaces(models: dict[str, str]) -> None:
    first = training(models["one"]).steps["model_deployer_step"].run_metadata
    second = training(models["two"]).steps["model_deployer_step"].run_metadata
    assert first["service_uuid"].value == second["service_uuid"].value
    assert first["deployed_model_url"].value == second["deployed_model_url"].value

    from stackkit.model_deployers import SageMakerModelDeployer

    model_deployer = SageMakerModelDeployer.get_active_model_deployer()
    services = model_deployer.find_model_server(
        pipeline_name="training", pipeline_step_name="model_deployer_step", model_name="iris"
    )
    assert services[0].is_running
    assert services[0].config["model_name"] == "iris"
    assert services[0].status["prediction_url"] == first["deployed_model_url"].value
    assert services[0].revision == 2
    model_deployer.stop_model_server(services[0])
    model_deployer.start_model_server(services[0])
    model_deployer.delete_model_server(services[0])
    assert not model_deployer.find_model_server()


def test_the_example_trains_serves_and_cleans_up(
    aws: Any, engine: Any, deployer: BaseModelDeployer, capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    told = capsys.readouterr().out
    assert "iris is active" in told
    assert "Predictions: [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]" in told, "moto gives back what it is given"
    assert len(engine.built) == 1
    assert not deployer.find_model_server()
    assert aws.names() == {}
