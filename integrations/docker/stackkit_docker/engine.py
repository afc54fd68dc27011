"""One conversation with a Docker Engine, and what it refuses in one line."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import requests
from docker import DockerClient
from docker.errors import APIError
from docker.utils import kwargs_from_env

from stackkit.environments import images
from stackkit.environments.images.engine import reaching, words
from stackkit.errors import DeploymentError, StackkitError

_HERE = ("localhost", "127.0.0.1", "::1")


@contextmanager
def connect(host: str | None, refusal: type[StackkitError] = DeploymentError) -> Iterator[DockerClient]:
    """The engine at ``host`` (None: that of the environment), for the length of a ``with``.

    Raises PlatformUnavailableError when it cannot be reached, now or in between, and ``refusal`` with the engine's own
    words for what it refuses.
    """
    client = images.connect(host)
    try:
        yield client
    except APIError as error:
        raise refusal(f"The Docker Engine refuses: {words(error)}") from error
    except requests.RequestException:
        with reaching(host):
            raise
    finally:
        client.close()


def machine(host: str | None) -> str | None:
    """The machine that the engine at ``host`` runs on, as its address names it; None when that is this one."""
    address = urlsplit(host or str(kwargs_from_env().get("base_url", "")))
    name = address.hostname if address.scheme in ("tcp", "http", "https", "ssh") else None
    return None if name in _HERE else name


def reached_at(docker_host: str | None, published_on: str) -> str | None:
    """The host under which a port that the engine publishes on an address is reached from here.

    None for the loopback address of another machine.
    """
    remote, address = machine(docker_host), ipaddress.ip_address(published_on)
    if remote is not None and address.is_unspecified:
        return remote
    return None if remote is not None and address.is_loopback else published_on
