"""The Docker model deployer."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from docker import DockerClient

from stackkit.environments import models, sweeping
from stackkit.environments.models import ResolvedModel
from stackkit.errors import (
    DeploymentError,
    LeaseLostError,
    ModelError,
    NotSupportedError,
    PlatformUnavailableError,
    StackkitError,
)
from stackkit.local.probes import answers, base_url
from stackkit.model_deployers import (
    BaseModelDeployer,
    FindsServers,
    FoundServer,
    ModelSource,
    Observation,
    Operation,
    PlatformIdentity,
    Progress,
    Service,
    ServiceConfig,
    ServiceState,
    Target,
    UpdatesInPlace,
)

from . import containers, engine, model_images, updates
from .config import DockerServiceConfig
from .containers import Container, PortTakenError, main_name
from .model_images import Registry

_FIRST_PORT, _PORTS, _TRIES = 20_000, 12_000, 50  # below what the system gives to outgoing connections
_MOST_PROBES = 32


class DockerModelDeployer(BaseModelDeployer, UpdatesInPlace, FindsServers):
    """Serves each model in a container that bears the service's UUID as its name and label."""

    def do_identify(self) -> PlatformIdentity:
        with self._engine(PlatformUnavailableError) as client:
            info = client.api.info()
        if not info.get("ID"):
            raise PlatformUnavailableError(
                "This engine does not say which one it is, so that its servers could not be told from another's.",
                "Use Docker Engine, or another that has an ID (docker info).",
            )
        return PlatformIdentity(f"docker:{info['ID']}", f"the Docker Engine on {info['Name']}")

    def do_resolve(self, config: ServiceConfig, progress: Progress) -> ModelSource:
        image = _docker(config).image
        if image is not None:
            with self._engine() as client:
                return ModelSource(image, model_images.identify(client, image, self._registry, progress))
        folder = self.database.settings.models_folder
        resolved = models.resolve(config.model_uri, models_folder=folder, progress=progress)
        sweeping.note_user(resolved.digest, folder, self.database.url)
        model_images.tag_of(resolved, self.config.base_image, self._registry)  # refuses what no image can be built of
        return ModelSource(resolved.uri, resolved.digest, resolved.reference, resolved.format)

    def do_hold(self) -> AbstractContextManager[None]:
        return sweeping.holding(self.database.settings.models_folder)

    def do_sweep(self, named: Callable[[Collection[str]], Collection[str]]) -> Sequence[str]:
        return sweeping.sweep(self.database.settings.models_folder, self.database.url, named)

    def do_prepare(self, operation: Operation) -> None:
        config, source = _docker(operation.config), operation.service.source
        with self._engine() as client:
            if config.image is not None:
                self._fetch(client, operation, config.image)
                return
            if not _is_here(source):
                self._use_built(client, operation)
                return
            model = ResolvedModel(source.uri, source.digest or "", source.reference or "", source.format or "")
            tag = model_images.tag_of(model, self.config.base_image, self._registry)
            # noted before it is there: what is being built when this process is killed has its name already
            built = {*operation.service.status.details.get("images", ()), tag}
            operation.checkpoint(image=tag, image_of=source.digest, images=sorted(built))
            model_images.provide(
                client,
                model,
                tag,
                base_image=self.config.base_image,
                registry=self._registry,
                progress=operation.progress,
            )

    def do_start(self, operation: Operation) -> None:
        service, config = operation.service, _docker(operation.config)
        with self._engine() as client:
            updates.clear(client, service.id)
            for container in containers.find(client, service.id):
                if container.is_serving and container.revision == service.revision:
                    return
                if container.is_alive:
                    raise DeploymentError(
                        f"Revision {container.revision} of {service.name!r} still runs.", "Stop it first."
                    )
                containers.remove(client, container.id)  # a new one has today's secrets
            self._create(client, operation, config)

    def can_update(self, before: ServiceConfig, after: ServiceConfig) -> bool:
        """Not where the port goes elsewhere: everything else is another container's business."""
        return before["host"] == after["host"] and (after["port"] in (None, before["port"]))

    def do_update(self, operation: Operation) -> None:
        """Have a new container take over from the one that serves.

        This waits until the new one is healthy: an engine has nobody who would make the switch then.
        """
        service, config = operation.service, _docker(operation.config)
        operation.checkpoint(given_up=None)
        with self._engine() as client:
            serving = [each for each in containers.find(client, service.id) if each.is_serving]
            if not serving or serving[0].port is None:
                raise DeploymentError(f"The container of {service.name!r} has ended meanwhile.", "Start it again.")
            old, port, image = serving[0], serving[0].port, service.status.details["image"]
            if old.revision == service.revision:
                return
            try:
                new = updates.make_ready(client, operation, config, image=image, port=port)
            except LeaseLostError:
                raise
            except BaseException as error:
                updates.clear(client, service.id)
                said = error.message.splitlines()[0] if isinstance(error, StackkitError) else "it was cancelled"
                operation.checkpoint(given_up={"revision": service.revision, "reason": said})
                raise
            updates.take_over(client, old, new, self.config.network)

    def do_find(self) -> Sequence[FoundServer]:
        with self._engine(PlatformUnavailableError) as client:
            return [_found(each) for each in containers.find(client) if each.is_serving]

    def do_check(self, services: Sequence[Service]) -> Mapping[str, Observation]:
        if not services:
            return {}
        with self._engine(PlatformUnavailableError) as client:
            by_service: dict[str, list[Container]] = {service.id: [] for service in services}
            for container in containers.find(client, services[0].id if len(services) == 1 else None):
                by_service.get(container.service_id, []).append(container)
            with ThreadPoolExecutor(min(_MOST_PROBES, len(services))) as pool:
                seen = pool.map(lambda service: self._observe(client, service, by_service[service.id]), services)
                return dict(zip([service.id for service in services], seen, strict=True))

    def do_stop(self, operation: Operation) -> None:
        with self._engine() as client:
            for container in containers.find(client, operation.service.id):
                if container.is_alive:
                    asked = self._asked_to_end.setdefault(container.id, time.monotonic())
                    overdue = time.monotonic() - asked >= updates.GRACE_SECONDS
                    containers.terminate(client, container, kill=overdue)

    def do_delete(self, operation: Operation) -> None:
        service = operation.service
        with self._engine() as client:
            for container in containers.find(client, service.id):
                containers.remove(client, container.id)
            updates.clear(client, service.id)
            for tag in service.status.details.get("images", ()):
                model_images.discard(client, tag)

    def do_logs(self, service: Service, *, follow: bool, tail: int | None) -> Iterator[str]:
        with self._engine() as client:
            for container in containers.find(client, service.id):
                if container.name == main_name(service.id):
                    lines = client.api.logs(
                        container.id, stream=True, follow=follow, tail="all" if tail is None else tail
                    )
                    yield from _lines(lines)

    def do_info(self, service: Service) -> Mapping[str, str]:
        details, rows = service.status.details, {"CONTAINER": main_name(service.id)}
        return {**rows, "IMAGE": details["image"]} if details.get("images") else rows

    def _engine(self, refusal: type[StackkitError] = DeploymentError) -> AbstractContextManager[DockerClient]:
        return engine.connect(self.config.docker_host, refusal)

    @cached_property
    def _registry(self) -> Registry | None:
        config = self.config
        if config.registry is None:
            return None
        return Registry(config.registry, config.registry_username, config.registry_password)

    @cached_property
    def _asked_to_end(self) -> dict[str, float]:
        """When this process asked each container to end, by its ID and the monotonic clock."""
        return {}

    def _fetch(self, client: DockerClient, operation: Operation, image: str) -> None:
        pinned = operation.service.source.digest or ""
        there = model_images.is_there(client, pinned)
        if not there and model_images.identify(client, image, self._registry, operation.progress) != pinned:
            raise ModelError(
                f"The image {image} is another by now, and that of revision {operation.service.revision} is gone.",
                "Deploy it again with --replace to serve the new one.",
            )
        operation.checkpoint(image=pinned)

    def _use_built(self, client: DockerClient, operation: Operation) -> None:
        """Serve from the image that the engine has: the model's files are on the machine that it was deployed from."""
        service = operation.service
        details = service.status.details
        if details.get("image_of") != service.source.digest or not model_images.is_there(client, details["image"]):
            raise ModelError(
                f"The model of {service.name!r} is gone: neither its files are here nor its image on the engine.",
                "Deploy it again from where it came from: stackkit model-deployer models deploy.",
            )

    def _create(self, client: DockerClient, operation: Operation, config: DockerServiceConfig) -> None:
        """Make and start the container, on the port that was asked for, or had before, or on one that is free."""
        service, image = operation.service, operation.service.status.details["image"]
        if self._reached_at(config.host) is None and updates.health_check(client, image) is None:
            raise NotSupportedError(
                f"Nobody here can tell whether {service.name!r} answers: its image has no HEALTHCHECK, and "
                f"{config.host} on {engine.machine(self.config.docker_host)} cannot be asked from here.",
                "Give the image a HEALTHCHECK, or publish the port on an address that is reached from here (host=…).",
            )
        fixed = config.port or service.status.details.get("port")
        first = service.uuid.int % _PORTS
        for port in [fixed] if fixed else [_FIRST_PORT + (first + each) % _PORTS for each in range(_TRIES)]:
            operation.checkpoint(given_up=None)
            created = containers.create(
                client, service, config, image=image, name=main_name(service.id), port=port, network=self.config.network
            )
            try:
                containers.start(client, created, port)
            except PortTakenError:
                taken = port
            else:
                operation.checkpoint(port=port)
                return
        who = containers.who_has(client, taken)
        raise DeploymentError(
            f"The port {taken} of {config.host} is taken{f' by the container {who}' if who else ''}.",
            "Choose another with port=…, or stop what has it.",
        )

    def _reached_at(self, published_on: str) -> str | None:
        """The host under which a port that is published there is reached from here; None for another's loopback."""
        remote, address = engine.machine(self.config.docker_host), ipaddress.ip_address(published_on)
        if remote is not None and address.is_unspecified:
            return remote
        return None if remote is not None and address.is_loopback else published_on

    def _observe(self, client: DockerClient, service: Service, found: Sequence[Container]) -> Observation:
        alive = [each for each in found if each.is_alive]
        serving = next((each for each in alive if each.is_serving), None)
        if serving is not None:
            return self._serving(service, serving)
        if alive:
            return _not_published(client, service, alive[0])
        ended = next((each for each in found if each.name == main_name(service.id)), None)
        if ended is None or service.status.target is not Target.ACTIVE:
            return Observation(ServiceState.INACTIVE, "It has no container.")
        if ended.state == "created":
            return Observation(ServiceState.INACTIVE, "Its container was made and not started.")
        said = containers.last_words(client, ended)
        return Observation(ServiceState.INACTIVE, f"{said[0].upper()}{said[1:]}")

    def _serving(self, service: Service, container: Container) -> Observation:
        observed = partial(Observation, details={"port": container.port}, revision=container.revision)
        if container.state == "paused":
            return observed(ServiceState.ERROR, f"Somebody has paused it: docker unpause {container.name}.")
        host = self._reached_at(container.address or "")
        if host is None:
            return _by_health(observed, container)
        url = base_url(host, container.port or 0)
        said = answers(url)
        if said.ready:
            given_up = service.status.details.get("given_up") or {}
            return observed(
                ServiceState.ACTIVE,
                prediction_url=f"{url}/invocations",
                update_error=given_up.get("reason") if given_up.get("revision") == service.revision else None,
            )
        if service.status.target is not Target.ACTIVE:
            return observed(ServiceState.PENDING_SHUTDOWN, "finishing the requests that it has begun")
        failed = not said.loading and container.health in ("healthy", "unhealthy")
        state = ServiceState.ERROR if failed else ServiceState.PENDING_STARTUP
        return observed(state, f"{url}/ping: {said.message}")


