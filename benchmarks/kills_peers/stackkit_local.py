"""stackkit's side of ``kills.py``: ``deploy PIPELINE MODEL MOMENT`` and ``list PIPELINE``, with its local deployer."""

from __future__ import annotations

import json
import sys
from urllib.parse import urlsplit

from moments import broken

from stackkit.model_deployers import LocalModelDeployer


def deploy(pipeline: str, model: str, moment: str) -> None:
    """Deploy one server and wait until it answers."""
    deployer = LocalModelDeployer.get_active_model_deployer()
    deployer.do_start = broken(deployer.do_start, moment, pipeline)  # type: ignore[method-assign]
    deployer.deploy_model(model_name="iris", pipeline_name=pipeline, model_uri=model, timeout=120)


def show(pipeline: str) -> None:
    """Print the state and the port of each server of a pipeline, as JSON."""
    found = LocalModelDeployer.get_active_model_deployer().find_model_server(pipeline_name=pipeline)
    print(json.dumps([(each.status.state.value, urlsplit(each.prediction_url or "").port) for each in found]))


if __name__ == "__main__":
    {"deploy": deploy, "list": show}[sys.argv[1]](*sys.argv[2:])
