"""The containers of a service: how they are named, labelled, configured, found and read.

The service's container is called ``stackkit-<uuid>``, and the one that is to take its place ``stackkit-<uuid>-next``.
What they are is told by their labels alone: a container that has such a name and no label is somebody else's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from docker import DockerClient
from docker.errors import APIError, NotFound
from docker.types import DeviceRequest
from docker.types import Mount as EngineMount

from stackkit.environments.images import LABEL_DIGEST
from stackkit.environments.images.engine import words
from stackkit.errors import DeploymentError
from stackkit.model_deployers import Service
from stackkit.serving.container import HANDOVER_FOLDER, PREFIX

from .config import PORT_VARIABLE, DockerServiceConfig

LABEL_SERVICE = "stackkit.service"
LABEL_REVISION = "stackkit.revision"
LABEL_KEPT = "stackkit.kept"

PORT = 8080
"""Where the server in the container listens, as SageMaker's contract has it."""

_PORT_KEY = f"{PORT}/tcp"
_PORT_TAKEN = ("port is already allocated", "address already in use")
_POLL_SECONDS = 0.1
_ALIVE = ("running", "paused", "restarting")


class PortTakenError(Exception):
    """Something on the engine's machine has the port already."""


@dataclass(frozen=True)
class Container:
    """A container as the engine lists it. ``state`` is the engine's word, such as ``running``; ``health`` is empty
    where the image has no health check; ``address`` and ``port`` are where it is published, None while it is not.
    """

    id: str
    name: str
    service_id: str
    revision: int
    kept: Mapping[str, Any]
    image: str
    state: str
    health: str
    address: str | None
    port: int | None

    @property
    def is_alive(self) -> bool:
        """Whether anything of it runs, or will by itself."""
        return self.state in _ALIVE

    @property
    def is_serving(self) -> bool:
        return self.is_alive and self.port is not None


def main_name(service_id: str) -> str:
    return f"stackkit-{service_id}"


def next_name(service_id: str) -> str:
    return f"{main_name(service_id)}-next"


def find(engine: DockerClient, service_id: str | None = None) -> list[Container]:
    """The containers of a service, or of all services, by one call."""
    label = LABEL_SERVICE if service_id is None else f"{LABEL_SERVICE}={service_id}"
    listed = engine.api.containers(all=True, filters={"label": [label]})
    return [found for entry in listed if (found := _read(entry)) is not None]


def create(
    engine: DockerClient,
    service: Service,
    config: DockerServiceConfig,
    *,
    image: str,
    name: str,
    port: int,
    network: str,
) -> str:
    """Make a container of the service's newest revision, and return its ID.

    Raises DeploymentError when somebody else's container has the name, or the engine refuses.
    """
    api = engine.api
    try:
        created = api.create_container(
            image,
            name=name,
            labels=labels(service),
            environment=environment(config),
            ports=[(PORT, "tcp")],
            host_config=api.create_host_config(
                port_bindings={_PORT_KEY: (config.host, port)},
                network_mode=network,
                restart_policy={"Name": config.restart_policy},
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                nano_cpus=None if config.cpus is None else int(config.cpus * 1_000_000_000),
                mem_limit=config.memory,
                memswap_limit=config.memory,  # what swaps serves nobody: it is ended and told as such
                device_requests=_devices(config),
                mounts=_mounts(service, config),
                **_hardening(engine, image),
            ),
        )
    except APIError as error:
        if error.status_code == 409 and "already in use" in words(error):
            raise DeploymentError(
                f"There is a container called {name} that is not stackkit's: it is left alone.",
                f"Look at it (docker inspect {name}), and rename or remove it.",
            ) from error
        raise
    return str(created["Id"])


def start(engine: DockerClient, container_id: str, port: int) -> None:
    """Start a container that was made; one that does not start is removed. Raises PortTakenError, DeploymentError."""
    try:
        engine.api.start(container_id)
    except APIError as error:
        remove(engine, container_id)
        said = words(error)
        if any(text in said for text in _PORT_TAKEN):
            raise PortTakenError from error
        raise DeploymentError(f"The container cannot be started: {said}") from error


def terminate(engine: DockerClient, container: Container, *, kill: bool) -> None:
    """Ask a container to end, or with ``kill`` end it, and return at once; a no-op when it has ended."""
    with suppress(NotFound):
        if container.state == "running":
            try:
                # sent so, the signal also ends the restart policy's care for it
                engine.api.kill(container.id, signal="SIGKILL" if kill else _stop_signal(engine, container.id))
            except APIError as error:
                if error.status_code != 409:  # it has ended meanwhile
                    raise
        elif container.is_alive:
            engine.api.stop(container.id, timeout=0)  # it is paused, or between two starts, and hears no signal


def remove(engine: DockerClient, container_id: str) -> None:
    """Remove a container, running or not; a no-op when it is gone or going."""
    try:
        engine.api.remove_container(container_id, force=True, v=True)
    except APIError as error:
        if error.status_code not in (404, 409):
            raise


