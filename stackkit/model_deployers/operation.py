"""One operation on one service, as a flavor sees it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

from .config import ServiceConfig
from .leases import Lease
from .progress import Progress
from .service import Service


class Operation:
    """What a flavor is given to act on one service: the service, its secrets in place, and a fenced notebook."""

    def __init__(
        self,
        service: Service,
        lease: Lease,
        deadline: float,
        progress: Progress,
        reveal: Callable[[ServiceConfig], ServiceConfig],
    ) -> None:
        self.service = service
        self.deadline = deadline
        self.progress = progress
        self._lease = lease
        self._reveal = reveal

    @cached_property
    def config(self) -> ServiceConfig:
        """The service's configuration with its secrets in place. Reads the database once, when it is first asked for.

        Raises SecretError when one of them is missing.
        """
        return self._reveal(self.service.config)

    @property
    def epoch(self) -> int:
        """Raised each time somebody takes over the work: what carries a lower one is out of date."""
        return self._lease.epoch

    def checkpoint(self, **details: Any) -> None:
        """Keep what the platform handed back in the service's details, before going on.

        Raises LeaseLostError when another process has taken over: stop at once.
        """
        merged = {**self.service.status.details, **details}
        self._lease.write({"details": merged})
        self.service._row["details"] = merged

    def remaining(self) -> float:
        """Seconds until the operation is given up; never negative."""
        return max(0.0, self.deadline - time.monotonic())
