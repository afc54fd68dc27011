"""What the registry knows of the KServe flavor before its implementation is needed."""

from __future__ import annotations

from stackkit.model_deployers import ModelDeployerFlavor

from .config import KServeModelDeployerConfig, KServeServiceConfig


class KServeModelDeployerFlavor(ModelDeployerFlavor):
    """Serves models by InferenceServices of KServe."""

    NAME = "kserve"
    SUMMARY = "Model servers as InferenceServices of KServe."
    implementation = "stackkit_kserve.deployer:KServeModelDeployer"
    config_class = KServeModelDeployerConfig
    service_config_class = KServeServiceConfig
    location_fields = ("kubernetes_context", "kubernetes_namespace")
    start_seconds = 600  # the model is fetched, and often a large image
    clean_up_seconds = 120
