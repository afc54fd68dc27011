"""What says how a cluster is reached: a kubeconfig, its contexts and credential plugins, and what is wrong there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kube
import pytest
import yaml
from api_standin import write_kubeconfig
from kubernetes.config import incluster_config
from stackkit_kubernetes.cluster import Cluster, ClusterConfig

from stackkit.errors import PlatformUnavailableError


def test_a_context_that_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path, "http://127.0.0.1:1")))
    with pytest.raises(PlatformUnavailableError, match="has no context 'nope': it has test, other") as raised:
        Cluster.connect(ClusterConfig(kubernetes_context="nope")).identity()
    assert "--kubernetes_context" in str(raised.value.hint)


def test_no_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    with pytest.raises(PlatformUnavailableError, match=r"There is no kubeconfig at .*nowhere"):
        Cluster.connect(ClusterConfig()).identity()


@pytest.mark.parametrize("text", ["", "a: [", "contexts: 3", "- 1", "current-context: x"])
def test_a_kubeconfig_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "config").write_text(text, encoding="utf-8")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(PlatformUnavailableError, match="cannot be used"):
        Cluster.connect(ClusterConfig()).identity()


def test_incluster_outside_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(PlatformUnavailableError, match="from within"):
        Cluster.connect(ClusterConfig(incluster=True)).identity()


def test_a_cluster_without_an_authority_of_its_own_is_known_by_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path, "https://k8s.example:6443/")))
    assert Cluster.connect(ClusterConfig()).identity().id == "kubernetes:https://k8s.example:6443"


@pytest.mark.parametrize(
    "fields",
    [
        {"kubernetes_namespace": "Not-One"},
        {"kubernetes_namespace": "a/b"},
        {"base_url": "models.example.com"},
        {"base_url": "https://models.example.com/?a=b"},
        {"incluster": True, "kubernetes_context": "one"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_config_that_is_none(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"kubernetes_namespace|base URL|incluster"):
        ClusterConfig(**fields)


@pytest.mark.parametrize("command", ["no-such-plugin", "false"])
def test_a_credential_plugin_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    version = "client.authentication.k8s.io/v1"
    user = {"exec": {"apiVersion": version, "command": command, "interactiveMode": "Never"}}
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path, "http://127.0.0.1:1", user)))
    with pytest.raises(PlatformUnavailableError, match=r"cannot be used: .*(exec|No such file)"):
        Cluster.connect(ClusterConfig()).identity()


def test_the_flavor_is_told_of_without_the_client() -> None:
    """``stackkit model-deployer flavor list`` is not to wait for it."""
    code = "import stackkit_kubernetes.flavor, sys; sys.exit(any(name in sys.modules for name in sys.argv[1:]))"
    subprocess.run([sys.executable, "-c", code, "kubernetes", "websocket"], check=True)


@pytest.mark.kubernetes
def test_a_pod_uses_its_service_account(
    namespace: kube.Namespace, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the files and variables that a pod has; what it may do there is what the Role says."""
    told = yaml.safe_load(namespace.kubeconfig.read_text(encoding="utf-8"))
    (tmp_path / "token").write_text(told["users"][0]["user"]["token"], encoding="utf-8")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(
        incluster_config, "SERVICE_CERT_FILENAME", told["clusters"][0]["cluster"]["certificate-authority"]
    )
    address = urlsplit(namespace.admin.host)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(address.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(address.port))
    within = Cluster.connect(ClusterConfig(incluster=True, kubernetes_namespace=namespace.name))
    assert within.find("v1", "Pod", {}) == []
    assert within.identity() == cluster.identity(), "it is the same cluster from within"
    within.close()
