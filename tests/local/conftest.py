from __future__ import annotations

from collections.abc import Iterator

import pytest

from stackkit import Client
from stackkit.model_deployers import BaseModelDeployer
from stackkit.stack import ComponentType


@pytest.fixture
def deployer(client: Client) -> Iterator[BaseModelDeployer]:
    """A local model deployer; what a test deployed ends with it."""
    client.register_component(ComponentType.MODEL_DEPLOYER, "local", "local", {})
    yield client.model_deployer("local")
    for service in list(client.servers.find(refresh=False)):
        service.delete()
