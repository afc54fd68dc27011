"""The image of a service: the one that its configuration names, or one that is built from its model.

A built image is named by what it is made of, so that services which serve the same model share it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import requests

from ...errors import ImageError
from .. import runtime
from ..models import ResolvedModel
from .builder import build
from .contents import make_context
from .engine import words
from .registry import Registry

if TYPE_CHECKING:
    from docker import DockerClient

_REPOSITORY = "stackkit-models"
_DIGITS = 24


def tag_of(model: ResolvedModel, base_image: str | None, registry: Registry | None) -> str:
    """The name of a model's image: the same for the same model, requirements, runtime and base image.

    Raises ImageError and ModelError for a model of which there can be no image.
    """
    context = make_context(model, base_image=base_image)
    made_of = hashlib.sha256(f"{model.digest}\n{runtime.digest()}\n".encode())
    for file in context.files:
        if isinstance(file.content, bytes):  # the others are the model's and the runtime's
            made_of.update(b"%s\0%s\0" % (file.name.encode(), hashlib.sha256(file.content).digest()))
    name = f"{_REPOSITORY}:{made_of.hexdigest()[:_DIGITS]}"
    return name if registry is None else registry.address(name)


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

    Raises ModelError, and ImageError: one that cannot be built leaves nothing, one that cannot be pushed stays here.
    """
    from docker.errors import ImageNotFound

    repository = tag.rpartition(":")[0]
    with suppress(ImageNotFound):
        digests = engine.images.get(tag).attrs["RepoDigests"] or ()
        pushed = [digest for digest in digests if digest.startswith(f"{repository}@")]
        if registry is None or pushed:
            return
    if registry is not None:
        with suppress(ImageError):
            _pull(engine, tag, registry, progress)
            return
    build(
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
    from docker.errors import ImageNotFound

    try:
        return str(engine.images.get(name).id)
    except ImageNotFound:
        _pull(engine, name, registry, progress)
        return str(engine.images.get(name).id)


def is_there(engine: DockerClient, name: str) -> bool:
    """Whether the engine has an image of that name or ID."""
    from docker.errors import ImageNotFound

    try:
        engine.images.get(name)
    except ImageNotFound:
        return False
    return True


def discard(engine: DockerClient, tag: str) -> None:
    """Remove an image that was built; a no-op when it is gone, or a container still needs it."""
    from docker.errors import APIError

    try:
        engine.api.remove_image(tag)
    except APIError as error:
        if error.status_code not in (404, 409):
            raise


def _pull(engine: DockerClient, name: str, registry: Registry | None, progress: Callable[[str], None]) -> None:
    """Fetch an image from its registry. Raises ImageError."""
    from docker.errors import APIError

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


def _not_fetched(name: str, reason: str) -> ImageError:
    return ImageError(
        f"The image {name} is not on the engine, and cannot be fetched: {reason}",
        "Check its name, and for a private registry registry_username and registry_password of the deployer.",
    )
