"""What some flavors can do and others cannot, as classes that a deployer derives from beside the base.

An ability is seen in the class, without building anything: ``issubclass(implementation, UpdatesInPlace)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import ModelSource, ServiceConfig
    from .operation import Operation


class UpdatesInPlace(ABC):
    """Can have a running server go over to another revision: the old one serves until the new one is ready."""

    @abstractmethod
    def can_update(self, before: ServiceConfig, after: ServiceConfig) -> bool:
        """Whether a server that runs with ``before`` can go over to ``after``. Asks nobody.

        Where it cannot, the server is stopped and started again.
        """

    @abstractmethod
    def do_update(self, operation: Operation) -> None:
        """Have the running server go over to the service's newest revision, and return at once.

        Where the platform has nobody to make the switch it waits until the new revision is ready, for
        ``operation.remaining()`` at most, and checks the lease by ``operation.checkpoint()`` meanwhile.
        Re-entrant. ``do_check`` tells the revision that serves, and in ``update_error`` why an update was given up.
        """


@dataclass(frozen=True)
class FoundServer:
    """A server that runs on a platform, with what was kept beside it when it was started.

    ``config`` is the stored form of its configuration: it holds references to secrets, never their values.
    """

    service_id: str
    config: Mapping[str, Any]
    source: ModelSource
    revision: int
    details: Mapping[str, Any]


class FindsServers(ABC):
    """Can list the servers on its platform that bear a service's UUID, whether or not a row names them."""

    @abstractmethod
    def do_find(self) -> Sequence[FoundServer]:
        """The servers that run. Changes nothing. Raises PlatformUnavailableError."""
