"""A model's bytes where SageMaker reads them: in an image that was built of them, or in an archive beside an image.

Whoever they are for, a service by its UUID or a batch transform by its name, has copies of its own, which go with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from stackkit.environments.models import ResolvedModel
from stackkit.errors import ModelError
from stackkit.model_deployers import ModelSource, Progress

from .clients import Clients
from .config import SageMakerModelDeployerConfig
from .definitions import split_reference
from .registry import Registry, image_tag
from .storage import Storage


def _nothing(uri: str) -> None:
    """For whoever has nothing to note before the bytes are there."""


class Sources:
    """The bucket and the repository of a deployer.

    ``begins`` is called with where the bytes will be before they are put there, and not at all when they are.
    """

    def __init__(self, clients: Clients, config: SageMakerModelDeployerConfig) -> None:
        region = str(config.region)
        self.storage = Storage(clients, region, config.bucket)
        self._registry = Registry(clients, region, config.ecr_repository)
        self._base_image = config.base_image

    def upload(
        self, owner: str, source: ModelSource, progress: Progress, begins: Callable[[str], None] = _nothing
    ) -> str:
        """Have the model's archive in S3, and return its URI; a no-op when the same is there."""
        digest, uri = digest_of(source), self.archive_uri(owner, source)
        if not self.storage.has_archive(owner, digest):
            path, _ = split_reference(source)
            if not path.exists():
                raise ModelError(
                    f"The bytes of {source.uri} are not on this machine.",
                    "Deploy the model again from where it came from: stackkit model-deployer models deploy.",
                )
            begins(uri)
            self.storage.upload(owner, digest, path, progress)
        return uri

    def build(
        self,
        owner: str,
        source: ModelSource,
        platform: str,
        progress: Progress,
        begins: Callable[[str], None] = _nothing,
    ) -> str:
        """Have an image with the model in it in ECR, and return its address; a no-op when it is there."""
        tag, address = self._tag(owner, source, platform), self.image_address(owner, source, platform)
        if not self._registry.has(tag):
            begins(address)
            model = resolved(source)
            self._registry.push(model, tag, base_image=self._base_image, platform=platform, progress=progress)
        return address

    def remove(self, uri: str) -> None:
        """Remove one archive by its URI, or one image by its address; a no-op when it is gone."""
        if uri.startswith("s3://"):
            self.storage.remove_archive(uri)
        else:
            self._registry.remove_image(uri)

    def remove_archives(self, owner: str, keep: Collection[str]) -> None:
        """Remove the archives whose URI is not in ``keep``."""
        self.storage.remove_models(owner, keep)

    def remove_images(self, owner: str, keep: Collection[str] = ()) -> None:
        """Remove the images whose address is not in ``keep``."""
        self._registry.remove(owner, keep)

    def archive_uri(self, owner: str, source: ModelSource) -> str:
        """Where the model's archive lies, or would."""
        return self.storage.archive_uri(owner, digest_of(source))

    def image_address(self, owner: str, source: ModelSource, platform: str) -> str:
        """What the image with the model in it is called, or would be."""
        return self._registry.address(self._tag(owner, source, platform))

    def _tag(self, owner: str, source: ModelSource, platform: str) -> str:
        return image_tag(owner, digest_of(source), platform, self._base_image)


def resolved(source: ModelSource) -> ResolvedModel:
    """The model that was resolved to ``source``."""
    return ResolvedModel(source.uri, source.digest or "", source.reference or "", source.format or "")


def digest_of(source: ModelSource) -> str:
    """The digest of the model's bytes. Raises ModelError for one whose bytes were never seen."""
    if source.digest is None:
        raise ModelError(f"The model {source.uri} has no digest.", "Deploy it again.")
    return source.digest
