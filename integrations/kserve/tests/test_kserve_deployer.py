"""What the deployer asks of a cluster, without one."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest
from stackkit_kserve.deployer import KServeModelDeployer
from stackkit_kserve.flavor import KServeModelDeployerFlavor
from stackkit_kubernetes.cluster import EPOCH, Cluster, service_labels
from stackkit_kubernetes.objects import KEPT

from stackkit.errors import NotSupportedError
from stackkit.model_deployers import Service

ID = "8f6f2c1e-0000-4000-8000-000000000001"


@pytest.fixture
def cluster() -> Mock:
    made = Mock(spec=Cluster)
    made.serves.return_value = True
    made.find.return_value = []
    return made


@pytest.fixture
def deployer(cluster: Mock) -> KServeModelDeployer:
    made = object.__new__(KServeModelDeployer)
    made.__dict__["_cluster"] = cluster
    return made


def service(**fields: Any) -> Service:
    known: Any = KServeModelDeployerFlavor
    return Service({"id": ID, "config": {"model_name": "iris", "image": "i", **fields}}, known)


def test_a_forwarded_port_leads_to_what_requests_pass_first(deployer: KServeModelDeployer, cluster: Mock) -> None:
    deployer.do_forward(service(), None)
    assert cluster.forward.call_args.args[0] == {"stackkit/service": ID}
    deployer.do_forward(service(transformer={"image": "t"}), None)
    assert cluster.forward.call_args.args[0] == {"stackkit/service": ID, "component": "transformer"}


def test_a_canary_with_another_transformer_is_refused(deployer: KServeModelDeployer, cluster: Mock) -> None:
    cluster.get.return_value = {"status": {"deploymentMode": "Knative"}}
    stable = service(transformer={"image": "t:1"})
    deployer.check_split(stable, stable.config, 20)
    with pytest.raises(NotSupportedError, match="pass the canary's transformer"):
        deployer.check_split(stable, service(transformer={"image": "t:2"}).config, 20)


def test_a_server_is_adopted_under_the_epoch_that_it_was_made_under(
    deployer: KServeModelDeployer, cluster: Mock
) -> None:
    kept = '{"config": {"image": "i"}, "source": {"uri": "i"}}'
    metadata = {"name": f"stackkit-{ID}", "labels": service_labels(ID), "annotations": {KEPT: kept, EPOCH: "7"}}
    labels = {"stackkit/revision": "3"}
    cluster.find.return_value = [{"metadata": metadata, "spec": {"predictor": {"labels": labels}}}]
    (found,) = deployer.do_find()
    assert (found.service_id, found.revision, found.epoch) == (ID, 3, 7)
