"""The base of every model deployer: the public verbs, and the few methods that a flavor writes.

An author of a flavor derives a ``ModelDeployerFlavor``, a ``ServiceConfig`` and a ``BaseModelDeployer``, and writes
the methods that begin with ``do_``. They are re-entrant: each may be called again after a crash at any point, finds
what the first call made (by a name derived from the service's UUID) and goes on from there. None of them waits until
a server is ready or gone, and none touches the database: the lifecycle does both. The suite in
``stackkit.model_deployers.conformance`` checks all of it.
"""

from __future__ import annotations

import uuid
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, ClassVar, Self

from ..errors import InvalidConfigError, NotFoundError, NotSupportedError, StackkitError
from ..stack import ComponentType, Flavor, FlavorRegistry, StackComponent, StackStore
from ..stack.configs import parse
from ..store import Database, default_database
from .abilities import FindsServers, ForwardsPorts, FoundServer, ShowsManifest, SplitsTraffic, TransformsBatches
from .config import ModelSource, Observation, PlatformIdentity, ServiceConfig
from .convergence import Convergence
from .lifecycle import Lifecycle
from .operation import Operation
from .predictions import request_prediction
from .progress import Progress, silent
from .servers import ModelServers, Services
from .service import Service
from .transforms import BatchTransforms


class ModelDeployerFlavor(Flavor):
    """The base of every model deployer flavor.

    ``start_seconds`` is how long a start or an update is waited for when nothing was said, and ``clean_up_seconds``
    how long the end of what failed.
    """

    TYPE = ComponentType.MODEL_DEPLOYER
    service_config_class: ClassVar[type[ServiceConfig]] = ServiceConfig
    start_seconds: ClassVar[float] = 300
    clean_up_seconds: ClassVar[float] = 30


