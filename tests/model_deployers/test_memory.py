"""The in-memory deployer passes the suite, on every database."""

from __future__ import annotations

import pytest

from stackkit.model_deployers.conformance import ModelDeployerConformance, Subject
from stackkit.model_deployers.memory import MemoryModelDeployer


@pytest.mark.all_databases
class TestMemory(ModelDeployerConformance):
    @pytest.fixture
    def subject(self, deployer: MemoryModelDeployer) -> Subject:
        return Subject(
            deployer,
            model={"model_uri": "one"},
            other_model={"model_uri": "two"},
            inputs=[[1.0]],
            broken_model={"behaviour": "fail"},
            timeout=20,
        )
