"""The local deployer passes the suite with real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from stackkit import Client
from stackkit.model_deployers.conformance import ModelDeployerConformance, Subject
from stackkit.stack import ComponentType

MODEL = """
def predict(data):
    return [[{answer}] for row in data]
"""


class TestLocal(ModelDeployerConformance):
    @pytest.fixture
    def subject(self, client: Client, tmp_path: Path) -> Subject:
        for name, text in (("one", "1"), ("two", "2")):
            (tmp_path / f"{name}.py").write_text(MODEL.format(answer=text), encoding="utf-8")
        (tmp_path / "broken.py").write_text("raise RuntimeError('it cannot be loaded')", encoding="utf-8")
        client.register_component(ComponentType.MODEL_DEPLOYER, "local", "local", {})
        return Subject(
            client.model_deployer("local"),
            model={"model_uri": f"{tmp_path}/one.py:predict"},
            other_model={"model_uri": f"{tmp_path}/two.py:predict"},
            inputs=[[1.0]],
            broken_model={"model_uri": f"{tmp_path}/broken.py:predict"},
            timeout=60,
        )
