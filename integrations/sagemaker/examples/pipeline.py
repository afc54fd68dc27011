# ruff: noqa: T201 - it tells its reader what it does
"""A pipeline that trains a model and has SageMaker serve it, or this machine's Docker Engine in its place.

Register a deployer, and run it:

    stackkit model-deployer register here --flavor=sagemaker --local
    python integrations/sagemaker/examples/pipeline.py

In AWS it is the same pipeline, with a deployer that has a region and a role (docs/sagemaker.md).
"""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from stackkit import pipeline, step
from stackkit.model_deployers import SageMakerModelDeployer
from stackkit.pipelines import model_deployer_step


@step
def train(folder: str) -> str:
    features, classes = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=1000).fit(features, classes), Path(folder) / "model.joblib")
    # what its image is built with
    asked = [f"{name}=={version(name)}" for name in ("scikit-learn", "joblib", "numpy")]
    (Path(folder) / "requirements.txt").write_text("\n".join(asked), encoding="utf-8")
    return folder


@pipeline
def training(folder: str) -> None:
    model_deployer_step(model=train(folder), model_name="iris", service_fields={"instance_type": "ml.m5.large"})


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        training(folder)
    deployer = SageMakerModelDeployer.get_active_model_deployer()
    (service,) = deployer.find_model_server(pipeline_name="training", model_name="iris")
    try:
        print(f"{service.name} is {service.status.state.value} at {service.prediction_url}")
        print(f"Predictions: {service.predict([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]])}")
    finally:
        service.delete()


if __name__ == "__main__":
    main()
