"""What some flavors can do and others cannot, as classes that a deployer derives from beside the base.

An ability is seen in the class, without building anything: ``issubclass(implementation, UpdatesInPlace)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config import ServiceConfig
    from .lifecycle import Operation


class UpdatesInPlace(ABC):
    """Can have a running server go over to another revision without losing a request."""

    @abstractmethod
    def can_update(self, before: ServiceConfig, after: ServiceConfig) -> bool:
        """Whether a server that runs with ``before`` can go over to ``after``. Asks nobody.

        Where it cannot, the server is stopped and started again.
        """

    @abstractmethod
    def do_update(self, operation: Operation) -> None:
        """Have the running server go over to the service's newest revision, and return at once.

        Re-entrant. ``do_check`` tells the revision that serves, and in ``update_error`` why an update was given up.
        """
