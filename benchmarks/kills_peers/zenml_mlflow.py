"""ZenML's side of ``kills.py``: ``deploy PIPELINE MODEL MOMENT`` and ``list PIPELINE``, with its MLflow deployer.

Runs in an environment with ZenML 0.98 and what its MLflow integration asks for, under a stack that has the deployer.
"""

from __future__ import annotations

import json
import sys

from moments import broken
from zenml.client import Client
from zenml.integrations.mlflow.services.mlflow_deployment import MLFlowDeploymentConfig, MLFlowDeploymentService


def deploy(pipeline: str, model: str, moment: str) -> None:
    """Deploy one server and wait until it answers."""
    # what starts the daemon; the wait until it answers comes after it
    MLFlowDeploymentService.provision = broken(  # type: ignore[method-assign]
        MLFlowDeploymentService.provision, moment, pipeline
    )
    config = MLFlowDeploymentConfig(
        model_name="iris", model_uri=model, pipeline_name=pipeline, pipeline_step_name="deployer"
    )
    Client().active_stack.model_deployer.deploy_model(
        config,
        MLFlowDeploymentService.SERVICE_TYPE,
        # the mode in which it tells services apart: in the other one, any server of the flavor is taken for the same
        continuous_deployment_mode=True,
        timeout=120,
    )


def show(pipeline: str) -> None:
    """Print the state and the port of each server of a pipeline, as JSON; what ``models list`` calls as well."""
    found = Client().active_stack.model_deployer.find_model_server(pipeline_name=pipeline)
    print(json.dumps([(each.status.state.value, each.endpoint.status.port) for each in found]))


if __name__ == "__main__":
    {"deploy": deploy, "list": show}[sys.argv[1]](*sys.argv[2:])
