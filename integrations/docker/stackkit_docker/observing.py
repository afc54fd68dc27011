"""What a service's containers say of it: whether it answers, which revision that is, and why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from docker import DockerClient

from stackkit.local.probes import answers, base_url
from stackkit.model_deployers import Observation, Service, ServiceState, Target
from stackkit.serving.claims import ServerState

from . import containers, rolling
from .containers import Container, main_name, next_name
from .engine import reached_at


def observe(client: DockerClient, docker_host: str | None, service: Service, found: Sequence[Container]) -> Observation:
    """What the containers of a service say of it; ``found`` are all that it has on the engine at ``docker_host``."""
    alive = [each for each in found if each.is_alive]
    serving = next((each for each in alive if each.is_serving), None)
    if serving is not None:
        return _serving(client, docker_host, service, serving)
    if alive:
        return _not_published(client, service, alive[0])
    ended = main_container(service, found)
    if ended is None or service.status.target is not Target.ACTIVE:
        return Observation(ServiceState.INACTIVE, "It has no container.")
    if ended.state == "created":
        return Observation(ServiceState.INACTIVE, "Its container was made and not started.")
    said = containers.last_words(client, ended)
    return Observation(ServiceState.INACTIVE, f"{said[0].upper()}{said[1:]}")


def serving_revision(client: DockerClient, service: Service, container: Container) -> int:
    """The revision that a container serves."""
    return _revision(container, _told(client, service, container))


def main_container(service: Service, found: Sequence[Container]) -> Container | None:
    """The container that serves, or did until it ended; not one that is to take its place."""
    serving = [each for each in found if each.is_serving]
    others = [each for each in found if each.name != next_name(service.id)]  # it may have been renamed by hand
    return next(iter([*serving, *others]), None)


def _serving(client: DockerClient, docker_host: str | None, service: Service, container: Container) -> Observation:
    told = _told(client, service, container)
    observed = partial(
        Observation,
        details={"port": container.port},
        revision=_revision(container, told),
        update_error=_given_up(service, told),
    )
    if container.state == "paused":
        return observed(ServiceState.ERROR, f"Somebody has paused it: docker unpause {container.name}.")
    host = reached_at(docker_host, container.address or "")
    if host is None:
        return _by_health(observed, container)
    url = base_url(host, container.port or 0)
    said = answers(url)
    if said.ready:
        return observed(ServiceState.ACTIVE, prediction_url=f"{url}/invocations")
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
        revision = serving_revision(client, service, container)
        return Observation(ServiceState.ERROR, f"The engine starts it again and again: {said}", revision=revision)
    if container.name == main_name(service.id):
        return Observation(ServiceState.PENDING_STARTUP, "the engine publishes its port", revision=container.revision)
    return Observation(
        ServiceState.ERROR, "Its update was interrupted before the new container took over: start it again."
    )


def _told(client: DockerClient, service: Service, container: Container) -> ServerState | None:
    """What a container says of itself that was asked to go over to another model; None of any other."""
    return rolling.read_state(client, container) if service.status.details.get("rolled") == container.id else None


def _revision(container: Container, told: ServerState | None) -> int:
    """The revision that serves: that which the container was made for, until it has gone over to another."""
    return told.revision if told is not None and told.token else container.revision


def _given_up(service: Service, told: ServerState | None) -> str | None:
    """Why the update to the service's newest revision was given up; None when it was not."""
    details = service.status.details
    failed = None if told is None else told.failed_update
    if failed is not None and failed.token == details.get("roll"):
        return failed.error
    given_up = details.get("given_up") or {}
    return given_up.get("reason") if given_up.get("revision") == service.revision else None
