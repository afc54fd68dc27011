"""A pipeline that trains a model and has Seldon Core serve it in a cluster.

Before: stackkit model-deployer register cluster --flavor=seldon --kubernetes_namespace=models \\
            --base_url=https://models.example.com
Run it: python examples/seldon/pipeline.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from stackkit import pipeline, step
from stackkit.model_deployers import BaseModelDeployer, SeldonServiceConfig
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
    config = SeldonServiceConfig(
        model_name="prices",
        model_uri=f"{folder}/prices.py:predict",
        replicas=2,
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
