"""A flavor whose configuration holds secrets."""

from __future__ import annotations

import pytest
from pydantic import Field, SecretStr

from stackkit.stack import ComponentConfig, ComponentType, Flavor


class RemoteConfig(ComponentConfig):
    url: str = "https://models.example.org"
    region: str = "here"
    replicas: int = 1
    token: SecretStr | None = None
    password: SecretStr | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict)


class RemoteFlavor(Flavor):
    TYPE = ComponentType.MODEL_DEPLOYER
    NAME = "remote"
    config_class = RemoteConfig
    location_fields = ("region",)


@pytest.fixture
def remote() -> Flavor:
    return RemoteFlavor()
