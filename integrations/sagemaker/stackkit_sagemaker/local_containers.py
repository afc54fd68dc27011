"""The containers of a deployer that is local: how they are named, labelled, made, found and read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from docker import DockerClient
from docker.errors import APIError, NotFound

from stackkit.environments.images.engine import words
from stackkit.errors import DeploymentError
from stackkit.model_deployers import FoundServer, ModelSource, Service
from stackkit.serving import container as contract

from .names import endpoint_name

PORT = int(contract.PORT)

_SERVICE, _REVISION, _KEPT = (f"stackkit.sagemaker.{name}" for name in ("service", "revision", "kept"))
_PORT_TAKEN = ("port is already allocated", "address already in use")
_GRACE_SECONDS = 30  # between SageMaker's SIGTERM and its SIGKILL


@dataclass(frozen=True)
class Container:
    """A container as the engine lists it; ``port`` is where it is published on loopback, None while it is not."""

    id: str
    service_id: str
    revision: int
    kept: Mapping[str, Any]
    image: str
    state: str
    port: int | None

    @property
    def is_alive(self) -> bool:
        return self.state in ("running", "paused", "restarting")


def find(engine: DockerClient, service_id: str | None = None) -> list[Container]:
    """The containers of a service, or of all services, by one call."""
    label = _SERVICE if service_id is None else f"{_SERVICE}={service_id}"
    listed = engine.api.containers(all=True, filters={"label": [label]})
    return [found for entry in listed if (found := _read(entry)) is not None]


def create(
    engine: DockerClient,
    service: Service,
    asked: Mapping[str, Any],
    *,
    files: IO[bytes] | None,
    port: int,
    memory_mb: int | None,
) -> bool:
    """Make and start the container that CreateModel's ``PrimaryContainer`` asks for; False when the port is taken.

    ``files`` is a file with a tar archive that is unpacked in its root. Raises DeploymentError when somebody else's
    container has its name, or the engine refuses; what does not start is removed.
    """
    name = endpoint_name(service.id)
    stored = service.stored()
    try:
        made = engine.api.create_container(
            asked["Image"],
            [contract.COMMAND],
            name=name,
            environment=asked["Environment"],
            ports=[(PORT, "tcp")],
            labels={
                _SERVICE: service.id,
                _REVISION: str(service.revision),
                _KEPT: json.dumps({part: stored[part] for part in ("config", "source")}),
            },
            host_config=engine.api.create_host_config(
                port_bindings={f"{PORT}/tcp": ("127.0.0.1", port)},
                mem_limit=None if memory_mb is None else f"{memory_mb}m",
                memswap_limit=None if memory_mb is None else f"{memory_mb}m",
            ),
        )
    except APIError as error:
        if error.status_code == 409 and "already in use" in words(error):
            raise DeploymentError(
                f"There is a container called {name} that is not this service's: it is left alone.",
                f"Look at it (docker inspect {name}), and rename or remove it.",
            ) from error
        raise
    try:
        if files is not None:
            files.seek(0)
            engine.api.put_archive(made["Id"], "/", files)
        engine.api.start(made["Id"])
    except APIError as error:
        remove(engine, made["Id"])
        said = words(error)
        if any(text in said for text in _PORT_TAKEN):
            return False
        raise DeploymentError(f"The container cannot be started: {said}") from error
    return True


def remove(engine: DockerClient, container_id: str) -> None:
    """End a container as SageMaker does, and remove it; a no-op when it is gone."""
    try:
        engine.api.stop(container_id, timeout=_GRACE_SECONDS)
        engine.api.remove_container(container_id, force=True, v=True)
    except APIError as error:
        if error.status_code not in (404, 409):  # somebody else is about it
            raise


def ended_words(engine: DockerClient, container: Container) -> str:
    """How a container ended, in a line: its exit code, whether memory was short, and the last line of its log."""
    try:
        state = engine.api.inspect_container(container.id)["State"]
        tail = engine.api.logs(container.id, tail=1).decode("utf-8", "replace").strip()
    except NotFound:
        return "Its container is gone."
    told = f"Its container ended with exit code {state['ExitCode']}"
    if state["OOMKilled"]:
        told += ", because it needed more memory than it may have"
    return f"{told}: {tail}" if tail else f"{told}."


def found_server(container: Container) -> FoundServer:
    """What a container tells of its service."""
    config = container.kept["config"]
    details: dict[str, Any] = {"port": container.port, "image": container.image}
    if config.get("image") is None:
        details["images"] = [container.image]
    source = ModelSource(**container.kept["source"])
    return FoundServer(container.service_id, config, source, container.revision, details)


def _read(entry: Mapping[str, Any]) -> Container | None:
    """A container out of the engine's list; None when its labels are not as we write them."""
    labels = entry["Labels"]
    try:
        kept, revision = json.loads(labels[_KEPT]), int(labels[_REVISION])
    except (KeyError, ValueError):
        return None
    published = [each["PublicPort"] for each in entry["Ports"] if each.get("PublicPort")]
    return Container(
        id=entry["Id"],
        service_id=labels[_SERVICE],
        revision=revision,
        kept=kept,
        image=entry["Image"],
        state=entry["State"],
        port=published[0] if published else None,
    )
