"""The Seldon Core deployer passes the suite, served by a stand-in for Seldon Core's controller."""

from __future__ import annotations

import kube
import pytest
from stackkit_seldon.deployer import SeldonModelDeployer

from stackkit.model_deployers import Service
from stackkit.model_deployers.conformance import ModelDeployerConformance, Subject

pytestmark = pytest.mark.kubernetes


class TestSeldon(ModelDeployerConformance):
    @pytest.fixture
    def subject(self, deployer: SeldonModelDeployer, images: dict[str, str]) -> Subject:
        return Subject(
            deployer,
            model={"image": images["one"]},
            other_model={"image": images["two"]},
            inputs=[[1.0]],
            broken_model={"image": images["broken"]},
            timeout=150,
        )

    @pytest.fixture(autouse=True)
    def _place(self, namespace: kube.Namespace) -> None:
        self.place = namespace

    def make_vanish(self, subject: Subject, service: Service) -> None:
        cluster, resource = (
            self.place.admin,
            ("machinelearning.seldon.io/v1", "SeldonDeployment", f"stackkit-{service.id}"),
        )
        cluster.delete(*resource)
        kube.until(lambda: cluster.get(*resource) is None)
