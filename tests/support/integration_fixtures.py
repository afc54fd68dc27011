"""What the integrations' tests share: a home of each test's own, a client on it, and this machine's engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker import DockerClient
from docker.errors import DockerException
from real_parts import BASE_IMAGE, require

from stackkit import Client
from stackkit.settings import Settings
from stackkit.store import Database


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("STACKKIT_") and "_TEST_" not in name]:
        monkeypatch.delenv(name)
    folder = tmp_path / "home"
    monkeypatch.setenv("STACKKIT_HOME", str(folder))
    return folder


@pytest.fixture
def client(home: Path) -> Iterator[Client]:
    settings = Settings.load()
    database = Database(settings)
    database.upgrade()
    database.close()
    opened = Client(settings)
    yield opened
    opened.database.close()


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerClient]:
    """The engine of this machine, whose images the pods of a cluster on it see too."""
    try:
        client = docker.from_env()
        client.images.get(BASE_IMAGE)
    except DockerException as error:
        require("docker", f"no Docker Engine with {BASE_IMAGE} answers ({type(error).__name__})")
    yield client
    client.close()
