"""The SageMaker deployer passes the suite, and leaves nothing behind in the account."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stackkit.model_deployers import BaseModelDeployer
from stackkit.model_deployers.conformance import ModelDeployerConformance, Subject

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serving"


class TestSageMaker(ModelDeployerConformance):
    @pytest.fixture
    def subject(self, aws: Any, deployer: BaseModelDeployer, models: dict[str, str]) -> Iterator[Subject]:
        yield Subject(
            deployer,
            model={"model_uri": models["one"], "image": f"{IMAGE}:1"},
            other_model={"model_uri": models["two"], "image": f"{IMAGE}:1"},
            inputs=[[1.0]],
            broken_model={"model_uri": models["two"], "image": f"{IMAGE}:broken"},
            timeout=30,
        )
        assert aws.names() == {}
