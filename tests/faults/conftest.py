"""Models, a local deployer, and processes to kill."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from stackkit import Client
from stackkit.model_deployers import BaseModelDeployer
from stackkit.stack import ComponentType

MODEL = "def predict(data):\n    return [{answer} for row in data]\n"


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Processes that begin with everything imported, so that a hundred of them cost little."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killing"])
    return context


@pytest.fixture
def deployer(client: Client) -> Iterator[BaseModelDeployer]:
    client.register_component(ComponentType.MODEL_DEPLOYER, "local", "local", {})
    yield client.model_deployer("local")
    for service in list(client.servers.find(refresh=False)):
        service.delete(timeout=60)


@pytest.fixture
def models(tmp_path: Path) -> dict[str, str]:
    """The URIs of two models by name."""
    for name, answer in (("one", 1), ("two", 2)):
        (tmp_path / f"{name}.py").write_text(MODEL.format(answer=answer), encoding="utf-8")
    return {name: f"{tmp_path}/{name}.py:predict" for name in ("one", "two")}
