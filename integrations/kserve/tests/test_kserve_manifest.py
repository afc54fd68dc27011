"""The manifest of a service goes through kubectl, on a real cluster, and back to a service."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import kube
import pytest
import yaml
from stackkit_kserve.deployer import KServeModelDeployer
from stackkit_kserve.inference_service import API, KIND

from stackkit.model_deployers import ServiceState

pytestmark = pytest.mark.kubernetes

TIMEOUT = 150.0


def test_a_manifest_goes_through_kubectl_and_back(
    deployer: KServeModelDeployer, namespace: kube.Namespace, images: dict[str, str]
) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    fields: dict[str, Any] = {"model_name": "iris", "image": images["one"]}
    previewed = deployer.dry_run(**fields, secrets={"TOKEN": "hunter2"})
    assert "hunter2" not in previewed
    assert not deployer.find_model_server()
    kubectl(namespace, "apply", "--dry-run=server", "--filename", "-", text=previewed)

    service = deployer.deploy_model(**fields, timeout=TIMEOUT)
    name = f"stackkit-{service.id}"
    before = namespace.admin.get(API, KIND, name)
    manifest = deployer.manifest(service)
    assert yaml.safe_load(manifest)["kind"] == KIND
    kubectl(namespace, "apply", "--filename", "-", text=manifest)
    after = namespace.admin.get(API, KIND, name)
    assert before is not None and after is not None
    assert after["spec"] == before["spec"]
    assert service.refresh().status.state is ServiceState.ACTIVE
    # what was deleted comes back by the manifest alone
    service.delete(timeout=TIMEOUT)
    kubectl(namespace, "apply", "--filename", "-", text=manifest)
    (found,) = deployer.find_orphans()
    adopted = deployer.adopt_model_server(found.service_id)
    kube.until(lambda: adopted.refresh().status.state is ServiceState.ACTIVE)
    assert adopted.predict([[1.0]]) == ["one"]


def kubectl(namespace: kube.Namespace, *arguments: str, text: str) -> None:
    """Run kubectl with the rights of the Role."""
    command = ["kubectl", "--namespace", namespace.name, *arguments]
    done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
