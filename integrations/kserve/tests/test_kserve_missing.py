"""A cluster in which KServe is not installed, or is not any more. Needs no cluster."""

from __future__ import annotations

import subprocess
import sys
from unittest.mock import Mock

import pytest
from stackkit_kserve.deployer import KServeModelDeployer
from stackkit_kubernetes.cluster import Cluster

from stackkit import Client
from stackkit.errors import DeploymentError, NotFoundError
from stackkit.model_deployers import PlatformIdentity
from stackkit.stack import ComponentType


@pytest.fixture
def cluster() -> Mock:
    made = Mock(spec=Cluster)
    made.identity.return_value = PlatformIdentity("kubernetes:x", "the Kubernetes cluster x")
    made.serves.return_value = False
    made.find.return_value = []
    return made


@pytest.fixture
def deployer(client: Client, cluster: Mock) -> KServeModelDeployer:
    client.register_component(ComponentType.MODEL_DEPLOYER, "kserve", "kserve", {})
    made = client.model_deployer("kserve")
    assert isinstance(made, KServeModelDeployer)
    made.__dict__["_cluster"] = cluster
    return made


def test_it_is_told_before_anything_is_written(deployer: KServeModelDeployer) -> None:
    with pytest.raises(DeploymentError, match="has no InferenceService") as raised:
        deployer.deploy_model(model_name="iris", image="iris:1")
    assert raised.value.hint is not None
    assert "Install KServe" in raised.value.hint
    assert not list(deployer.find_model_server())


def test_a_service_of_one_that_was_removed_can_be_deleted(deployer: KServeModelDeployer, cluster: Mock) -> None:
    cluster.serves.return_value = True
    cluster.get.return_value = None
    service = deployer.deploy_model(model_name="iris", image="iris:1", timeout=0)
    cluster.apply.assert_called_once()
    cluster.serves.return_value = False
    service.delete(timeout=5)
    with pytest.raises(NotFoundError):
        deployer.get_model_server(service.id)


def test_describing_the_flavor_needs_no_client_of_a_cluster() -> None:
    code = "import sys, stackkit_kserve.flavor; sys.exit('kubernetes' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
