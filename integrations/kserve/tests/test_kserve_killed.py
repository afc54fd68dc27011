"""A deploy and a canary killed at their points, one after the other."""

from __future__ import annotations

import kill_anywhere
import kube
import pytest
from stackkit_kserve.deployer import KServeModelDeployer
from stand_in_kserve import StandInKServe

from stackkit import Client

pytestmark = [pytest.mark.kubernetes, pytest.mark.faults]


@pytest.mark.parametrize("operation", ["deploy", "canary"])
def test_killed_at_its_points(
    operation: str,
    client: Client,
    deployer: KServeModelDeployer,
    namespace: kube.Namespace,
    kserve: StandInKServe,
    images: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kserve, "default_mode", "Knative")
    kill_anywhere.check(operation, client, deployer, namespace, images)
