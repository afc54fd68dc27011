"""A pipeline whose model is served on Kubernetes: deployed, asked, replaced by the next run, rolled back and deleted.

Run it with a cluster whose nodes see this machine's Docker Engine (kind, minikube and Docker Desktop can), or give the
deployer an image_registry:

    python examples/kubernetes/pipeline.py --namespace default
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Annotated

from stackkit import Client, pipeline, step
from stackkit.pipelines import model_deployer_step
from stackkit.stack import ComponentType

MODEL = '''\
"""Tells tall flowers from short ones."""


def predict(rows):
    return ["tall" if row[0] > {limit} else "short" for row in rows]
'''


@step
def train(heights: list[float], folder: str) -> Annotated[str, "model"]:
    """A model is learned, and written where the deployer finds it. It asks for nothing but Python."""
    limit = sum(heights) / len(heights)
    file = Path(folder) / "flowers.py"
    file.write_text(MODEL.format(limit=limit), encoding="utf-8")
    return f"{file}:predict"


@pipeline
def training(heights: list[float], folder: str) -> None:
    model_deployer_step(
        model=train(heights, folder),
        model_name="flowers",
        service_fields={"replicas": 2, "requests": {"cpu": "50m", "memory": "64Mi"}},
        timeout=900,
    )


def main(namespace: str, folder: str) -> None:
    client = Client()
    fields = {"kubernetes_namespace": namespace}
    if not client.components.list(ComponentType.MODEL_DEPLOYER):
        client.register_component(ComponentType.MODEL_DEPLOYER, "k8s", "kubernetes", fields)

    run = training([10.0, 20.0], folder)
    service = client.servers.get(run.steps["model_deployer_step"].run_metadata["service_uuid"].value)
    try:
        print(f"{service.name} answers at {service.prediction_url}")
        assert service.predict([[12.0], [18.0]]) == ["short", "tall"]

        training([10.0, 12.0], folder)
        assert service.refresh().predict([[12.0]]) == ["tall"]
        print(f"The next run's model serves under the same URL, as revision {service.revision}")

        service.deployer.rollback_model_server(service)
        assert service.refresh().predict([[12.0]]) == ["short"]
        print("The model before serves again")
    finally:
        service.delete()
    print("Deleted: nothing is left in the cluster")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--namespace", default="default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        os.environ.setdefault("STACKKIT_HOME", f"{temporary}/home")
        main(options.namespace, temporary)
