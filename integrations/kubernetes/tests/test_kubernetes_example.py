"""The example runs as it stands, with the rights of docs/kubernetes-rbac.yaml alone, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import kube
import pytest

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker]

_EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "kubernetes" / "pipeline.py"


def test_the_pipeline_example(namespace: kube.Namespace, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(_EXAMPLE), "--namespace", namespace.name],
        env={**os.environ, "KUBECONFIG": str(namespace.kubeconfig), "STACKKIT_HOME": str(tmp_path / "other")},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "as revision 2" in done.stdout
    assert "nothing is left" in done.stdout
    assert kube.left(namespace) == []
