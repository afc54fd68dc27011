"""What the registry knows of the SageMaker flavor before boto3 is needed."""

from __future__ import annotations

from stackkit.model_deployers import ModelDeployerFlavor

from .config import SageMakerModelDeployerConfig, SageMakerServiceConfig


class SageMakerModelDeployerFlavor(ModelDeployerFlavor):
    """Serves models as endpoints of Amazon SageMaker."""

    NAME = "sagemaker"
    SUMMARY = "Endpoints of Amazon SageMaker."
    implementation = "stackkit_sagemaker.deployer:SageMakerModelDeployer"
    config_class = SageMakerModelDeployerConfig
    service_config_class = SageMakerServiceConfig
    location_fields = ("local", "region", "bucket", "ecr_repository", "endpoint_url")
    start_seconds = 1800  # SageMaker takes some minutes to bring an endpoint up, and as long for each step of an update
    clean_up_seconds = 900  # it deletes none that is being created or changed
