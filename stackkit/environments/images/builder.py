"""Building a model's image on a Docker Engine, and pushing it to a registry."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import requests

from ...errors import ImageError
from ..files import format_size
from ..models import ResolvedModel
from .build_output import NO_SPACE, BuildOutput, disk_full
from .contents import make_context
from .context import BuildContext
from .dockerfile import BUILD_ARGUMENTS, BUILD_FOLDER, CA_BUNDLE
from .engine import connect, reaching

if TYPE_CHECKING:
    from docker import DockerClient

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY")
_CA_BUNDLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
_TAG = re.compile(  # distribution's grammar of references, without a digest
    r"([\w.-]+(:\d+)?/)?[a-z0-9]+((\.|_{1,2}|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_{1,2}|-+)[a-z0-9]+)*)*(:[\w][\w.-]{0,127})?"
)
_CREDENTIALS = re.compile(r"(?<!ssh)://[^/@\s]+@")  # whom SSH is to log in as is no secret
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class BuiltImage:
    """``id`` is the engine's (``sha256:<hex>``), ``tag`` what was asked for, ``digest`` the registry's
    (``sha256:<hex>``), None for an image that was not pushed.
    """

    id: str
    tag: str
    digest: str | None = None


def build(
    model: ResolvedModel,
    *,
    tag: str,
    base_image: str | None = None,
    platform: str | None = None,
    push: bool = False,
    fetch_at_start: bool = False,
    credentials: Mapping[str, str] | None = None,
    progress: Callable[[str], None] | None = None,
    client: DockerClient | None = None,
) -> BuiltImage:
    """Build the model's image on an engine, and push it if asked to; a no-op on an engine that has it already.

    ``tag`` is ``NAME:TAG``, the registry's host first in it if the image is to be pushed. ``base_image`` and
    ``fetch_at_start``: see ``make_context``. ``platform`` is the engine's own (None), or such as ``linux/arm64``.
    ``credentials`` (``username`` and ``password``) are for the registry; without them what ``docker login`` has kept
    is used. ``progress`` is called with short texts. ``client`` is the engine's, None for the one that ``connect``
    finds. Proxies, package indexes and certificates that this process's environment names are passed on to the build,
    and are not in the image.

    Raises ImageError when it cannot be built, which leaves nothing on the engine, or cannot be pushed, which leaves
    it there; ModelError when the model cannot be read, and PlatformUnavailableError when no engine answers.
    """
    report = progress or _report_to_nobody
    context = make_context(model, base_image=base_image, fetch_at_start=fetch_at_start, ca_bundle=_ca_bundle())
    engine = connect() if client is None else client
    try:
        with _engine_errors(tag):
            _check_platform(engine, context.base_image, platform)
            image = _build(engine, context, tag, platform, report)
            digest = _push(engine, tag, credentials, report) if push else None
        return BuiltImage(image, tag, digest)
    finally:
        if client is None:
            engine.close()


def _build(
    engine: DockerClient, context: BuildContext, tag: str, platform: str | None, progress: Callable[[str], None]
) -> str:
    progress(f"sending {format_size(context.size)} to the engine")
    arguments = _build_arguments(context)
    output = BuildOutput(progress)
    kept: set[str] | None = set()
    try:
        messages = engine.api.build(
            fileobj=cast(Any, context.tar()),  # any iterable will do for the SDK, whatever it declares
            custom_context=True,
            tag=tag,
            platform=platform,
            buildargs=arguments,
            rm=True,
            forcerm=True,
            decode=True,
        )
        try:
            for message in messages:
                output.take(message)
        except ImageError:
            deque(messages, maxlen=0)  # nothing follows but the end, which gives the connection back
            raise
        image = engine.images.get(str(output.image))
        # the engine keeps what a stage is given with its cache: a password there costs the next build that cache
        has_secrets = _has_secrets(context, arguments)
        kept = {layer["Id"] for layer in image.history()} if has_secrets else None
        return str(image.id)
    finally:
        if kept is not None:
            _remove(engine, output.made, kept)


def _push(
    engine: DockerClient, tag: str, credentials: Mapping[str, str] | None, progress: Callable[[str], None]
) -> str:
    digest, refusal = "", None
    auth = None if credentials is None else dict(credentials)
    has_tag = ":" in tag.rpartition("/")[2]
    name = tag if has_tag else f"{tag}:latest"  # of a name alone the engine pushes whatever bears it
    for message in engine.api.push(name, stream=True, decode=True, auth_config=auth):
        refusal = message.get("error", refusal)
        if "status" in message:
            progress(f"pushing {tag}: {message['status']}")
        digest = (message.get("aux") or {}).get("Digest", digest)
    if refusal is not None:
        raise ImageError(
            f"The image {tag} cannot be pushed: {refusal}",
            "Check its name, which begins with the registry's host, and your credentials there: docker login.",
        )
    return digest


def _check_platform(engine: DockerClient, base_image: str, platform: str | None) -> None:
    """Refuse a base image of another platform: the engine would build on it as if it were of the one asked for."""
    from docker.errors import ImageNotFound

    if platform is None:
        return
    try:
        found = engine.images.get(base_image).attrs
    except ImageNotFound:
        return  # then it is fetched for the platform
    asked = [_ARCHITECTURES.get(part, part) for part in platform.lower().split("/")[:2]]
    has = [found["Os"], found["Architecture"]]
    if asked != has[: len(asked)]:
        raise ImageError(
            f"The base image {base_image} on the engine is for {'/'.join(has)}, not for {platform}.",
            f"Fetch the right one: docker pull --platform {platform} {base_image}",
        )


def _remove(engine: DockerClient, images: list[str], kept: set[str]) -> None:
    """Remove what a build has made, from its end; what others have come to build on stays."""
    from docker.errors import APIError

    for image in reversed(images):
        with suppress(APIError, requests.RequestException):
            if engine.images.get(image).id not in kept:
                engine.images.remove(image, noprune=True)


def _build_arguments(context: BuildContext) -> dict[str, str]:
    arguments = {name: value for name in BUILD_ARGUMENTS if (value := os.environ.get(name))}
    for name in _PROXIES:
        for spelling in (name, name.lower()):
            if value := os.environ.get(spelling):
                arguments[spelling] = value
    if any(file.name.endswith(f"/{CA_BUNDLE}") for file in context.files):
        arguments["PIP_CERT"] = f"{BUILD_FOLDER}/{CA_BUNDLE}"
    return arguments


def _ca_bundle() -> bytes | None:
    """The certificates that this machine trusts, where its environment names a file of them."""
    for name in _CA_BUNDLES:
        path = os.environ.get(name)
        if path and Path(path).is_file():
            try:
                return Path(path).read_bytes()
            except OSError as error:
                raise ImageError(
                    f"The certificates in {path} cannot be read: {error.strerror}.", f"Mend or unset {name}."
                ) from error
    return None


def _has_secrets(context: BuildContext, arguments: Mapping[str, str]) -> bool:
    """Whether a stage of the build is given a user or a password for a package index."""
    given = [arguments.get(name, "") for name in BUILD_ARGUMENTS]
    given += [
        file.content.decode(errors="replace")
        for file in context.files
        if isinstance(file.content, bytes) and file.name.startswith("requirements/")
    ]
    return any(map(_CREDENTIALS.search, given))


@contextmanager
def _engine_errors(tag: str) -> Iterator[None]:
    """Turn what the SDK raises into one line."""
    from docker.errors import APIError

    if not _TAG.fullmatch(tag):
        raise ImageError(f"{tag!a} is no name of an image.", "Write it as NAME:TAG, in lower case: iris:1")
    try:
        with reaching(None):
            yield
    except APIError as error:
        said = str(error.explanation or error)
        if NO_SPACE in said:
            raise disk_full() from error
        raise ImageError(f"The engine refuses to build {tag}: {said}") from error


def _report_to_nobody(text: str) -> None:
    pass
