"""Deploy a model from a plain Python function: what a task of any other orchestrator does.

Run it: python examples/plain_python.py

A task of Airflow, Prefect, Dagster or a cron job calls ``deploy`` just so. It needs nothing but the database that
STACKKIT_HOME or STACKKIT_DATABASE_URL names; pipeline, step and model name tell the next run which server is its own.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from stackkit import Client
from stackkit.model_deployers import BaseModelDeployer, Service
from stackkit.stack import ComponentType

SERVICE = {"pipeline_name": "plain_python", "pipeline_step_name": "deploy", "model_name": "iris"}


def train(folder: Path, c: float) -> Path:
    """Train on scikit-learn's iris data and save the model."""
    features, labels = load_iris(return_X_y=True)
    path = folder / "model.joblib"
    joblib.dump(LogisticRegression(C=c, max_iter=1000).fit(features, labels), path)
    return path


def deploy(deployer: BaseModelDeployer, model: Path) -> Service:
    """Have the model served, in place of the one that the last run deployed."""
    return deployer.deploy_model(**SERVICE, model_uri=str(model), replace=True)


def main(folder: Path) -> None:
    client = Client()
    if not client.components.list(ComponentType.MODEL_DEPLOYER):
        client.register_component(ComponentType.MODEL_DEPLOYER, "local", "local", {})
    deployer = client.model_deployer()

    first = deploy(deployer, train(folder, c=1.0))
    try:
        print(f"{first.name} answers at {first.prediction_url}")

        second = deploy(deployer, train(folder, c=0.5))
        print(f"The retrained model is revision {second.revision} at the same URL")
        assert (second.uuid, second.prediction_url) == (first.uuid, first.prediction_url)
        assert second.revision == first.revision + 1

        (found,) = deployer.find_model_server(**SERVICE, running=True)
        predictions = found.predict([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]])
        print(f"Predictions: {predictions}")
        assert predictions == [0, 2]
    finally:
        first.delete()
    assert not deployer.find_model_server(**SERVICE)
    print("Deleted: nothing is running any more")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        os.environ.setdefault("STACKKIT_HOME", f"{temporary}/home")
        main(Path(temporary))
