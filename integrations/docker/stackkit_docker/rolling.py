"""Going over to another model inside the container that serves, where nothing but the model's bytes is another.

The new image's model is copied into a volume of the container by a short-lived container that shares it, and the
container's own supervisor is told to go over to it: the port answers all the while. Which revision serves then stands
in that volume, and not in the container's labels; see ``stackkit.serving.handover``.
"""

from __future__ import annotations

import io
import json
import secrets
import tarfile
import time
from collections.abc import Mapping
from typing import Any

from docker import DockerClient
from docker.errors import APIError, NotFound
from docker.models.images import Image

from stackkit.environments.images import LABEL_DIGEST
from stackkit.errors import DeploymentError, DeploymentTimeoutError, LeaseLostError
from stackkit.model_deployers import Operation, Service, ServiceConfig
from stackkit.serving import claims
from stackkit.serving.claims import ClaimError, ServerState
from stackkit.serving.container import HAND_OVER, HANDOVER_FOLDER, PREFIX
from stackkit.serving.handover import REQUEST_FILE, SERVED_FILE, SUPERSEDED, Handover

from . import containers
from .config import DockerServiceConfig
from .containers import Container, next_name

_POLL_SECONDS = (0.05, 1.0)
_READS = 3  # of a file that is replaced meanwhile
_MODEL = f"{PREFIX}MODEL"
_SIGNAL, _SIGNAL_SECONDS = "import os, signal; os.kill(1, signal.SIGUSR1)", 30.0

# What of a service's configuration a container is made with; its environment is compared by value.
_FIXED = sorted(DockerServiceConfig.model_fields.keys() - ServiceConfig.model_fields.keys() - {"env"} | {"model_name"})

# What of an image's configuration its containers are started with.
_STARTED_WITH = (
    "Cmd",
    "Entrypoint",
    "ExposedPorts",
    "Healthcheck",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
)


def can_roll(
    engine: DockerClient,
    container: Container,
    service: Service,
    config: DockerServiceConfig,
    *,
    image: str,
    network: str,
) -> bool:
    """Whether the container can serve the service's newest revision, whose image is given, as if it were made for it.

    That is so when both images differ in their last layer alone, which is the model's, when nothing else that the
    container was made with has changed, when it is not paused, and when its memory has room for two models as large as
    the one it has.
    """
    wanted, made_with = service.stored()["config"], container.kept["config"]
    if (
        config.image is not None
        or container.state != "running"
        or any(wanted.get(name) != made_with.get(name) for name in _FIXED)
    ):
        return False
    try:
        found = engine.api.inspect_container(container.id)
        old, new = engine.images.get(found["Image"]), engine.images.get(image)
    except NotFound:
        return False
    told = containers.environment(config)
    actual = _variables(found["Config"]["Env"])
    return (
        _MODEL not in told
        and actual.get(f"{PREFIX}HANDOVER") == HANDOVER_FOLDER
        and actual == {**_variables(old.attrs["Config"]["Env"]), **told}
        and network in found["NetworkSettings"]["Networks"]
        and _differ_by_model(old, new)
        and _has_room(engine, container, found["HostConfig"]["Memory"])
    )


def roll(engine: DockerClient, operation: Operation, container: Container, *, image: str) -> None:
    """Have the container go over to the model of the image, and return when it was told to.

    Where it is on its way there already it is only told again. What else it is on its way to is given up.

    Raises DeploymentError, DeploymentTimeoutError and LeaseLostError; the container serves on as before.
    """
    service = operation.service
    digest = service.source.digest or ""
    asked = read_pending(engine, container)
    if asked is None or (asked.revision, asked.digest, asked.epoch) != (service.revision, digest, operation.epoch):
        stored = service.stored()
        asked = Handover(
            token=f"{operation.epoch}-{secrets.token_hex(8)}",
            epoch=operation.epoch,
            revision=service.revision,
            digest=digest,
            kept=json.dumps({"config": stored["config"], "source": stored["source"], "image": image}),
        )
        operation.checkpoint(rolled=container.id, roll=asked.token)  # from now on the container says what it serves
        _copy(engine, operation, container, image, asked)
    operation.checkpoint(rolled=container.id, roll=asked.token)
    try:
        _tell(engine, container)
    except APIError as error:
        if error.status_code not in (404, 409):
            raise
        raise DeploymentError(f"The container of {service.name!r} has ended meanwhile.", "Start it again.") from error


def read_state(engine: DockerClient, container: Container) -> ServerState | None:
    """What the server in the container says of itself; None where it says nothing."""
    content = _read(engine, container, claims.STATE_FILE)
    try:
        return None if content is None else ServerState.from_json(json.loads(content))
    except (ValueError, ClaimError):
        return None


