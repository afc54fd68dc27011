"""An engine that is reached over TCP, on this machine and on one that bears another name."""

from __future__ import annotations

import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from docker import DockerClient
from docker_parts import MODEL, remove_all
from stackkit_docker.deployer import DockerModelDeployer

from stackkit import Client
from stackkit.model_deployers import ServiceState
from stackkit.stack import ComponentType

pytestmark = pytest.mark.docker


class Forwarder(socketserver.ThreadingTCPServer):
    """Passes on what it is sent to the engine's socket, and what comes back."""

    daemon_threads = True

    def __init__(self, host: str, path: str) -> None:
        super().__init__((host, 0), Forwarding)
        self.path = path


class Forwarding(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(self.server.path)  # type: ignore[attr-defined]
            back = threading.Thread(target=pump, args=(engine, self.request))
            back.start()
            pump(self.request, engine)
            back.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while received := source.recv(65536):
            target.sendall(received)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return  # one of the two has gone


@pytest.fixture
def deployer_at(client: Client, engine: DockerClient) -> Iterator[Callable[[str], DockerModelDeployer]]:
    """Makes the deployer of the engine as it is reached over TCP at an address of this machine's."""
    path = urlsplit(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock").path
    if not Path(path).is_socket():
        pytest.skip("the engine has no socket here that could be forwarded to")
    forwarders: list[Forwarder] = []

    def make(host: str) -> DockerModelDeployer:
        forwarders.append(Forwarder(host, path))
        threading.Thread(target=forwarders[-1].serve_forever, args=(0.05,)).start()
        docker_host = f"tcp://{host}:{forwarders[-1].server_address[1]}"
        client.register_component(ComponentType.MODEL_DEPLOYER, "remote", "docker", {"docker_host": docker_host})
        made = client.model_deployer("remote")
        assert isinstance(made, DockerModelDeployer)
        return made

    yield make
    remove_all(engine, client)
    for each in forwarders:
        each.shutdown()
        each.server_close()


@pytest.mark.usefixtures("layers")
def test_a_model_is_built_served_and_updated_over_tcp(
    deployer_at: Callable[[str], DockerModelDeployer], tmp_path: Path
) -> None:
    model = tmp_path / "model.py"
    model.write_text(MODEL.format(answer=1), encoding="utf-8")
    deployer = deployer_at("127.0.0.1")
    service = deployer.deploy_model(model_name="iris", model_uri=f"{model}:predict", timeout=300)
    assert service.predict([0]) == [[1]]
    lines = service.logs(follow=True)
    assert "started" in next(lines)
    model.write_text(MODEL.format(answer=2), encoding="utf-8")
    service = deployer.update_model_server(service, timeout=300)
    assert service.predict([0]) == [[2]]
    service.stop()
    assert any("updating to revision 2" in line for line in lines), "a log is followed to its end"
    service.delete()


def test_on_another_machine_its_health_is_its_state(
    deployer_at: Callable[[str], DockerModelDeployer], images: dict[str, str]
) -> None:
    # an address of this machine's that does not pass for it
    service = deployer_at("127.0.0.2").deploy_model(model_name="iris", image=images["one"], timeout=60)
    assert service.status.state is ServiceState.ACTIVE
    assert service.prediction_url is None, "its port is published where only that machine reaches it"
    service.stop()
    assert service.status.state is ServiceState.INACTIVE
