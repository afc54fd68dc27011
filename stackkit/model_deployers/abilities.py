"""What some flavors can do and others cannot, as classes that a deployer derives from beside the base.

An ability is seen in the class, without building anything: ``issubclass(implementation, UpdatesInPlace)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from .config import ModelSource, ServiceConfig
    from .operation import Operation
    from .progress import Progress
    from .service import Service
    from .transforms import Transform, TransformConfig


class UpdatesInPlace(ABC):
    """Can have a running server go over to another revision: the old one serves until the new one is ready."""

    @abstractmethod
    def can_update(self, before: ServiceConfig, after: ServiceConfig) -> bool:
        """Whether a server that runs with ``before`` can go over to ``after``. Asks nobody.

        Where it cannot, the server is stopped and started again.
        """

    @abstractmethod
    def do_update(self, operation: Operation) -> None:
        """Have the running server go over to ``operation.service``'s revision, and return at once.

        Where the platform has nobody to make the switch it waits until the new revision is ready, for
        ``operation.remaining()`` at most, and checks the lease by ``operation.checkpoint()`` meanwhile.
        Re-entrant, and called again every few seconds until it is so. Called with the revision that serves already,
        it gives up the newer one that is on its way: that is how a failed or cancelled update is undone, for
        ``clean_up_seconds``, before the server is stopped. ``do_check`` tells the revision that serves, and in
        ``update_error`` why an update was given up.
        """


class SplitsTraffic(UpdatesInPlace):
    """Can have a newer revision answer a part of the requests, until it is promoted or aborted.

    While there is a canary, ``service.revision`` is the stable revision and ``service.canary`` names the one beside
    it. Promoting calls ``do_update`` with the service at the canary's revision: it serves alone, and what served
    before goes. Aborting calls ``do_update`` with the service at the stable revision: what runs beside it goes.
    ``do_stop`` and ``do_delete`` remove both.
    """

    def check_split(self, service: Service, config: ServiceConfig, percent: int) -> None:
        """Refuse what ``do_split`` could not have ``service`` do with a canary of ``config``; by default nothing.

        Called before anything is prepared or written down, so that what is refused changes nothing: neither what
        serves nor a canary that is there. Raises NotSupportedError, and PlatformUnavailableError when it asks.
        """

    @abstractmethod
    def do_split(self, operation: Operation, percent: int) -> None:
        """Have ``operation.service``'s revision run beside the one that serves and answer about ``percent`` of the
        requests; return at once.

        ``operation.service`` has the canary's revision, configuration and source; ``do_prepare`` was called with the
        same. Re-entrant; called with another percent it changes the share, and once more when the canary answers: a
        platform that takes no other share while the canary is on its way takes it then. ``do_check`` tells the stable
        revision in ``revision``, in ``canary`` the one beside it once that answers, and in ``update_error`` why it was
        given up.
        A percent that the platform cannot come near to is refused with NotSupportedError before anything is made.
        """


class CompletesStart(ABC):
    """Has something to do that can only be done once a revision answers, such as registering its autoscaling."""

    @abstractmethod
    def do_complete(self, operation: Operation) -> None:
        """Do what is left for ``operation.service``'s revision, which answers.

        Called under the lease before a start or an update is called done, and again by whoever finds it undone after
        a crash. Re-entrant. What it raises fails the start or the update.
        """


class ShowsManifest(ABC):
    """Can show what it makes as the platform's own tool takes it."""

    @abstractmethod
    def do_manifest(self, service: Service, config: ServiceConfig) -> str:
        """The objects of ``service``'s revision as YAML. Makes nothing, and shows no secret's value.

        ``config`` is the service's configuration with its secrets in place.
        """


class ForwardsPorts(ABC):
    """Can open a port of this machine that leads to a server, whether or not that is exposed."""

    @abstractmethod
    def do_forward(self, service: Service, port: int | None) -> AbstractContextManager[str]:
        """Open a port on loopback that leads to the server, until the context is left.

        Gives its base URL, such as ``http://127.0.0.1:40321``. ``port`` None means one that is free.
        Raises DeploymentError when the port is taken or nothing answers, and PlatformUnavailableError.
        """


class TransformsBatches(ABC):
    """Can run a model over data in the platform's storage, without a model server.

    The platform alone knows its jobs: none of them has a row. A job's name is derived from all that was asked for, so
    that asking twice finds the first.
    """

    transform_config_class: ClassVar[type[TransformConfig]]

    @abstractmethod
    def do_transform(self, name: str, config: TransformConfig, source: ModelSource, progress: Progress) -> None:
        """Have the job ``name`` run, and return at once; a no-op when there is a job of that name, ended or not.

        ``config`` has its secrets in place; ``source`` is what ``do_resolve`` gave for its ``model_uri``. Re-entrant:
        cut off half-way and called again, it goes on. When it raises, what it has made is gone, or told as pending.
        """

    @abstractmethod
    def do_find_transforms(self, prefix: str) -> Sequence[Transform]:
        """The jobs of ours whose name begins with ``prefix``, newest first. Changes nothing.

        A job that is not there yet, or that nobody made any more, is told as pending as long as anything is there that
        was made for it.

        Raises PlatformUnavailableError.
        """

    @abstractmethod
    def do_end_transform(self, name: str) -> None:
        """Stop the job if it runs, and remove what was made for it, except for its output; return at once.

        A no-op on what is gone. Called when a job is stopped, and when it was waited for and has ended.
        """


@dataclass(frozen=True)
class FoundServer:
    """A server that runs on a platform, with what was kept beside it when it was started.

    ``config`` is the stored form of its configuration: it holds references to secrets, never their values. ``epoch``
    is the highest that any of it was made under, where the platform keeps that to refuse a lower one.
    """

    service_id: str
    config: Mapping[str, Any]
    source: ModelSource
    revision: int
    details: Mapping[str, Any]
    epoch: int = 1


class FindsServers(ABC):
    """Can list the servers on its platform that bear a service's UUID, whether or not a row names them."""

    @abstractmethod
    def do_find(self) -> Sequence[FoundServer]:
        """The servers that run. Changes nothing. Raises PlatformUnavailableError."""
