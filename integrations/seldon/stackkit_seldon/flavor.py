"""What the registry knows of the Seldon Core flavor before its implementation is needed."""

from __future__ import annotations

from stackkit.model_deployers import ModelDeployerFlavor

from .config import SeldonModelDeployerConfig, SeldonServiceConfig


class SeldonModelDeployerFlavor(ModelDeployerFlavor):
    """Serves models by SeldonDeployments of Seldon Core 1."""

    NAME = "seldon"
    SUMMARY = "Model servers as SeldonDeployments of Seldon Core."
    implementation = "stackkit_seldon.deployer:SeldonModelDeployer"
    config_class = SeldonModelDeployerConfig
    service_config_class = SeldonServiceConfig
    location_fields = ("kubernetes_context", "kubernetes_namespace")
    start_seconds = 600  # the model is fetched, and often a large image
    clean_up_seconds = 120
