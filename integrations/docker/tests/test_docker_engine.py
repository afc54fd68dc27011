"""Where an engine is, and what can be reached of it from here. Needs no engine."""

from __future__ import annotations

import socket

import pytest
from stackkit_docker import containers, engine
from stackkit_docker.config import DockerModelDeployerConfig, DockerServiceConfig

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


@pytest.mark.parametrize("registry", ["https://registry.example.com/team", "registry.example.com/Team", "two words"])
def test_a_registry_that_no_image_can_lie_in_is_refused(client: Client, registry: str) -> None:
    with pytest.raises(InvalidConfigError, match="write it without https:// and in lower case"):
        client.register_component(ComponentType.MODEL_DEPLOYER, "docker", "docker", {"registry": registry})


@pytest.mark.parametrize("registry", ["localhost:5000", "registry.example.com/team/models/", "team"])
def test_registries(registry: str) -> None:
    assert DockerModelDeployerConfig(registry=registry).registry == registry


def test_the_port_in_the_container_is_not_the_models_to_choose() -> None:
    def config(**env: str) -> DockerServiceConfig:
        return DockerServiceConfig.model_validate({"model_name": "iris", "model_uri": "m.py:predict", "env": env})

    told = containers.environment(config(PORT="5000"))
    assert (told["PORT"], told["STACKKIT_SERVING_PORT"]) == ("5000", "8080")
    with pytest.raises(ValueError, match="env may not hold STACKKIT_SERVING_PORT: port is what is published"):
        config(STACKKIT_SERVING_PORT="9000")


def test_a_container_that_is_all_but_gone_is_not_there() -> None:
    entry = {"Id": "1", "Names": None, "Labels": {containers.LABEL_SERVICE: "1"}, "Status": "", "Ports": []}
    assert containers._read(entry) is None


def test_a_network_in_which_nothing_can_be_published_is_refused(client: Client) -> None:
    with pytest.raises(InvalidConfigError, match="no port can be published in the network 'host'"):
        client.register_component(ComponentType.MODEL_DEPLOYER, "docker", "docker", {"network": "host"})
