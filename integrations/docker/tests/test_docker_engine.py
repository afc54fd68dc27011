"""Where an engine is, and what can be reached of it from here. Needs no engine."""

from __future__ import annotations

import socket

import pytest
from stackkit_docker import engine

from stackkit import Client
from stackkit.errors import InvalidConfigError, PlatformUnavailableError
from stackkit.stack import ComponentType


@pytest.mark.parametrize(
    ("host", "machine"),
    [
        pytest.param("unix:///var/run/docker.sock", None, id="socket"),
        pytest.param("tcp://127.0.0.1:2375", None, id="loopback"),
        pytest.param("tcp://gpu-box:2376", "gpu-box", id="remote"),
        pytest.param("ssh://ann@gpu-box", "gpu-box", id="ssh"),
    ],
)
def test_the_machine_of_an_engine(host: str, machine: str | None) -> None:
    assert engine.machine(host) == machine


@pytest.mark.parametrize(
    ("docker_host", "published_on", "reached_at"),
    [
        pytest.param(None, "127.0.0.1", "127.0.0.1", id="here"),
        pytest.param("tcp://gpu-box:2376", "127.0.0.1", None, id="its-own-loopback"),
        pytest.param("tcp://gpu-box:2376", "0.0.0.0", "gpu-box", id="every-address"),
        pytest.param("tcp://gpu-box:2376", "10.0.0.7", "10.0.0.7", id="one-address"),
    ],
)
def test_where_a_published_port_is_reached(
    docker_host: str | None, published_on: str, reached_at: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert engine.reached_at(docker_host, published_on) == reached_at


def test_an_engine_that_is_not_there_is_told_before_anything_happens(client: Client) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    client.register_component(ComponentType.MODEL_DEPLOYER, "docker", "docker", {"docker_host": nowhere})
    deployer = client.model_deployer("docker")
    with pytest.raises(PlatformUnavailableError, match=f"{nowhere}: Connection refused") as raised:
        deployer.deploy_model(model_name="iris", image="iris:1")
    assert "\n" not in raised.value.message
    assert not deployer.find_model_server()


def test_a_network_in_which_nothing_can_be_published_is_refused(client: Client) -> None:
    with pytest.raises(InvalidConfigError, match="no port can be published in the network 'host'"):
        client.register_component(ComponentType.MODEL_DEPLOYER, "docker", "docker", {"network": "host"})