def read_served(engine: DockerClient, container: Container) -> Handover | None:
    """What the container has gone over to; None while it serves what it was made for."""
    return _read_handover(engine, container, SERVED_FILE)


def read_pending(engine: DockerClient, container: Container) -> Handover | None:
    """What the container was asked to go over to, and has neither gone over to nor given up.

    None when there is no such. It may not have been told yet: whoever was to do so was killed before.
    """
    asked = _read_handover(engine, container, REQUEST_FILE)
    state = None if asked is None else read_state(engine, container)
    if asked is None or state is None:
        return asked
    given_up = state.failed_update is not None and state.failed_update.token == asked.token
    return None if given_up or state.token == asked.token else asked


def _tell(engine: DockerClient, container: Container) -> None:
    """Have the server in the container read what it is asked for.

    From inside: an engine takes a signal that it sends itself for a stop, and would not start the container again.
    """
    interpreter = engine.api.inspect_container(container.id)["Config"]["Entrypoint"][0]
    signalled = containers.execute(engine, container.id, [interpreter, "-P", "-c", _SIGNAL], _SIGNAL_SECONDS)
    if signalled:
        raise DeploymentError(f"The server in {container.name} could not be told: exit code {signalled}.")


def _copy(engine: DockerClient, operation: Operation, container: Container, image: str, asked: Handover) -> None:
    """Run the image's container that copies its model into the volume of ``container``, and remove it."""
    service, api = operation.service, engine.api
    created = api.create_container(
        image,
        [HAND_OVER, asked.as_json()],
        name=next_name(service.id),  # what is called so is removed by whoever comes after a crash
        labels=containers.labels(service),
        environment={f"{PREFIX}HANDOVER": HANDOVER_FOLDER},
        host_config=api.create_host_config(
            volumes_from=[container.id],
            network_mode="none",
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
        ),
    )["Id"]
    api.start(created)
    bounded = operation.remaining() > 0  # otherwise nobody waits, and it may take the time that it takes
    pause, longest = _POLL_SECONDS
    while (state := api.inspect_container(created)["State"])["Running"]:
        if bounded and operation.remaining() == 0:
            raise DeploymentTimeoutError(
                f"The model of {service.name!r} was not copied in time.",
                "Give it more time with --timeout (timeout=…).",
            )
        operation.checkpoint()
        operation.progress(f"copying the model into the container of {service.name}")
        time.sleep(pause)
        pause = min(pause * 1.5, longest)
    said = api.logs(created, tail=1).decode("utf-8", "replace").strip()
    containers.remove(engine, created)
    if state["ExitCode"] == SUPERSEDED:
        raise LeaseLostError(f"Another process has taken over the container of {service.name!r}.")
    if state["ExitCode"] != 0:
        raise DeploymentError(
            f"The new model of {service.name!r} did not get into its container: {said or state['Error']}"
        )


def _read(engine: DockerClient, container: Container, name: str) -> bytes | None:
    """A file of the container's volume; None when it is not there."""
    path = f"{HANDOVER_FOLDER}/{name}"
    for _ in range(_READS):
        try:
            chunks, _ = engine.api.get_archive(container.id, path)
            with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
                file = archive.extractfile(name)
                return None if file is None else file.read()
        except NotFound:
            return None
        except (tarfile.TarError, KeyError):
            continue
    return None


def _read_handover(engine: DockerClient, container: Container, name: str) -> Handover | None:
    content = _read(engine, container, name)
    try:
        return None if content is None else Handover.from_json(content)
    except ClaimError:
        return None


def _differ_by_model(old: Image, new: Image) -> bool:
    if not all(LABEL_DIGEST in image.labels for image in (old, new)):
        return False
    below = [image.attrs["RootFS"]["Layers"][:-1] for image in (old, new)]
    started = [
        {
            **{name: image.attrs["Config"].get(name) for name in _STARTED_WITH},
            **_variables(image.attrs["Config"]["Env"], without=_MODEL),
        }
        for image in (old, new)
    ]
    return below[0] == below[1] and started[0] == started[1]


def _has_room(engine: DockerClient, container: Container, limit: int) -> bool:
    """Whether what the container uses fits in its memory twice; ``limit`` is in bytes, 0 for none."""
    if not limit:
        return True
    stats = engine.api.stats(container.id, stream=False, one_shot=True)["memory_stats"]
    counted = stats.get("stats") or {}
    idle = counted.get("inactive_file", counted.get("total_inactive_file", 0))  # of cgroup v2, and of v1
    return bool(2 * (stats.get("usage", limit) - idle) <= limit)


def _variables(lines: list[str] | None, *, without: str | None = None) -> Mapping[str, Any]:
    pairs = (line.partition("=") for line in lines or ())
    return {name: value for name, _, value in pairs if name != without}
