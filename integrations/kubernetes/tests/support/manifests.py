"""A service's manifest on its way through kubectl."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import kube
import pytest
import yaml
from kubernetes_parts import said

from stackkit.model_deployers import BaseModelDeployer, ServiceState


def go_round(
    deployer: BaseModelDeployer,
    place: kube.Namespace,
    fields: Mapping[str, Any],
    *,
    kinds: Sequence[tuple[str, str]],
    data: Sequence[Any],
) -> None:
    """Preview, deploy, apply and adopt a service that answers ``data`` with "one".

    ``kinds`` are those of its objects, by version and kind in the order of the manifest; the last is looked at.
    """
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    previewed = deployer.dry_run(**fields, secrets={"TOKEN": "hunter2"})
    assert "hunter2" not in previewed
    assert not deployer.find_model_server()
    _apply(place, previewed, "--dry-run=server")

    service = deployer.deploy_model(**fields, timeout=150)
    name = f"stackkit-{service.id}"
    before = place.admin.get(*kinds[-1], name)
    manifest = deployer.manifest(service)
    assert [(each["apiVersion"], each["kind"]) for each in yaml.safe_load_all(manifest)] == list(kinds)
    _apply(place, manifest)
    after = place.admin.get(*kinds[-1], name)
    assert before is not None and after is not None
    assert after["spec"] == before["spec"]
    assert service.refresh().status.state is ServiceState.ACTIVE
    # what was deleted comes back by the manifest alone
    service.delete(timeout=150)
    _apply(place, manifest)
    (found,) = deployer.find_orphans()
    adopted = deployer.adopt_model_server(found.service_id)
    kube.until(lambda: adopted.refresh().status.state is ServiceState.ACTIVE)
    assert kube.until(lambda: said(adopted, data)) == ["one"]


def _apply(place: kube.Namespace, manifest: str, *options: str) -> None:
    """Have kubectl apply it with the rights of the Role."""
    command = ["kubectl", "--namespace", place.name, "apply", *options, "--filename", "-"]
    done = subprocess.run(command, input=manifest, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
