"""A pipeline that trains a model, evaluates it, and has it served when it is good enough.

Run it: python examples/training_pipeline.py
"""

from __future__ import annotations

import os
import tempfile
from typing import Annotated

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from stackkit import Client, get_step_context, pipeline, step
from stackkit.pipelines import model_deployer_step
from stackkit.stack import ComponentType


@step
def load() -> tuple[
    Annotated[np.ndarray, "train_features"],
    Annotated[np.ndarray, "test_features"],
    Annotated[np.ndarray, "train_labels"],
    Annotated[np.ndarray, "test_labels"],
]:
    features, labels = load_breast_cancer(return_X_y=True)
    return tuple(train_test_split(features, labels, random_state=0))


@step
def train(features: np.ndarray, labels: np.ndarray, c: float) -> Annotated[Pipeline, "model"]:
    return make_pipeline(StandardScaler(), LogisticRegression(C=c)).fit(features, labels)


@step
def evaluate(model: Pipeline, features: np.ndarray, labels: np.ndarray) -> Annotated[float, "accuracy"]:
    accuracy = model.score(features, labels)
    get_step_context().log_metadata("accuracy", accuracy)
    return float(accuracy)


@step
def decide(accuracy: float, minimum: float) -> bool:
    return accuracy >= minimum


@pipeline
def training(c: float = 1.0, minimum: float = 0.9) -> None:
    train_features, test_features, train_labels, test_labels = load()
    model = train(train_features, train_labels, c)
    accuracy = evaluate(model, test_features, test_labels)
    model_deployer_step(model=model, model_name="tumours", deploy_decision=decide(accuracy, minimum))


def main() -> None:
    client = Client()
    if not client.components.list(ComponentType.MODEL_DEPLOYER):
        client.register_component(ComponentType.MODEL_DEPLOYER, "local", "local", {})

    run = training(c=0.5)
    deployed = run.steps["model_deployer_step"].run_metadata
    service = client.servers.get(deployed["service_uuid"].value)
    try:
        print(f"{run.name} is {run.status}; accuracy {run.steps['evaluate'].run_metadata['accuracy'].value:.3f}")
        print(f"{service.name} answers at {deployed['deployed_model_url'].value}")
        assert service.is_running
        assert service.config["run_name"] == run.name

        rows = run.steps["load"].outputs["test_features"].load()[:3]
        model = run.steps["train"].outputs["model"].load()
        predictions = service.predict(rows)
        print(f"Predictions: {predictions}")
        assert predictions == model.predict(rows).tolist()

        # a model that is not good enough leaves the server that is there as it is
        kept = training(c=0.5, minimum=1.01)
        assert kept.steps["model_deployer_step"].run_metadata["service_uuid"].value == service.id
        assert service.refresh().config["run_name"] == run.name
        print("A model that was not good enough was not deployed")

        service.stop()
        assert not service.is_running
    finally:
        service.delete()
    assert not client.servers.find(pipeline_name="training", model_name="tumours")
    print("Deleted: nothing is running any more")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        os.environ.setdefault("STACKKIT_HOME", temporary)
        main()
