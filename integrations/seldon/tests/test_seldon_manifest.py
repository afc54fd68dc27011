"""The manifest of a service goes through kubectl, on a real cluster, and back to a service."""

from __future__ import annotations

import kube
import manifests
import pytest
from stackkit_seldon.deployer import SeldonModelDeployer
from stackkit_seldon.seldon_deployment import API, KIND

pytestmark = pytest.mark.kubernetes


def test_a_manifest_goes_through_kubectl_and_back(
    deployer: SeldonModelDeployer, namespace: kube.Namespace, images: dict[str, str]
) -> None:
    fields = {"model_name": "iris", "image": images["one"]}
    manifests.go_round(deployer, namespace, fields, kinds=[(API, KIND)], data=[[1.0]])
