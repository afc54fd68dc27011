"""A model deployer whose platform is this process's memory: for tests of pipelines, tools and the lifecycle itself.

    stackkit model-deployer flavor register stackkit.model_deployers.memory.MemoryModelDeployerFlavor

Its servers are entries of a dictionary that ends with the process; ``do_predict`` gives back the data. A service's
``behaviour`` chooses what goes wrong. It has every ability that needs no network.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field

from ..errors import DeploymentError, ModelError, PlatformUnavailableError
from ..stack import ComponentConfig
from .abilities import CompletesStart, ShowsManifest, SplitsTraffic, TransformsBatches
from .base import BaseModelDeployer, ModelDeployerFlavor
from .config import ModelSource, Observation, PlatformIdentity, ServiceConfig, ServiceState
from .operation import Operation
from .progress import Progress
from .service import Service
from .transforms import Transform, TransformConfig, TransformState

Behaviour = Literal["run", "hang", "fail", "crash", "never_stop"]


class MemoryModelDeployerConfig(ComponentConfig):
    """``platform`` names the dictionary that the servers live in."""

    platform: str = Field(default="memory", description="The platform's name.")
    updates_in_place: bool = Field(default=False, description="Whether a running server can go over to a new revision.")


class MemoryServiceConfig(ServiceConfig):
    """``behaviour``: run, hang while starting, fail at the start, crash after it, or never stop."""

    behaviour: Behaviour = Field(default="run", description="What the server does when it is started.")
    replicas: int = Field(default=1, ge=1, description="Any number, to have something to change.")


class MemoryTransformConfig(TransformConfig):
    """``outcome`` is what becomes of the job when it is first looked at."""

    outcome: TransformState = Field(default=TransformState.COMPLETED, description="What becomes of the job.")


class MemoryModelDeployerFlavor(ModelDeployerFlavor):
    """Servers that are entries of a dictionary in this process."""

    NAME = "memory"
    SUMMARY = "For tests: servers in this process's memory."
    implementation = "stackkit.model_deployers.memory:MemoryModelDeployer"
    config_class = MemoryModelDeployerConfig
    service_config_class = MemoryServiceConfig
    location_fields = ("platform",)


@dataclass
class MemoryCanary:
    """What runs beside a server, and the part of its requests that it answers."""

    revision: int
    behaviour: Behaviour
    percent: int


@dataclass
class MemoryServer:
    """One entry: a server as the platform has it; a torn one answers, and is not all that it was made as."""

    revision: int
    behaviour: Behaviour
    log: list[str] = field(default_factory=list)
    running: bool = True
    completed: bool = False
    torn: bool = False
    update_error: str | None = None
    canary: MemoryCanary | None = None


@dataclass
class MemoryPlatform:
    """A platform that can be broken. ``reachable`` False makes every question fail; ``starts`` counts creations."""

    servers: dict[str, MemoryServer] = field(default_factory=dict)
    transforms: dict[str, Transform] = field(default_factory=dict)
    reachable: bool = True
    starts: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def named(cls, name: str) -> MemoryPlatform:
        """The platform of that name in this process, made when it is first asked for."""
        return _PLATFORMS.setdefault(name, cls())


_PLATFORMS: dict[str, MemoryPlatform] = {}


class MemoryModelDeployer(BaseModelDeployer, SplitsTraffic, CompletesStart, ShowsManifest, TransformsBatches):
    """Keeps its servers in a ``MemoryPlatform``."""

    transform_config_class = MemoryTransformConfig

    @property
    def platform(self) -> MemoryPlatform:
        return MemoryPlatform.named(self.config.platform)

    def do_identify(self) -> PlatformIdentity:
        return PlatformIdentity(f"memory:{self.config.platform}", self.config.platform)

    def do_resolve(self, config: ServiceConfig, progress: Progress) -> ModelSource:
        if config.model_uri.startswith("missing"):
            raise ModelError(f"There is no model at {config.model_uri}.", "Check model_uri.")
        return ModelSource(uri=config.model_uri, digest=f"memory:{config.model_uri}")

    def do_start(self, operation: Operation) -> None:
        platform, service = self._reach(), operation.service
        config = _memory(operation.config)
        with platform.lock:
            server = platform.servers.get(service.id)
            if server is not None and server.running and server.revision == service.revision:
                server.torn = False
                return
            platform.starts += 1
            log = [f"started revision {service.revision}"]
            platform.servers[service.id] = MemoryServer(service.revision, config.behaviour, log)
        operation.checkpoint(name=f"stackkit-{service.id}")
        if config.behaviour == "fail":
            platform.servers[service.id].log.append("ValueError: it is broken")
            raise DeploymentError("The platform refused: it is broken.")

    def can_update(self, before: ServiceConfig, after: ServiceConfig) -> bool:
        allowed: bool = self.config.updates_in_place
        return allowed

    def do_update(self, operation: Operation) -> None:
        server = self._reach().servers[operation.service.id]
        behaviour = _memory(operation.config).behaviour
        server.update_error = "it is broken" if behaviour in ("fail", "crash") else None
        if behaviour == "run":
            server.revision, server.canary = operation.service.revision, None

    def do_split(self, operation: Operation, percent: int) -> None:
        server = self._reach().servers[operation.service.id]
        server.canary = MemoryCanary(operation.service.revision, _memory(operation.config).behaviour, percent)

    def do_complete(self, operation: Operation) -> None:
        self._reach().servers[operation.service.id].completed = True

    def do_manifest(self, service: Service, config: ServiceConfig) -> str:
        return f"server: stackkit-{service.id}\nrevision: {service.revision}\nreplicas: {_memory(config).replicas}\n"

    def do_check(self, services: Sequence[Service]) -> Mapping[str, Observation]:
        servers = self._reach().servers
        return {service.id: _observe(service, servers.get(service.id)) for service in services}

    def do_stop(self, operation: Operation) -> None:
        server = self._reach().servers.get(operation.service.id)
        if server is not None and server.behaviour != "never_stop":
            server.running, server.canary = False, None

    def do_delete(self, operation: Operation) -> None:
        server = self._reach().servers.get(operation.service.id)
        if server is None or server.behaviour != "never_stop":
            self.platform.servers.pop(operation.service.id, None)

    def do_transform(self, name: str, config: TransformConfig, source: ModelSource, progress: Progress) -> None:
        outcome = config.outcome if isinstance(config, MemoryTransformConfig) else TransformState.COMPLETED
        uris = (source.uri, config.input_uri, config.output_uri)
        job = Transform(name, outcome, *uris, created=datetime.now(UTC), message="it is broken" * (outcome == "failed"))
        known = self._reach().transforms.get(name)
        if known is None or known.state is TransformState.PENDING:
            self.platform.transforms[name] = job

    def do_find_transforms(self, prefix: str) -> Sequence[Transform]:
        return [job for name, job in reversed(self._reach().transforms.items()) if name.startswith(prefix)]

    def do_end_transform(self, name: str) -> None:
        job = self._reach().transforms.get(name)
        if job is not None and job.state is TransformState.PENDING:
            del self.platform.transforms[name]
        elif job is not None and job.is_under_way:
            self.platform.transforms[name] = replace(job, state=TransformState.STOPPED)

    def do_logs(self, service: Service, *, follow: bool, tail: int | None) -> Iterator[str]:
        server = self._reach().servers.get(service.id)
        lines = list(server.log) if server is not None else []
        return iter(lines if tail is None else lines[max(0, len(lines) - tail) :])

    def do_predict(self, service: Service, data: Any, params: Mapping[str, Any] | None) -> Any:
        return data

    def _reach(self) -> MemoryPlatform:
        if not self.platform.reachable:
            raise PlatformUnavailableError(f"The platform {self.config.platform} does not answer.")
        return self.platform


def _observe(service: Service, server: MemoryServer | None) -> Observation:
    if server is None or not server.running:
        return Observation(ServiceState.INACTIVE)
    if server.behaviour == "hang":
        return Observation(ServiceState.PENDING_STARTUP, "loading for ever", revision=server.revision)
    if server.behaviour == "crash":
        return Observation(ServiceState.ERROR, "it crashed", revision=server.revision)
    if server.torn:
        return Observation(ServiceState.ERROR, "it is torn", revision=server.revision, is_mendable=True)
    canary = server.canary
    broken = canary is not None and canary.behaviour in ("fail", "crash")
    return Observation(
        ServiceState.ACTIVE,
        prediction_url=f"memory://{service.id}/invocations",
        revision=server.revision,
        update_error="the canary is broken" if broken else server.update_error,
        canary=canary.revision if canary is not None and canary.behaviour == "run" else None,
    )


def _memory(config: ServiceConfig) -> MemoryServiceConfig:
    if not isinstance(config, MemoryServiceConfig):
        raise DeploymentError(f"A {type(config).__name__} cannot be served here.")
    return config
