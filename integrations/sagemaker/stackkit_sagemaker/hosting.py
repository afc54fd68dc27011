"""What a deployer needs of the place where its containers run: AWS, or a Docker Engine that stands in for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from stackkit.model_deployers import FoundServer, Observation, Operation, PlatformIdentity, Service

from .config import SageMakerServiceConfig


class Hosting(Protocol):
    """The methods are those of ``BaseModelDeployer`` and its abilities, without their ``do_``; see there."""

    def identify(self) -> PlatformIdentity: ...

    def check_config(self, config: SageMakerServiceConfig) -> None:
        """Refuse what could not be served, before anything is written down. Raises what says so, and makes nothing."""

    def can_update(self, before: SageMakerServiceConfig, after: SageMakerServiceConfig) -> bool: ...

    def prepare(self, operation: Operation, config: SageMakerServiceConfig) -> None: ...

    def start(self, operation: Operation, config: SageMakerServiceConfig) -> None: ...

    def update(self, operation: Operation, config: SageMakerServiceConfig) -> None: ...

    def check_split(self, service: Service, config: SageMakerServiceConfig, percent: int) -> None: ...

    def split(self, operation: Operation, config: SageMakerServiceConfig, percent: int) -> None: ...

    def complete(self, operation: Operation, config: SageMakerServiceConfig) -> None: ...

    def check(self, services: Sequence[Service]) -> Mapping[str, Observation]: ...

    def find(self) -> Sequence[FoundServer]: ...

    def stop(self, operation: Operation) -> None: ...

    def delete(self, operation: Operation) -> None: ...

    def logs(self, service: Service, *, follow: bool, tail: int | None) -> Iterator[str]: ...

    def predict(self, service: Service, data: Any, params: Mapping[str, Any] | None) -> Any:
        """Ask a server that has a prediction URL."""

    def info(self, service: Service) -> Mapping[str, str]: ...
