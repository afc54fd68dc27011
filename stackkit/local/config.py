"""What configures the local model deployer and its services."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from ..model_deployers import ServiceConfig
from ..stack import ComponentConfig
from ..stack.configs import Folder


class LocalModelDeployerConfig(ComponentConfig):
    """The attributes of a local model deployer."""

    folder: Folder | None = Field(
        default=None, description="Where the servers keep their state and logs; by default the home's 'services'."
    )


def _devices(value: Any) -> Any:
    """A list of devices, also where it is written as CUDA_VISIBLE_DEVICES is: ``0,1``."""
    if isinstance(value, str):
        return [device.strip() for device in value.split(",") if device.strip()]
    if isinstance(value, list):
        return [str(device) for device in value]
    return [str(value)] if type(value) is int else value


class LocalServiceConfig(ServiceConfig):
    """What a model server on this machine can be told."""

    model_uri: str = Field(min_length=1, description="Where the model is: a path or a URI.")
    host: str = Field(default="127.0.0.1", min_length=1, description="The address to bind; loopback unless told.")
    port: int | None = Field(default=None, ge=1, le=65535, description="The port; chosen once and kept by default.")
    workers: int = Field(default=1, ge=1, le=256, description="How many processes serve the model.")
    request_timeout: float = Field(default=60.0, gt=0, description="Seconds that one request may take.")
    batching: Literal["auto", "on", "off"] = Field(
        default="auto", description="Answer requests that wait together by one call: on, off, or where it is safe."
    )
    max_batch_size: int = Field(default=64, ge=1, le=1_000_000, description="The most rows in one such call.")
    casting: Literal["exact", "mlflow"] = Field(
        default="exact", description="Refuse input that would lose something, or cast it as MLflow does."
    )
    token: SecretStr | None = Field(
        default=None, min_length=1, description="The bearer token that requests must bear; by default none."
    )
    gpus: Annotated[list[str], BeforeValidator(_devices)] = Field(
        default=[], description="Devices, one worker each, as CUDA_VISIBLE_DEVICES names them: 0,1."
    )
    env_manager: Literal["local", "uv", "virtualenv", "conda"] | None = Field(
        default=None,
        description="What makes the model's environment; by default local where the model asks for nothing else.",
    )
    env: dict[str, SecretStr] = Field(default={}, description="Environment variables of the server; kept encrypted.")
    in_place: bool = Field(default=False, description="Serve the model's own files, not a copy kept by their digest.")

    @model_validator(mode="after")
    def _one_worker_each(self) -> Self:
        if self.gpus and self.workers not in (1, len(self.gpus)):
            raise ValueError(f"gpus names {len(self.gpus)} devices, one worker each, and workers is {self.workers}")
        return self
