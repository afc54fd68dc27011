"""What the tests of pipelines share: the active stack of a home of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stackkit import Client
from stackkit.model_deployers import BaseModelDeployer
from stackkit.stack import ComponentType
from stackkit.store import Database, default_database


@pytest.fixture
def active_database(database: Database) -> Iterator[Database]:
    """The database that the environment names, which is what pipelines run on."""
    active = default_database()
    assert active.settings == database.settings
    yield active
    active.close()


@pytest.fixture
def memory_deployer(active_database: Database) -> BaseModelDeployer:
    """A model deployer in the active stack whose servers are in this process's memory."""
    client = Client()
    client.flavors.register(ComponentType.MODEL_DEPLOYER, "stackkit.model_deployers.memory.MemoryModelDeployerFlavor")
    platform = str(active_database.settings.home)  # one for each test
    client.register_component(ComponentType.MODEL_DEPLOYER, "memory", "memory", {"platform": platform})
    return client.model_deployer()
