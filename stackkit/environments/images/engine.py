"""The Docker Engine: reaching it through its SDK, and saying in one line why it cannot be reached."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ...errors import ImageError, PlatformUnavailableError

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.errors import APIError

_USUAL_HOST = "unix:///var/run/docker.sock"
_TLS = ("DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")


def connect(host: str | None = None) -> DockerClient:
    """A client of the engine at ``host`` (None: that of DOCKER_HOST, or the usual socket), which answers.

    DOCKER_TLS_VERIFY and DOCKER_CERT_PATH say, as they do for ``docker --host``, whether one at ``tcp://…`` is asked
    over TLS.
    Raises ImageError without the SDK, PlatformUnavailableError when nobody answers or one may not ask.
    """
    try:
        import docker
    except ImportError as error:
        raise ImageError(
            "Images need the Docker SDK, which is not installed here.", "Install it: pip install 'stackkit[docker]'"
        ) from error
    with reaching(host):
        client = docker.from_env(environment=_variables(host))
        try:
            client.ping()
        except BaseException:
            client.close()
            raise
        return client


@contextmanager
def reaching(host: str | None) -> Iterator[None]:
    """Turn what the SDK raises when no engine can be reached into a PlatformUnavailableError."""
    import requests
    from docker.errors import APIError, DockerException

    shown = host or os.environ.get("DOCKER_HOST") or _USUAL_HOST
    try:
        yield
    except APIError:
        raise
    except (DockerException, requests.RequestException, ValueError) as error:
        causes = _causes(error)
        if any(isinstance(cause, PermissionError) for cause in causes):
            raise PlatformUnavailableError(
                f"You may not use the Docker Engine at {shown}: permission denied.",
                "Have yourself added to the group docker, and log in anew: sudo usermod -aG docker $USER",
            ) from error
        cause = next((cause for cause in causes if isinstance(cause, OSError) and cause.strerror), error)
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause).splitlines()[0]
        raise PlatformUnavailableError(
            f"No Docker Engine answers at {shown}: {reason}.", "Start it, or name another one: DOCKER_HOST."
        ) from error


def log_lines(engine: DockerClient, container_id: str, *, follow: bool, tail: int | None) -> Iterator[str]:
    """The lines of a container's log, the last ``tail`` (None: all), and with ``follow`` those to come.

    Lets go of the engine's connection when it is closed in the middle. Raises docker.errors.APIError.
    """
    from docker.errors import DockerException

    chunks = engine.api.logs(container_id, stream=True, follow=follow, tail="all" if tail is None else tail)
    rest = b""
    try:
        for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line.decode("utf-8", "replace").rstrip("\r") for line in lines)
        if rest:
            yield rest.decode("utf-8", "replace")
    finally:
        with suppress(DockerException):  # over SSH it ends with the client alone
            chunks.close()  # shuts the connection down, and leaves its descriptor to whoever reads to the end
            for _ in chunks:
                pass


def _variables(host: str | None) -> dict[str, str]:
    named = dict(os.environ) if host is None else {**os.environ, "DOCKER_HOST": host}
    if not named.get("DOCKER_HOST", "").startswith(("tcp://", "https://")):
        return {name: value for name, value in named.items() if name not in _TLS}  # the SDK would look for certificates
    return named


def words(error: APIError) -> str:
    """What the engine said, on one line."""
    return " ".join(str(error.explanation or error).split()).rstrip(".") + "."


def _causes(error: BaseException) -> list[BaseException]:
    """``error`` and what led to it: urllib3 and requests hand that on as an argument, not as a cause."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, BaseException) and each not in found:
            found.append(each)
            waiting += [*each.args, each.__cause__, each.__context__]
    return found
