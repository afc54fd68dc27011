"""The Docker model deployer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cached_property, partial
from itertools import islice
from typing import Any

from docker import DockerClient

from stackkit.environments import images, models, sweeping
from stackkit.environments.images import model_image
from stackkit.environments.images.registry import Registry
from stackkit.environments.launch import ports
from stackkit.environments.models import ResolvedModel
from stackkit.errors import (
    DeploymentError,
    LeaseLostError,
    ModelError,
    NotSupportedError,
    PlatformUnavailableError,
    StackkitError,
)
from stackkit.model_deployers import (
    BaseModelDeployer,
    FindsServers,
    FoundServer,
    ModelServers,
    ModelSource,
    Observation,
    Operation,
    PlatformIdentity,
    Progress,
    Service,
    ServiceConfig,
    Target,
    UpdatesInPlace,
)

from . import containers, engine, observing, rolling, updates
from .config import DockerServiceConfig
from .containers import Container, PortTakenError, main_name

_TRIES = 50
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
                return ModelSource(image, model_image.identify(client, image, self._registry, progress))
        folder = self.database.settings.models_folder
        resolved = models.resolve(config.model_uri, models_folder=folder, progress=progress)
        sweeping.note_user(resolved.digest, folder, self.database.url)
        model_image.tag_of(resolved, self.config.base_image, self._registry)  # refuses what no image can be built of
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
            if source.reference is None or models.find_missing(source.reference) is not None:
                self._use_built(client, operation)
                return
            model = ResolvedModel(source.uri, source.digest or "", source.reference or "", source.format or "")
            tag = model_image.tag_of(model, self.config.base_image, self._registry)
            # noted before it is there: what is being built when this process is killed has its name already
            details = operation.service.status.details
            operation.checkpoint(
                image=tag,
                image_of={**details.get("image_of", {}), str(source.digest): tag},
                images=sorted({*details.get("images", ()), tag}),
            )
            model_image.provide(
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
            updates.tidy(client, service.id)
            for container in containers.find(client, service.id):
                revision = observing.serving_revision(client, service, container)
                if container.is_serving and revision == service.revision:
                    return
                if container.is_alive:
                    raise DeploymentError(f"Revision {revision} of {service.name!r} still runs.", "Stop it first.")
                containers.remove(client, container.id)  # a new one has today's secrets
            self._create(client, operation, config)

    def can_update(self, before: ServiceConfig, after: ServiceConfig) -> bool:
        """Not where the port goes elsewhere: everything else is another container's business."""
        return before["host"] == after["host"] and (after["port"] in (None, before["port"]))

    def do_update(self, operation: Operation) -> None:
        """Have the container that serves go over to the new model, or a new container take over from it.

        The latter waits until the new one is healthy: an engine has nobody who would make the switch then.
        """
        service, config, network = operation.service, _docker(operation.config), self.config.network
        with self._engine() as client:
            updates.tidy(client, service.id)
            serving = [each for each in containers.find(client, service.id) if each.is_serving]
            if not serving or serving[0].port is None:
                raise DeploymentError(f"The container of {service.name!r} has ended meanwhile.", "Start it again.")
            old, port, image = serving[0], serving[0].port, service.status.details["image"]
            if observing.serving_revision(client, service, old) == service.revision:
                self._stay(client, operation, old)
                return
            operation.checkpoint(given_up=None)
            try:
                if rolling.can_roll(client, old, service, config, image=image, network=network):
                    rolling.roll(client, operation, old, image=image)
                    return
                operation.checkpoint(roll=None)
                new = updates.make_ready(client, operation, config, image=image, port=port)
            except LeaseLostError:
                raise
            except BaseException as error:
                updates.tidy(client, service.id)
                said = error.message.splitlines()[0] if isinstance(error, StackkitError) else "it was cancelled"
                operation.checkpoint(given_up={"revision": service.revision, "reason": said})
                raise
            operation.checkpoint()  # what serves is ended by whoever has the lease, and nobody else
            updates.take_over(client, old, new, network)

    def do_find(self) -> Sequence[FoundServer]:
        with self._engine(PlatformUnavailableError) as client:
            return [_found(client, each) for each in containers.find(client) if each.is_serving]

    def do_check(self, services: Sequence[Service]) -> Mapping[str, Observation]:
        if not services:
            return {}
        with self._engine(PlatformUnavailableError) as client:
            by_service: dict[str, list[Container]] = {service.id: [] for service in services}
            for container in containers.find(client, services[0].id if len(services) == 1 else None):
                by_service.get(container.service_id, []).append(container)
            with ThreadPoolExecutor(min(_MOST_PROBES, len(services))) as pool:
                observe = partial(observing.observe, client, self.config.docker_host)
                seen = pool.map(lambda service: observe(service, by_service[service.id]), services)
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
            updates.tidy(client, service.id)
            for tag in self._images_of_none_but(service):
                model_image.discard(client, tag)

    def do_logs(self, service: Service, *, follow: bool, tail: int | None) -> Iterator[str]:
        with self._engine() as client:
            container = observing.main_container(service, containers.find(client, service.id))
            if container is not None:
                yield from images.log_lines(client, container.id, follow=follow, tail=tail)

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

    def _images_of_none_but(self, service: Service) -> list[str]:
        """The images that were built for a service and for no other: one may need an image without a container of it,
        having gone over to its model, or to start again.
        """
        built = service.status.details.get("images", ())
        others = [each for each in ModelServers(self.database).find(refresh=False) if each.id != service.id]
        staying = [each for each in others if each.status.target is not Target.DELETED]
        needed = {tag for each in staying for tag in each.status.details.get("images", ())}
        return [tag for tag in built if tag not in needed]

    def _fetch(self, client: DockerClient, operation: Operation, image: str) -> None:
        pinned = operation.service.source.digest or ""
        there = model_image.is_there(client, pinned)
        if not there and model_image.identify(client, image, self._registry, operation.progress) != pinned:
            raise ModelError(
                f"The image {image} is another by now, and that of revision {operation.service.revision} is gone.",
                "Deploy it again with --replace to serve the new one.",
            )
        operation.checkpoint(image=pinned)

    def _use_built(self, client: DockerClient, operation: Operation) -> None:
        """Serve from the image that the engine has: the model's files are on the machine that it was deployed from."""
        service = operation.service
        tag = service.status.details.get("image_of", {}).get(service.source.digest)
        if tag is None or not model_image.is_there(client, tag):
            raise ModelError(
                f"The model of {service.name!r} is gone: neither its files are here nor its image on the engine.",
                "Deploy it again from where it came from: stackkit model-deployer models deploy.",
            )
        operation.checkpoint(image=tag)

    def _stay(self, client: DockerClient, operation: Operation, container: Container) -> None:
        """Have a container go on with what it serves, if it was asked to go over to something else."""
        if rolling.read_pending(client, container) is None:
            return
        served = rolling.read_served(client, container)
        image = container.image if served is None else json.loads(served.kept)["image"]
        rolling.roll(client, operation, container, image=image)

    def _create(self, client: DockerClient, operation: Operation, config: DockerServiceConfig) -> None:
        """Make and start the container, on the port that was asked for, or had before, or on one that is free."""
        service, image = operation.service, operation.service.status.details["image"]
        if (
            engine.reached_at(self.config.docker_host, config.host) is None
            and updates.health_check(client, image) is None
        ):
            raise NotSupportedError(
                f"Nobody here can tell whether {service.name!r} answers: its image has no HEALTHCHECK, and "
                f"{config.host} on {engine.machine(self.config.docker_host)} cannot be asked from here.",
                "Give the image a HEALTHCHECK, or publish the port on an address that is reached from here (host=…).",
            )
        fixed = config.port or service.status.details.get("port")
        for port in [fixed] if fixed else islice(ports(service.uuid), _TRIES):
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


def _found(client: DockerClient, container: Container) -> FoundServer:
    served = None if container.kept["config"].get("image") else rolling.read_served(client, container)
    kept = container.kept if served is None else json.loads(served.kept)
    revision = container.revision if served is None else served.revision
    image = kept.get("image", container.image)
    source = ModelSource(**kept["source"])
    details: dict[str, Any] = {"port": container.port, "image": image}
    if kept["config"].get("image") is None:
        details |= {"images": sorted({container.image, image}), "image_of": {str(source.digest): image}}
    if served is not None:
        details["rolled"] = container.id
    return FoundServer(container.service_id, kept["config"], source, revision, details)


def _docker(config: ServiceConfig) -> DockerServiceConfig:
    if not isinstance(config, DockerServiceConfig):
        raise DeploymentError(f"A {type(config).__name__} cannot be served by the Docker model deployer.")
    return config
