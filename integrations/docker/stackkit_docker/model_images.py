"""The image of a service: the one that its configuration names, or one that is built from its model.

A built image is named by what it is made of, so that services which serve the same model share it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import requests
from docker import DockerClient
from docker.errors import APIError, ImageNotFound
from pydantic import SecretStr

from stackkit.environments import images, runtime
from stackkit.environments.models import ResolvedModel
from stackkit.errors import ImageError

from .engine import words

_REPOSITORY = "stackkit-models"
_DIGITS = 24


@dataclass(frozen=True)
class Registry:
    """Where built images are kept for other engines. Without credentials those of ``docker login`` are used."""

    name: str
    username: str | None = None
    password: SecretStr | None = None

    def credentials(self) -> dict[str, str] | None:
        if self.username is None or self.password is None:
            return None
        return {"username": self.username, "password": self.password.get_secret_value()}

    def holds(self, image: str) -> bool:
        """Whether an image of that name would lie in this registry."""
        return image.startswith(f"{self.name.rstrip('/')}/")


def tag_of(model: ResolvedModel, base_image: str | None, registry: Registry | None) -> str:
    """The name of a model's image: the same for the same model, requirements, runtime and base image.

    Raises ImageError and ModelError for a model of which there can be no image.
    """
    context = images.make_context(model, base_image=base_image)
    made_of = hashlib.sha256(f"{model.digest}\n{runtime.digest()}\n".encode())
    for file in context.files:
        if isinstance(file.content, bytes):  # the others are the model's and the runtime's
            made_of.update(b"%s\0%s\0" % (file.name.encode(), hashlib.sha256(file.content).digest()))
    prefix = f"{registry.name.rstrip('/')}/" if registry is not None else ""
    return f"{prefix}{_REPOSITORY}:{made_of.hexdigest()[:_DIGITS]}"


def provide(
    engine: DockerClient,
    model: ResolvedModel,
    tag: str,
    *,
    base_image: str | None,
    registry: Registry | None,
    progress: Callable[[str], None],
) -> None:
    """Have the model's image on the engine, and in the registry if there is one: found there, fetched or built.

    Raises ImageError, which leaves no image behind that was not there, and ModelError.
    """
    repository = tag.rpartition(":")[0]
    with suppress(ImageNotFound):
        digests = engine.images.get(tag).attrs["RepoDigests"] or ()
        pushed = [digest for digest in digests if digest.startswith(f"{repository}@")]
        if registry is None or pushed:
            return
    if registry is not None:
        with suppress(ImageError):
            pull(engine, tag, registry, progress)
            return
    images.build(
        model,
        tag=tag,
        base_image=base_image,
        push=registry is not None,
        credentials=None if registry is None else registry.credentials(),
        progress=progress,
        client=engine,
    )


def identify(engine: DockerClient, name: str, registry: Registry | None, progress: Callable[[str], None]) -> str:
    """The ID of the image that ``name`` means on the engine, fetched if it is not there. Raises ImageError."""
    try:
        return str(engine.images.get(name).id)
    except ImageNotFound:
        pull(engine, name, registry, progress)
        return str(engine.images.get(name).id)


def is_there(engine: DockerClient, name: str) -> bool:
    try:
        engine.images.get(name)
    except ImageNotFound:
        return False
    return True


def pull(engine: DockerClient, name: str, registry: Registry | None, progress: Callable[[str], None]) -> None:
    """Fetch an image from its registry. Raises ImageError."""
    progress(f"fetching {name}")
    credentials = registry.credentials() if registry is not None and registry.holds(name) else None
    try:
        for message in engine.api.pull(name, stream=True, decode=True, auth_config=credentials):
            if "error" in message:
                raise _not_fetched(name, str(message["error"]))
    except APIError as error:
        raise _not_fetched(name, words(error)) from error
    except requests.Timeout as error:
        raise _not_fetched(name, "the registry does not answer in time.") from error


def discard(engine: DockerClient, tag: str) -> None:
    """Remove an image that was built; a no-op when it is gone, or a container still needs it."""
    try:
        engine.api.remove_image(tag)
    except APIError as error:
        if error.status_code not in (404, 409):
            raise


def _not_fetched(name: str, reason: str) -> ImageError:
    return ImageError(
        f"The image {name} is not on the engine, and cannot be fetched: {reason}",
        "Check its name, and for a private registry registry_username and registry_password of the deployer.",
    )