class BaseModelDeployer(StackComponent):
    """Deploys models and manages their servers, each of which is a row of the one table."""

    TYPE = ComponentType.MODEL_DEPLOYER

    @property
    def service_config_class(self) -> type[ServiceConfig]:
        """The type of configuration that this flavor's services have."""
        return self._model_deployer_flavor.service_config_class

    @property
    def start_seconds(self) -> float:
        """How long the verbs wait when nothing was said."""
        return self._model_deployer_flavor.start_seconds

    @property
    def clean_up_seconds(self) -> float:
        """How long the end of what failed is waited for."""
        return self._model_deployer_flavor.clean_up_seconds

    @classmethod
    def get_active_model_deployer(cls) -> Self:
        """The model deployer of the active stack.

        Raises NotFoundError when the stack has none, and InvalidConfigError when it is of another flavor than this
        class.
        """
        deployer = StackStore(default_database()).active_component(ComponentType.MODEL_DEPLOYER)
        if not isinstance(deployer, cls):
            raise InvalidConfigError(
                f"The active stack's model deployer {deployer.name!r} is a {type(deployer).__name__}, "
                f"not a {cls.__name__}.",
                "Choose another stack: stackkit stack set NAME.",
            )
        return deployer

    # The verbs

    def deploy_model(
        self,
        config: ServiceConfig | None = None,
        *,
        replace: bool = False,
        timeout: float | None = None,
        progress: Progress = silent,
        **fields: Any,
    ) -> Service:
        """Have a model served, and return its service once it answers.

        Takes a configuration of this flavor's type, or its fields. Deploying the same again returns the server that
        is there, started if it had stopped. Deploying something else under the same identity gives it a new revision
        under the same UUID and URL with ``replace``, and raises AlreadyExistsError without. ``timeout`` is in
        seconds, for every verb: None is the flavor's ``start_seconds``; with 0 it does not wait until the server
        answers.

        Raises InvalidConfigError, ModelError, DeploymentError and DeploymentTimeoutError; a start that failed leaves
        one service in error and nothing running, and the same deploy tries it again.
        """
        checked = self._config(config, fields)
        service_id = Lifecycle(self, progress).deploy(checked, replace=replace, timeout=self._seconds(timeout))
        return self.get_model_server(service_id, refresh=False)

    def find_model_server(
        self,
        *,
        running: bool | None = None,
        service_uuid: uuid.UUID | str | None = None,
        refresh: bool = True,
        **filters: Any,
    ) -> Services:
        """The services of this deployer that match every filter, newest first, read a page at a time.

        Filters with an index: pipeline_name, pipeline_step_name, run_name, service_name, model_name, model_version,
        flavor, and ``running``. Any other field of the configuration is compared by scanning. With ``refresh`` the
        platform is asked about the services of each page at once, and what it says is recorded.
        Raises InvalidConfigError for a filter that is no field.
        """
        return self._servers.find(
            deployer_id=self.id,
            running=running,
            service_uuid=service_uuid,
            refresh=refresh,
            config_class=self.service_config_class,
            **filters,
        )

    def get_model_server(self, service: Service | uuid.UUID | str, *, refresh: bool = True) -> Service:
        """A service of this deployer by its UUID, a unique prefix of it, or its name. Raises NotFoundError."""
        return self._servers.get(_key(service), deployer_id=self.id, refresh=refresh)

    def start_model_server(
        self, service: Service | uuid.UUID | str, *, timeout: float | None = None, progress: Progress = silent
    ) -> Service:
        """Start a server and wait until it answers; a no-op when it runs. Raises as ``deploy_model`` does."""
        service_id = self.get_model_server(service, refresh=False).id
        Lifecycle(self, progress).start(service_id, timeout=self._seconds(timeout))
        return self.get_model_server(service_id, refresh=False)

    def update_model_server(
        self,
        service: Service | uuid.UUID | str,
        *,
        canary: int | None = None,
        timeout: float | None = None,
        progress: Progress = silent,
        **changes: Any,
    ) -> Service:
        """Change some fields of a server's configuration, its model_uri among them, as a new revision.

        What is not given stays as it is. The model is looked at anew: one retrained to the same path is another. A
        server that runs goes on under the same UUID and URL; when the new revision does not start, the old one serves
        again and the error says why. With ``canary``, from 1 to 99, the new revision answers about that many of a
        hundred requests beside the one that serves, until it is promoted or aborted; called again without changes it
        answers another part of them.

        Raises as ``deploy_model`` does, InvalidConfigError for a change of name, InUseError while there is a canary,
        and NotSupportedError for a canary where the flavor cannot split a server's requests.
        """
        if canary is not None:
            self._require_canaries()
            if not 0 < canary < 100:
                raise InvalidConfigError(
                    f"A canary cannot answer {canary} % of the requests.",
                    "Give it from 1 to 99 of a hundred; to have it answer all of them, promote it.",
                )
        service_id = self.get_model_server(service, refresh=False).id
        lifecycle, seconds = Lifecycle(self, progress), self._seconds(timeout)
        if canary is None:
            lifecycle.update(service_id, changes, timeout=seconds)
        else:
            lifecycle.split(service_id, changes, canary, timeout=seconds)
        return self.get_model_server(service_id, refresh=False)

    def promote_model_server(
        self, service: Service | uuid.UUID | str, *, timeout: float | None = None, progress: Progress = silent
    ) -> Service:
        """Have a server's canary serve alone, in the place of the revision beside it.

        Asked for again after an interruption it goes on. Raises NotFoundError when there is no canary, and as
        ``update_model_server`` does when it does not serve alone: the revision beside it does so then.
        """
        self._require_canaries()
        service_id = self.get_model_server(service, refresh=False).id
        Lifecycle(self, progress).promote(service_id, timeout=self._seconds(timeout))
        return self.get_model_server(service_id, refresh=False)

    def abort_model_server(
        self, service: Service | uuid.UUID | str, *, timeout: float | None = None, progress: Progress = silent
    ) -> Service:
        """Remove a server's canary, so that the revision beside it serves alone again.

        Raises NotFoundError when there is no canary, and DeploymentError when the platform does not remove it.
        """
        self._require_canaries()
        service_id = self.get_model_server(service, refresh=False).id
        Lifecycle(self, progress).abort(service_id, timeout=self._seconds(timeout))
        return self.get_model_server(service_id, refresh=False)

    def rollback_model_server(
        self,
        service: Service | uuid.UUID | str,
        *,
        to: int | None = None,
        timeout: float | None = None,
        progress: Progress = silent,
    ) -> Service:
        """Have an earlier revision serve again, configuration and bytes, as a new revision.

        ``to`` is its number, by default the one before the present one. Raises NotFoundError, and as
        ``update_model_server`` does.
        """
        service_id = self.get_model_server(service, refresh=False).id
        Lifecycle(self, progress).rollback(service_id, to, timeout=self._seconds(timeout))
        return self.get_model_server(service_id, refresh=False)

    def stop_model_server(
        self, service: Service | uuid.UUID | str, *, timeout: float | None = None, progress: Progress = silent
    ) -> Service:
        """Stop a server so that it can be started again; a no-op when it does not run.

        Raises DeploymentError and DeploymentTimeoutError when the platform does not stop it.
        """
        service_id = self.get_model_server(service, refresh=False).id
        Lifecycle(self, progress).stop(service_id, timeout=self._seconds(timeout))
        return self.get_model_server(service_id, refresh=False)

    def delete_model_server(
        self,
        service: Service | uuid.UUID | str,
        *,
        timeout: float | None = None,
        forget: bool = False,
        progress: Progress = silent,
    ) -> None:
        """Remove a server, all that was made for it, and its row once the platform confirms.

        With ``forget`` the row alone is dropped, for a platform that no longer exists; nothing is asked of it.
        """
        service_id = self.get_model_server(service, refresh=False).id
        if forget:
            self._servers.forget(service_id)
        else:
            Lifecycle(self, progress).delete(service_id, timeout=self._seconds(timeout))

    def find_orphans(self) -> list[FoundServer]:
        """The servers that run on this deployer's platform and that no row names.

        Raises NotSupportedError for a flavor that cannot list its servers.
        """
        if not isinstance(self, FindsServers):
            raise NotSupportedError(
                f"The flavor {self.record.flavor!r} cannot list the servers on its platform.",
                "Look for them with the platform's own means: their names end with the service's UUID.",
            )
        return [found for found in self.do_find() if not self._servers.knows(found.service_id)]

    def adopt_model_server(self, service_id: uuid.UUID | str) -> Service:
        """Give a server that runs and lost its row that row back, under the UUID that it bears.

        Raises NotFoundError when no such server runs, NotSupportedError, and AlreadyExistsError when another service
        bears its name by now.
        """
        for found in self.find_orphans():
            if found.service_id == str(service_id):
                Lifecycle(self).adopt(found)
                return self.get_model_server(found.service_id)
        raise NotFoundError(
            f"No server that lost its row bears the UUID {service_id}.",
            "See which do: stackkit model-deployer models adopt.",
        )

    def get_model_server_logs(
        self, service: Service | uuid.UUID | str, *, follow: bool = False, tail: int | None = None
    ) -> Iterator[str]:
        """The server's log, a line at a time; the last ``tail`` lines, and with ``follow`` those to come."""
        found = self.get_model_server(service, refresh=False)
        return self.do_logs(found, follow=follow, tail=tail)

    def predict(self, service: Service | uuid.UUID | str, data: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Ask a server for predictions.

        ``data`` is a DataFrame, an array, a list, a dictionary of columns, or a whole request such as
        ``{"dataframe_split": …}``. Raises PredictionError with the server's own words.
        """
        found = service if isinstance(service, Service) else self.get_model_server(service)
        return self.do_predict(found, data, params)

    def manifest(self, service: Service | uuid.UUID | str) -> str:
        """The objects of a server, in YAML, as the platform's own tool takes them; no secret's value is in them.

        Raises NotSupportedError for a flavor that has no such thing.
        """
        if not isinstance(self, ShowsManifest):
            raise self._cannot(ShowsManifest, "show a manifest")
        found = self.get_model_server(service, refresh=False)
        return self.do_manifest(found, Convergence(self).reveal(found.config))

    def dry_run(self, config: ServiceConfig | None = None, *, progress: Progress = silent, **fields: Any) -> str:
        """The manifest of what ``deploy_model`` with ``replace`` would make of the same. Makes nothing.

        A service that is not there yet bears a UUID of its own in it. Raises as ``manifest`` and ``deploy_model`` do.
        """
        if not isinstance(self, ShowsManifest):
            raise self._cannot(ShowsManifest, "show a manifest")
        with Lifecycle(self, progress).previewed(self._config(config, fields)) as (service, revealed):
            return self.do_manifest(service, revealed)

    def port_forward(self, service: Service | uuid.UUID | str, port: int | None = None) -> AbstractContextManager[str]:
        """A port on loopback that leads to the server until the context is left; gives its base URL.

        ``port`` None means one that is free. Raises NotSupportedError for a flavor that has no way to do so.
        """
        if not isinstance(self, ForwardsPorts):
            raise self._cannot(ForwardsPorts, "forward a port to a server")
        return self.do_forward(self.get_model_server(service), port)

    @property
    def transforms(self) -> BatchTransforms:
        """The batch transforms of this deployer. Raises NotSupportedError for a flavor that has none."""
        if not isinstance(self, TransformsBatches):
            raise self._cannot(TransformsBatches, "run batch transforms")
        return BatchTransforms(self, self)

    # What a flavor writes

    @abstractmethod
    def do_identify(self) -> PlatformIdentity:
        """Name the platform that this deployer acts on, as it can be reached from here.

        Raises PlatformUnavailableError when that cannot be told.
        """

    def do_resolve(self, config: ServiceConfig, progress: Progress) -> ModelSource:
        """Find the bytes that ``config`` asks for, and their digest where they can be read from here.

        Called before anything is written down, so that a model that is none changes nothing. Raises ModelError.
        """
        return ModelSource(uri=config.model_uri)

    def do_prepare(self, operation: Operation) -> None:
        """Make ready what the server needs (an environment, an image, an upload), while an old one still serves."""

    @abstractmethod
    def do_start(self, operation: Operation) -> None:
        """Create the server and return at once; a no-op when it is there."""

    @abstractmethod
    def do_check(self, services: Sequence[Service]) -> Mapping[str, Observation]:
        """What the platform says about each of these services, by UUID; one that is left out does not run.

        Asks for many at once where the platform can, changes nothing, and raises PlatformUnavailableError when it
        cannot be asked.
        """

    @abstractmethod
    def do_stop(self, operation: Operation) -> None:
        """Stop the server and return; a no-op when there is none. It can be started again under the same URL.

        Called again every few seconds while the server has not stopped, so that a flavor can become firmer.
        """

    @abstractmethod
    def do_delete(self, operation: Operation) -> None:
        """Remove all that was made for a server that has stopped; a no-op on what is gone already."""

    @abstractmethod
    def do_logs(self, service: Service, *, follow: bool, tail: int | None) -> Iterator[str]:
        """The server's log, a line at a time without its end."""

    def do_predict(self, service: Service, data: Any, params: Mapping[str, Any] | None) -> Any:
        """Ask the server for predictions; by default over MLflow's scoring protocol at its prediction URL."""
        return request_prediction(service, data, params)

    def do_hold(self) -> AbstractContextManager[None]:
        """Entered before ``do_resolve``, and left when a row names what that has kept: until then it is not swept.

        By default nothing is kept, and nothing held.
        """
        return nullcontext()

    def do_sweep(self, named: Callable[[Collection[str]], Collection[str]]) -> Sequence[str]:
        """Drop the kept bytes that no service's revision names any more, and return their digests.

        ``named`` picks out of some digests those that a revision names. What somebody holds is left for the next
        time. By default nothing is kept, and nothing dropped.
        """
        return ()

    def do_info(self, service: Service) -> Mapping[str, str]:
        """Further rows for the description of a service, by upper-case name."""
        return {}

    @property
    def _model_deployer_flavor(self) -> ModelDeployerFlavor:
        if not isinstance(self.flavor, ModelDeployerFlavor):
            raise NotSupportedError(f"The flavor {self.record.flavor!r} is no model deployer flavor.")
        return self.flavor

    def _seconds(self, timeout: float | None) -> float:
        return self.start_seconds if timeout is None else timeout

    def _require_canaries(self) -> None:
        if not isinstance(self, SplitsTraffic):
            raise self._cannot(SplitsTraffic, "split a server's requests between two revisions")

    def _cannot(self, ability: type, what: str) -> NotSupportedError:
        able = flavors_with(ability, self.database)
        hint = f"These flavors can: {', '.join(able)}." if able else "No flavor that is installed here can."
        return NotSupportedError(f"The flavor {self.record.flavor!r} cannot {what}.", hint)

    @property
    def _servers(self) -> ModelServers:
        return ModelServers(self.database, {self.id: self})

    def _config(self, config: ServiceConfig | None, fields: Mapping[str, Any]) -> ServiceConfig:
        expected = self.service_config_class
        if config is None:
            return parse(expected, fields, f"a {self.record.flavor} service")
        if fields:
            raise InvalidConfigError(
                f"deploy_model was given a configuration and {', '.join(map(repr, fields))} beside it.",
                "Put all fields into the configuration.",
            )
        if not isinstance(config, expected):
            raise InvalidConfigError(
                f"A {type(config).__name__} does not fit the {self.record.flavor} model deployer.",
                f"Give it a {expected.__name__}.",
            )
        return config


def flavors_with(ability: type, database: Database) -> list[str]:
    """The flavors of this installation whose deployer has an ability; one that cannot be loaded is passed over."""
    registry, able = FlavorRegistry(database), []
    for entry in registry.list(ComponentType.MODEL_DEPLOYER):
        with suppress(StackkitError):
            if issubclass(registry.get(entry.type, entry.name).implementation_class(), ability):
                able.append(entry.name)
    return able


def _key(service: Service | uuid.UUID | str) -> str:
    return service.id if isinstance(service, Service) else str(service)
