"""What the registry knows of the Docker flavor before its implementation is needed."""

from __future__ import annotations

from stackkit.model_deployers import ModelDeployerFlavor

from .config import DockerModelDeployerConfig, DockerServiceConfig


class DockerModelDeployerFlavor(ModelDeployerFlavor):
    """Serves models in containers of a Docker Engine, on this machine or another."""

    NAME = "docker"
    SUMMARY = "Model servers as containers of a Docker Engine."
    implementation = "stackkit_docker.deployer:DockerModelDeployer"
    config_class = DockerModelDeployerConfig
    service_config_class = DockerServiceConfig
    location_fields = ("docker_host",)
