"""What the registry knows of the local flavor before its implementation is needed."""

from __future__ import annotations

from ..model_deployers import ModelDeployerFlavor
from .config import LocalModelDeployerConfig, LocalServiceConfig


class LocalModelDeployerFlavor(ModelDeployerFlavor):
    """Serves models as processes of this machine, which outlive the shell or pipeline that started them."""

    NAME = "local"
    SUMMARY = "Model servers as supervised processes on this machine."
    implementation = "stackkit.local.deployer:LocalModelDeployer"
    config_class = LocalModelDeployerConfig
    service_config_class = LocalServiceConfig
    location_fields = ("folder",)
