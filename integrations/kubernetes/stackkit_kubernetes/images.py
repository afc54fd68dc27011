"""The image of a service: the one that its configuration names, or one that is built from its model."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from stackkit.environments import models, sweeping
from stackkit.environments.images import connect, model_image
from stackkit.environments.images.registry import Registry
from stackkit.environments.models import ResolvedModel
from stackkit.errors import ModelError, PlatformUnavailableError
from stackkit.model_deployers import ModelSource, Operation, Progress, Service

from .config import KubernetesModelDeployerConfig, PodServiceConfig
from .custom_resources import is_fetched_by_pods

if TYPE_CHECKING:
    from stackkit.store import Database


class Images:
    """Where a deployer's services get their images from."""

    def __init__(self, config: KubernetesModelDeployerConfig, database: Database) -> None:
        self._base_image = config.base_image
        self._registry = Registry(config.image_registry) if config.image_registry else None
        self._database = database

    def resolve(self, config: PodServiceConfig, progress: Progress) -> ModelSource:
        """The bytes that a service is to serve: with a digest where they are read here, and not in the cluster.

        Raises ModelError, and ImageError for a model of which there can be no image.
        """
        if config.image is not None:
            if config.model_uri and not is_fetched_by_pods(config.model_uri):
                raise ModelError(
                    f"The pods cannot fetch {config.model_uri}: it is on this machine.",
                    "Leave out image to have one built with the model in it, or name a URI that they reach.",
                )
            return ModelSource(config.model_uri or config.image)
        folder = self._database.settings.models_folder
        resolved = models.resolve(config.model_uri, models_folder=folder, progress=progress)
        sweeping.note_user(resolved.digest, folder, self._database.url)
        model_image.tag_of(resolved, self._base_image, self._registry)  # refuses what no image can be built of
        return ModelSource(resolved.uri, resolved.digest, resolved.reference, resolved.format)

    def provide(self, operation: Operation, config: PodServiceConfig) -> None:
        """Have the image where the nodes find it, and keep its name in the service's details.

        Raises ModelError, ImageError, and PlatformUnavailableError when no Docker Engine answers that could build it.
        """
        service = operation.service
        if config.image is not None:
            return
        if service.source.reference is None or models.find_missing(service.source.reference) is not None:
            if self._built(service) is None:
                raise ModelError(
                    f"The model of {service.name!r} is gone: neither its files are here nor was its image built.",
                    "Deploy it again from where it came from: stackkit model-deployer models deploy.",
                )
            return
        tag, details = self._tag(service.source), service.status.details
        # noted before it is there: what is being built when this process is killed has its name already
        operation.checkpoint(
            images=sorted({*details.get("images", ()), tag}),
            image_of={**details.get("image_of", {}), str(service.source.digest): tag},
        )
        engine = connect()
        try:
            model_image.provide(
                engine,
                _resolved(service.source),
                tag,
                base_image=self._base_image,
                registry=self._registry,
                progress=operation.progress,
            )
        finally:
            engine.close()

    def name(self, service: Service, config: PodServiceConfig) -> str:
        """The image of the service's revision, whether or not it was built. Raises ModelError and ImageError."""
        return config.image or self._built(service) or self._tag(service.source)

    def has_local(self, service: Service) -> bool:
        """Whether an image was built for the service that lies on the engine which built it, and nowhere else."""
        return self._registry is None and bool(service.status.details.get("images"))

    def discard(self, tags: Iterable[str]) -> None:
        """Remove images that were built; a no-op when no engine answers, whose own pruning then sees to them."""
        with suppress(PlatformUnavailableError):
            engine = connect()
            try:
                for tag in tags:
                    model_image.discard(engine, tag)
            finally:
                engine.close()

    def _tag(self, source: ModelSource) -> str:
        return model_image.tag_of(_resolved(source), self._base_image, self._registry)

    def _built(self, service: Service) -> str | None:
        found = service.status.details.get("image_of", {}).get(service.source.digest)
        return None if found is None else str(found)


def _resolved(source: ModelSource) -> ResolvedModel:
    return ResolvedModel(source.uri, source.digest or "", source.reference or "", source.format or "")
