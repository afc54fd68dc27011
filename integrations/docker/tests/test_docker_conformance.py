"""The Docker deployer passes the suite, with images of its own and with images that it is given."""

from __future__ import annotations

from pathlib import Path

import pytest
from docker import DockerClient
from docker_parts import MODEL
from stackkit_docker.deployer import DockerModelDeployer

from stackkit.model_deployers import Service
from stackkit.model_deployers.conformance import ModelDeployerConformance, Subject

pytestmark = pytest.mark.docker


class TestImages(ModelDeployerConformance):
    @pytest.fixture
    def subject(self, deployer: DockerModelDeployer, images: dict[str, str]) -> Subject:
        return Subject(
            deployer,
            model={"image": images["one"]},
            other_model={"image": images["two"]},
            inputs=[[1.0]],
            broken_model={"image": images["broken"]},
            timeout=60,
        )

    @pytest.fixture(autouse=True)
    def _engine(self, engine: DockerClient) -> None:
        self.engine = engine

    def make_vanish(self, subject: Subject, service: Service) -> None:
        self.engine.containers.get(f"stackkit-{service.id}").remove(force=True)


class TestModels(TestImages):
    @pytest.fixture
    def subject(self, layers: None, deployer: DockerModelDeployer, tmp_path: Path) -> Subject:
        for name, answer in (("one", "1"), ("two", "2")):
            (tmp_path / f"{name}.py").write_text(MODEL.format(answer=answer), encoding="utf-8")
        (tmp_path / "broken.py").write_text("raise RuntimeError('it cannot be loaded')", encoding="utf-8")
        return Subject(
            deployer,
            model={"model_uri": f"{tmp_path}/one.py:predict"},
            other_model={"model_uri": f"{tmp_path}/two.py:predict"},
            inputs=[[1.0]],
            broken_model={"model_uri": f"{tmp_path}/broken.py:predict"},
            timeout=300,
        )
