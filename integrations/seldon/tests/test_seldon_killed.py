"""A deploy and a canary killed at their points, one after the other."""

from __future__ import annotations

import kill_anywhere
import kube
import pytest
from stackkit_seldon.deployer import SeldonModelDeployer

from stackkit import Client

pytestmark = [pytest.mark.kubernetes, pytest.mark.faults]


@pytest.mark.parametrize("operation", ["deploy", "canary"])
def test_killed_at_its_points(
    operation: str,
    client: Client,
    deployer: SeldonModelDeployer,
    namespace: kube.Namespace,
    images: dict[str, str],
) -> None:
    kill_anywhere.check(operation, client, deployer, namespace, images)
