"""A pipeline that trains a model and has KServe serve it, as a plain Deployment in a cluster.

Before: stackkit model-deployer register cluster --flavor=kserve --kubernetes_namespace=models
Run it: python examples/kserve/pipeline.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from stackkit import pipeline, step
from stackkit.model_deployers import BaseModelDeployer, KServeServiceConfig
from stackkit.pipelines import model_deployer_step

MODEL = '''\
def predict(rows):
    """The price of a house by its area, in thousands."""
    return [[round({slope} * row[0] + {base}, 1)] for row in rows]
'''


@step
def train(folder: str, slope: float) -> str:
    file = Path(folder, "prices.py")
    file.write_text(MODEL.format(slope=slope, base=20), encoding="utf-8")
    return f"{file}:predict"


@pipeline
def training(folder: str, slope: float = 3.5) -> None:
    config = KServeServiceConfig(
        model_name="prices",
        model_uri=f"{folder}/prices.py:predict",
        deployment_mode="raw",
        min_replicas=1,
        max_replicas=3,
        scale_metric="cpu",
        scale_target=80,
        requests={"cpu": "50m", "memory": "128Mi"},
    )
    model_deployer_step(model=train(folder, slope), model_name="prices", config=config)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = training(folder)
    deployed = run.steps["model_deployer_step"].run_metadata
    service = BaseModelDeployer.get_active_model_deployer().get_model_server(deployed["service_uuid"].value)
    print(f"{service.name} answers at {service.prediction_url}")
    print(f"The prices are {service.predict([[100], [120]])}")


if __name__ == "__main__":
    main()
