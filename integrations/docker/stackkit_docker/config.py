"""What configures the Docker model deployer and its services."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from stackkit.model_deployers import ServiceConfig
from stackkit.serving.container import PREFIX
from stackkit.stack import ComponentConfig
from stackkit.stack.configs import Config

PORT_VARIABLE = f"{PREFIX}PORT"
"""Where a server of ours listens in its container, which is nobody's business but ours."""

_REGISTRY = re.compile(r"[\w.-]+(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*/?")
_MEMORY = re.compile(r"\d+[bkmg]?", re.IGNORECASE)


class DockerModelDeployerConfig(ComponentConfig):
    """The attributes of a Docker model deployer."""

    docker_host: str | None = Field(
        default=None, min_length=1, description="The engine's address; by default DOCKER_HOST, or this machine's."
    )
    network: str = Field(default="bridge", min_length=1, description="The network that the containers are in.")
    base_image: str | None = Field(
        default=None, min_length=1, description="What images are built from; by default python:<the model's>-slim."
    )
    registry: str | None = Field(
        default=None,
        min_length=1,
        description="Where built images are pushed to and looked for, such as registry:5000/team.",
    )
    registry_username: str | None = Field(default=None, description="The user at the registry.")
    registry_password: SecretStr | None = Field(default=None, description="The password or token; kept encrypted.")

    @field_validator("network")
    @classmethod
    def _publishes(cls, name: str) -> str:
        if name in ("host", "none") or name.startswith("container:"):
            raise ValueError(f"no port can be published in the network {name!r}: name a bridge or overlay network")
        return name

    @field_validator("registry")
    @classmethod
    def _begins_names(cls, registry: str | None) -> str | None:
        if registry is not None and not _REGISTRY.fullmatch(registry):
            raise ValueError(
                f"no image's name begins with {registry!r}: write it without https:// and in lower case, "
                "such as registry:5000/team"
            )
        return registry


class Mount(Config):
    """A folder or volume of the engine's machine, as the container sees it."""

    source: str = Field(min_length=1, description="An absolute path, or the name of a volume.")
    target: str = Field(pattern="^/", description="Where it is in the container.")
    read_only: bool = Field(default=True, description="Whether the container may not write there.")


def _devices(value: Any) -> Any:
    """A list of devices, also where it is written as docker's --gpus is: ``0,1``."""
    if isinstance(value, list):
        return [str(device) for device in value]
    return [device.strip() for device in str(value).split(",") if device.strip()]


class DockerServiceConfig(ServiceConfig):
    """What a model server in a container can be told: a model whose image is built, or an image."""

    image: str | None = Field(
        default=None, min_length=1, description="An image that answers on port 8080, in place of model_uri."
    )
    host: str = Field(default="127.0.0.1", min_length=1, description="The address to publish on; loopback unless told.")
    port: int | None = Field(default=None, ge=1, le=65535, description="The port; chosen once and kept by default.")
    cpus: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="The most processors it may use, such as 1.5."
    )
    memory: str | None = Field(
        default=None, description="The most memory it may use, such as 512m; it is killed when it needs more."
    )
    gpus: Annotated[list[str], BeforeValidator(_devices)] = Field(
        default=[], description="The GPUs that it sees, by number or UUID: 0,1; or all."
    )
    env: dict[str, SecretStr] = Field(
        default={}, description="Environment variables; kept encrypted, and shown by docker inspect."
    )
    mounts: list[Mount] = Field(default=[], description="Folders and volumes of the engine's machine.")
    restart_policy: Literal["no", "on-failure", "unless-stopped"] = Field(
        default="no", description="When the engine itself starts it again."
    )

    @field_validator("host")
    @classmethod
    def _is_an_address(cls, host: str) -> str:
        try:
            return str(ipaddress.ip_address(host))
        except ValueError:
            raise ValueError(f"{host!r} is no IP address, and an engine publishes on those alone") from None

    @field_validator("memory")
    @classmethod
    def _is_a_size(cls, size: str | None) -> str | None:
        if size is not None and not _MEMORY.fullmatch(size):
            raise ValueError(f"{size!r} is no size: write a number of bytes, or one with k, m or g, such as 512m")
        return size

    @field_validator("env")
    @classmethod
    def _has_names(cls, env: dict[str, SecretStr]) -> dict[str, SecretStr]:
        if wrong := [name for name in env if not name or "=" in name]:
            raise ValueError(f"{wrong[0]!r} is no name of a variable")
        return env

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if bool(self.model_uri) == bool(self.image):
            raise ValueError("give either model_uri or image")
        if self.model_uri and PORT_VARIABLE in self.env:
            raise ValueError(f"env may not hold {PORT_VARIABLE}: port is what is published, and told to clients")
        return self
