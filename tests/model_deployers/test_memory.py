"""The in-memory deployer passes the suite, on every database."""

from __future__ import annotations

import pytest

from stackkit import Client
from stackkit.model_deployers.conformance import ModelDeployerConformance, Subject
from stackkit.model_deployers.memory import MemoryModelDeployer
from stackkit.stack import ComponentType


@pytest.mark.all_databases
class TestMemory(ModelDeployerConformance):
    @pytest.fixture
    def subject(self, client: Client, deployer: MemoryModelDeployer) -> Subject:
        attributes = {"platform": deployer.config.platform, "updates_in_place": True}
        client.register_component(ComponentType.MODEL_DEPLOYER, "rolling", "memory", attributes)
        return Subject(
            client.model_deployer("rolling"),
            model={"model_uri": "one"},
            other_model={"model_uri": "two"},
            inputs=[[1.0]],
            broken_model={"behaviour": "fail"},
            timeout=20,
        )
