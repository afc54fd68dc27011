"""The KServe deployer passes the suite, served by a stand-in for KServe's controller: both modes, both protocols."""

from __future__ import annotations

from typing import Any, ClassVar

import kube
import pytest
from stackkit_kserve.deployer import KServeModelDeployer

from stackkit.model_deployers import Service
from stackkit.model_deployers.conformance import ModelDeployerConformance, Subject

pytestmark = pytest.mark.kubernetes


class KServeConformance(ModelDeployerConformance):
    """With images that speak either protocol."""

    fields: ClassVar[dict[str, Any]]

    @pytest.fixture
    def subject(self, deployer: KServeModelDeployer, images: dict[str, str]) -> Subject:
        return Subject(
            deployer,
            model={"image": images["one"], **self.fields},
            other_model={"image": images["two"], **self.fields},
            inputs=[[1.0]],
            broken_model={"image": images["broken"], **self.fields},
            timeout=150,
        )

    @pytest.fixture(autouse=True)
    def _place(self, namespace: kube.Namespace) -> None:
        self.place = namespace

    def make_vanish(self, subject: Subject, service: Service) -> None:
        cluster, resource = (
            self.place.admin,
            ("serving.kserve.io/v1beta1", "InferenceService", f"stackkit-{service.id}"),
        )
        cluster.delete(*resource)
        kube.until(lambda: cluster.get(*resource) is None)


class TestStandard(KServeConformance):
    """A plain Deployment, over V2."""

    fields: ClassVar[dict[str, Any]] = {"deployment_mode": "raw", "protocol": "v2"}

    def split(self, subject: Subject, **fields: Any) -> Service:
        pytest.skip("KServe splits the requests of serverless services alone")


class TestKnative(KServeConformance):
    """Knative's revisions, over V1."""

    fields: ClassVar[dict[str, Any]] = {"deployment_mode": "serverless", "protocol": "v1"}
