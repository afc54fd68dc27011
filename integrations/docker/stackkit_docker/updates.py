"""Going over from one container to another behind the same published port.

An engine publishes a port for one container at a time, from when that joins a network that leads outside. So the new
container is started in a network of its own that leads nowhere, and only when its health check passes is the old one
asked to end and the new one connected. In between, for as long as the old one takes to finish what it has begun, the
port answers nobody.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

import requests
from docker import DockerClient
from docker.errors import APIError, NotFound

from stackkit.environments.images.engine import words
from stackkit.errors import DeploymentError, DeploymentTimeoutError
from stackkit.model_deployers import Operation

from . import containers
from .config import DockerServiceConfig
from .containers import LABEL_SERVICE, Container, main_name, next_name

GRACE_SECONDS = 15
"""How long a container may take to end by itself: longer than our server gives the requests that it has begun."""

_POLL_SECONDS = (0.1, 1.0)
_CHECK_SECONDS = 5.0
_LOG_LINES = 20


def health_check(engine: DockerClient, image: str) -> Sequence[str] | None:
    """The command by which an image's containers say whether they are healthy; None when it has none."""
    config = engine.images.get(image).attrs["Config"]
    test = (config.get("Healthcheck") or {}).get("Test") or ["NONE"]
    if test[0] == "CMD-SHELL":
        return [*(config.get("Shell") or ["/bin/sh", "-c"]), *test[1:]]
    return test[1:] if test[0] == "CMD" else None


def make_ready(
    engine: DockerClient, operation: Operation, config: DockerServiceConfig, *, image: str, port: int
) -> Container:
    """Start the container that is to take over, and wait until it is healthy.

    Raises DeploymentError when it ends or cannot be made, DeploymentTimeoutError and LeaseLostError.
    """
    service = operation.service
    tidy(engine, service.id)
    network = next_name(service.id)
    engine.api.create_network(network, internal=True, labels={LABEL_SERVICE: service.id})
    created = containers.create(
        engine, service, config, image=image, name=next_name(service.id), port=port, network=network
    )
    engine.api.start(created)
    # with no time to wait, or no way to know, it takes over at once
    command = health_check(engine, image) if operation.remaining() > 0 else None
    pause, longest = _POLL_SECONDS
    while True:
        operation.checkpoint()  # whoever has lost the lease must not go on to end what serves
        container = next((each for each in containers.find(engine, service.id) if each.id == created), None)
        if container is None:
            raise DeploymentError(f"The new container of {service.name!r} was removed by somebody else.")
        if container.state != "running":
            reason = containers.last_words(engine, container)
            raise DeploymentError(
                f"The new revision of {service.name!r} did not start: {reason}{_tail(engine, created)}"
            )
        if command is None or _passes(engine, created, command):
            return container
        if operation.remaining() == 0:
            raise DeploymentTimeoutError(
                f"The new revision of {service.name!r} was not healthy in time.{_tail(engine, created)}",
                "Give it more time with --timeout (timeout=…). Until it takes over it cannot reach other machines: "
                "one that has to is updated while the service is stopped.",
            )
        operation.progress(f"waiting for revision {service.revision} of {service.name} to be healthy")
        time.sleep(min(pause, operation.remaining()))
        pause = min(pause * 1.5, longest)


def take_over(engine: DockerClient, old: Container, new: Container, network: str) -> None:
    """End the old container and publish the new one in its place. Raises DeploymentError when the engine refuses."""
    containers.terminate(engine, old, kill=False)
    try:
        engine.api.wait(old.id, timeout=GRACE_SECONDS)
    except requests.RequestException:
        containers.terminate(engine, old, kill=True)
        engine.api.wait(old.id)
    except NotFound:
        pass  # somebody has removed it
    engine.api.connect_container_to_network(new.id, network)
    tidy(engine, new.service_id)


def tidy(engine: DockerClient, service_id: str) -> None:
    """Leave of an update, finished or not, the container that serves, under the service's name; else a no-op.

    Volumes of containers that somebody else has removed go too.
    """
    found = containers.find(engine, service_id)
    over = next((each for each in found if each.is_serving and each.name == next_name(service_id)), None)
    for container in found:
        if container is not over and (over is not None or container.name == next_name(service_id)):
            containers.remove(engine, container.id)
    if over is not None:
        engine.api.rename(over.id, main_name(service_id))
    for network in engine.api.networks(filters={"label": [f"{LABEL_SERVICE}={service_id}"]}):
        with suppress(NotFound):
            if over is not None:
                _leave(engine, over, network["Id"])
            engine.api.remove_network(network["Id"])
    for volume in engine.api.volumes(filters={"label": [f"{LABEL_SERVICE}={service_id}"]})["Volumes"] or ():
        try:
            engine.api.remove_volume(volume["Name"])
        except APIError as error:
            if error.status_code not in (404, 409):  # 409: its container is there
                raise


def _leave(engine: DockerClient, container: Container, network: str) -> None:
    try:
        engine.api.disconnect_container_from_network(container.id, network)
    except APIError as error:
        if "is not connected" not in words(error):
            raise


def _passes(engine: DockerClient, container_id: str, command: Sequence[str]) -> bool:
    try:
        return containers.execute(engine, container_id, command, _CHECK_SECONDS) == 0
    except APIError:
        return False  # it has ended meanwhile, which the next look tells


def _tail(engine: DockerClient, container_id: str) -> str:
    lines = engine.api.logs(container_id, tail=_LOG_LINES).decode("utf-8", "replace").splitlines()
    return "\nThe end of its log:\n" + "\n".join(f"  {line}" for line in lines) if lines else ""
