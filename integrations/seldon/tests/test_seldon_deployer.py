"""What the deployer asks of a cluster, without one."""

from __future__ import annotations

from unittest.mock import Mock

from stackkit_kubernetes.cluster import Cluster
from stackkit_seldon.deployer import SeldonModelDeployer

from stackkit.model_deployers import Service

ID = "8f6f2c1e-0000-4000-8000-000000000001"


def test_a_forwarded_port_leads_to_the_stable_revision_and_no_canary_or_shadow() -> None:
    deployer = object.__new__(SeldonModelDeployer)
    deployer.__dict__["_cluster"] = cluster = Mock(spec=Cluster)
    cluster.find.return_value = []
    deployer.do_forward(Service({"id": ID}, deployer), None)
    assert cluster.forward.call_args.args[0] == {"stackkit/service": ID, "version": "default"}
