"""What the registry knows of the Kubernetes flavor before its implementation is needed."""

from __future__ import annotations

from stackkit.model_deployers import ModelDeployerFlavor

from .config import KubernetesModelDeployerConfig, KubernetesServiceConfig


class KubernetesModelDeployerFlavor(ModelDeployerFlavor):
    """Serves models on a Kubernetes cluster: a Deployment, a Service and what belongs to them."""

    NAME = "kubernetes"
    SUMMARY = "Model servers as Deployments on a Kubernetes cluster."
    implementation = "stackkit_kubernetes.deployer:KubernetesModelDeployer"
    config_class = KubernetesModelDeployerConfig
    service_config_class = KubernetesServiceConfig
    location_fields = ("kubernetes_context", "kubernetes_namespace", "incluster")
    start_seconds = 600  # a node may have to be added, and fetches the image
    clean_up_seconds = 120
