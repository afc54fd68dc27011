"""The Kubernetes deployer passes the suite on a real cluster, with the rights of docs/kubernetes-rbac.yaml alone."""

from __future__ import annotations

from collections.abc import Iterator

import kube
import pytest
from kubernetes_parts import ENDS_AT_ONCE

from stackkit import Client
from stackkit.model_deployers import Service
from stackkit.model_deployers.conformance import ModelDeployerConformance, Subject
from stackkit.stack import ComponentType

pytestmark = pytest.mark.kubernetes


class TestImages(ModelDeployerConformance):
    @pytest.fixture
    def subject(self, client: Client, namespace: kube.Namespace, images: dict[str, str]) -> Iterator[Subject]:
        self.namespace = namespace
        client.register_component(ComponentType.MODEL_DEPLOYER, "team", "kubernetes", namespace.attributes)
        yield Subject(
            client.model_deployer("team"),
            model={"image": images["one"], "service_type": "NodePort", "patch": ENDS_AT_ONCE},
            other_model={"image": images["two"]},
            inputs=[[1.0]],
            broken_model={"image": images["broken"]},
            timeout=120,
            canary_percent=50,  # what one pod beside another answers
        )

    def make_vanish(self, subject: Subject, service: Service) -> None:
        name = f"stackkit-{service.id}"
        self.namespace.admin.delete("apps/v1", "Deployment", name)
        kube.until(lambda: self.namespace.admin.get("apps/v1", "Deployment", name) is None)
