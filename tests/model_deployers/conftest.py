"""The in-memory deployer, on a platform of this test's own."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from stackkit import Client
from stackkit.model_deployers import ModelSource, Progress, ServiceConfig
from stackkit.model_deployers.memory import MemoryModelDeployer
from stackkit.stack import ComponentType

FLAVOR = "stackkit.model_deployers.memory.MemoryModelDeployerFlavor"


@pytest.fixture
def deployer(client: Client) -> MemoryModelDeployer:
    client.flavors.register(ComponentType.MODEL_DEPLOYER, FLAVOR)
    platform = {"platform": f"memory-{uuid.uuid4()}"}
    client.register_component(ComponentType.MODEL_DEPLOYER, "memory", "memory", platform)
    loaded = client.model_deployer("memory")
    assert isinstance(loaded, MemoryModelDeployer)
    return loaded


@pytest.fixture
def splitting(client: Client, deployer: MemoryModelDeployer) -> MemoryModelDeployer:
    """One on the same platform that updates in place and can split a server's requests."""
    attributes = {"platform": deployer.config.platform, "updates_in_place": True}
    client.register_component(ComponentType.MODEL_DEPLOYER, "rolling", "memory", attributes)
    loaded = client.model_deployer("rolling")
    assert isinstance(loaded, MemoryModelDeployer)
    return loaded


@pytest.fixture
def overtake(monkeypatch: pytest.MonkeyPatch) -> Callable[[MemoryModelDeployer, Callable[[], object]], None]:
    """Has something done, once, just before the deployer's next operation resolves its model."""

    def overtake(deployer: MemoryModelDeployer, act: Callable[[], object]) -> None:
        resolve = deployer.do_resolve
        once = iter([act])

        def be_overtaken(config: ServiceConfig, progress: Progress) -> ModelSource:
            next(once, lambda: None)()
            return resolve(config, progress)

        monkeypatch.setattr(deployer, "do_resolve", be_overtaken)

    return overtake