def _by_health(observed: Callable[..., Observation], container: Container) -> Observation:
    """What the engine's own health check says of a server whose port cannot be reached from here."""
    if container.health == "healthy":
        return observed(ServiceState.ACTIVE, "It answers on its machine's own loopback address alone.")
    if container.health == "starting":
        return observed(ServiceState.PENDING_STARTUP, "its health check has not passed yet")
    return observed(ServiceState.ERROR, "Its health check fails.")


def _not_published(client: DockerClient, service: Service, container: Container) -> Observation:
    if container.state == "restarting":
        said = containers.last_words(client, container)
        return Observation(
            ServiceState.ERROR, f"The engine starts it again and again: {said}", revision=container.revision
        )
    if container.name == main_name(service.id):
        return Observation(ServiceState.PENDING_STARTUP, "the engine publishes its port", revision=container.revision)
    return Observation(
        ServiceState.ERROR, "Its update was interrupted before the new container took over: start it again."
    )


def _is_here(source: ModelSource) -> bool:
    """Whether the model's files are on this machine. The reference may end with the attribute of a Python file."""
    reference = source.reference or "nowhere"
    return any(Path(path).exists() for path in (reference, reference.rpartition(":")[0] or reference))


def _found(container: Container) -> FoundServer:
    config = container.kept["config"]
    details: dict[str, Any] = {"port": container.port, "image": container.image}
    source = ModelSource(**container.kept["source"])
    if config.get("image") is None:
        details |= {"images": [container.image], "image_of": source.digest}
    return FoundServer(container.service_id, config, source, container.revision, details)


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """The lines of a log that comes in pieces."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode("utf-8", "replace").rstrip("\r") for line in lines)
    if rest:
        yield rest.decode("utf-8", "replace")


def _docker(config: ServiceConfig) -> DockerServiceConfig:
    if not isinstance(config, DockerServiceConfig):
        raise DeploymentError(f"A {type(config).__name__} cannot be served by the Docker model deployer.")
    return config