def execute(engine: DockerClient, container_id: str, command: Sequence[str], seconds: float) -> int | None:
    """Run a command in a container; returns its exit code, None when it has not ended after ``seconds``.

    Raises docker.errors.APIError when the container is not there or does not run.
    """
    started = engine.api.exec_create(container_id, list(command))["Id"]
    engine.api.exec_start(started, detach=True)  # otherwise the SDK leaves a socket open
    deadline = time.monotonic() + seconds
    while (found := engine.api.exec_inspect(started))["Running"]:
        if time.monotonic() >= deadline:
            return None
        time.sleep(_POLL_SECONDS)
    return None if found["ExitCode"] is None else int(found["ExitCode"])


def who_has(engine: DockerClient, port: int) -> str | None:
    """The container that publishes a port; None when it is something else that has it."""
    for entry in engine.api.containers():
        if any(each.get("PublicPort") == port for each in entry["Ports"]):
            return str(entry["Names"][0]).lstrip("/")
    return None


def last_words(engine: DockerClient, container: Container) -> str:
    """How a container ended, in a line: its exit code, whether memory was short, and the last line of its log."""
    try:
        found = engine.api.inspect_container(container.id)
        tail = engine.api.logs(container.id, tail=1).decode("utf-8", "replace").strip()
    except NotFound:
        return "its container is gone"
    state, limit = found["State"], found["HostConfig"]["Memory"]
    if state["Running"] and not state["Restarting"]:
        return "its container has just been started again"
    told = f"its container ended with exit code {state['ExitCode']}"
    if state["OOMKilled"]:
        allowed = f" than the {limit // 1024**2} MiB that it may have" if limit else ""
        told += f", killed by the kernel because it needed more memory{allowed}"
    if state["Error"]:
        told += f" ({' '.join(str(state['Error']).split())})"
    return f"{told}: {tail}" if tail else told


def labels(service: Service) -> dict[str, str]:
    """The labels of a container of the service's newest revision."""
    stored = service.stored()
    return {
        LABEL_SERVICE: service.id,
        LABEL_REVISION: str(service.revision),
        LABEL_KEPT: json.dumps({name: stored[name] for name in ("config", "source")}),
    }


def environment(config: DockerServiceConfig) -> dict[str, str]:
    """The variables of a container, beside those of its image; secrets are in place."""
    told = {name: value.get_secret_value() for name, value in config.env.items()}
    if config.image is not None:
        return told
    return {
        f"{PREFIX}MODEL_NAME": config.model_name,
        f"{PREFIX}HANDOVER": HANDOVER_FOLDER,
        PORT_VARIABLE: str(PORT),  # a PORT that the model is told is none of the server's
        **told,
    }


def _read(entry: Mapping[str, Any]) -> Container | None:
    """A container out of the engine's list; None when its labels are not as we write them, or it is all but gone."""
    labels = entry["Labels"]
    status = entry["Status"]
    if not entry["Names"]:
        return None
    try:
        kept = json.loads(labels[LABEL_KEPT])
        revision = int(labels[LABEL_REVISION])
    except (KeyError, ValueError):
        return None
    published = [each for each in entry["Ports"] if each["PrivatePort"] == PORT and each.get("PublicPort")]
    return Container(
        id=entry["Id"],
        name=entry["Names"][0].lstrip("/"),
        service_id=labels[LABEL_SERVICE],
        revision=revision,
        kept=kept,
        image=entry["Image"],
        state=entry["State"],
        # the list tells it in words alone: "Up 5 minutes (healthy)", "Up 1 second (health: starting)"
        health=next((word for word in ("unhealthy", "starting", "healthy") if f"{word})" in status), ""),
        address=published[0]["IP"] if published else None,
        port=published[0]["PublicPort"] if published else None,
    )


def _mounts(service: Service, config: DockerServiceConfig) -> list[EngineMount]:
    asked = [
        EngineMount(
            each.target,
            each.source,
            type="bind" if each.source.startswith("/") else "volume",
            read_only=each.read_only,
        )
        for each in config.mounts
    ]
    if config.image is not None:
        return asked
    # without a name it goes with its container; by its label it is found where somebody has removed that alone
    return [*asked, EngineMount(HANDOVER_FOLDER, None, type="volume", labels={LABEL_SERVICE: service.id})]


def _devices(config: DockerServiceConfig) -> list[DeviceRequest]:
    if not config.gpus:
        return []
    if config.gpus == ["all"]:
        return [DeviceRequest(count=-1, capabilities=[["gpu"]])]
    return [DeviceRequest(device_ids=list(config.gpus), capabilities=[["gpu"]])]


def _hardening(engine: DockerClient, image: str) -> dict[str, Any]:
    """What only an image that we know can bear: nothing in it is written to but /tmp."""
    labels = engine.images.get(image).labels
    if LABEL_DIGEST not in labels:
        return {}
    return {"read_only": True, "tmpfs": {"/tmp": "rw,noexec,nosuid,nodev"}}  # noqa: S108 - a container's own


def _stop_signal(engine: DockerClient, container_id: str) -> str:
    return str(engine.api.inspect_container(container_id)["Config"].get("StopSignal") or "SIGTERM")
