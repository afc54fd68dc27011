"""What the benchmarks of the lifecycle share: a home of their own with a local model deployer, and tiny models."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stackkit import Client
from stackkit.model_deployers import BaseModelDeployer
from stackkit.settings import ENV_HOME
from stackkit.stack import ComponentType


@contextmanager
def new_home() -> Iterator[BaseModelDeployer]:
    """A local model deployer in a home that this process and its children use, and that ends with its servers."""
    with tempfile.TemporaryDirectory(prefix="stackkit-benchmark-") as folder:
        for name in [name for name in os.environ if name.startswith("STACKKIT_")]:
            del os.environ[name]
        os.environ[ENV_HOME] = f"{folder}/home"
        client = Client()
        client.register_component(ComponentType.MODEL_DEPLOYER, "local", "local", {})
        deployer = client.model_deployer("local")
        try:
            yield deployer
        finally:
            for service in list(deployer.find_model_server(refresh=False)):
                service.delete()
            client.database.close()


def write_model(deployer: BaseModelDeployer, answer: int) -> str:
    """A model that answers every row with ``answer``; returns its URI."""
    path = Path(deployer.database.settings.home) / f"model_{answer}.py"
    path.write_text(f"def predict(data):\n    return [{answer} for row in data]\n", encoding="utf-8")
    return f"{path}:predict"
