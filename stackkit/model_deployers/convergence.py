"""What every operation shares: bringing one server up, bringing it down, and writing down what came of it.

All of it happens under the lease of the service. Whatever fails leaves nothing running that the row does not tell of.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, RowMapping

from ..errors import DeploymentError, LeaseLostError, PlatformUnavailableError, StackkitError
from ..stack import SecretStore, configs
from ..stack.configs import parse
from ..store import services as rows
from ..store.outages import patiently
from . import leases
from .abilities import CompletesStart, UpdatesInPlace
from .comparison import differences
from .config import SERVING, ModelSource, Observation, ServiceConfig, ServiceState, Target
from .leases import Lease
from .operation import Operation
from .progress import Progress, silent
from .service import COMPLETED, Service
from .waiting import Verb, await_arrival, observe

if TYPE_CHECKING:
    from .base import BaseModelDeployer

NAMED = ("model_name", "model_version", "pipeline_name", "pipeline_step_name", "run_name")
"""The fields of a configuration that are columns of the row too."""

NO_CANARY: Mapping[str, Any] = {"canary_revision": None, "canary_percent": None}

Result = TypeVar("Result")
AnyConfig = TypeVar("AnyConfig", bound=configs.Config)


class Convergence:
    """Moves the servers of one deployer."""

    def __init__(self, deployer: BaseModelDeployer, progress: Progress = silent) -> None:
        self.deployer = deployer
        self.database = deployer.database
        self.secrets = SecretStore(deployer.database)
        self.progress = progress

    # Up

    def converge_up(self, lease: Lease, deadline: float, *, wait: bool) -> None:
        """Have the newest revision run: nothing to do where it does, a fresh start where anything else does.

        What only lacks a piece is mended while it runs, and what serves an earlier revision goes over to the newest
        where the flavor can. A canary beside a server that runs, or is on its way, stays; one whose server is started
        anew is ended.
        """
        row = lease.read()
        operation = self.operation(lease, deadline, row)
        service = operation.service
        observation = self.observe(service)
        current = observation.revision in (None, row["revision"], row["canary_revision"])
        if observation.state in SERVING and current:
            done = {} if service.is_complete else self.complete(operation)
            lease.write({"target": Target.ACTIVE, **self.active(service, observation, done)})
            return
        if observation.is_mendable and current and service.canary is None:
            going = {"target": Target.ACTIVE, "state": ServiceState.PENDING_STARTUP, "message": ""}
            lease.write(going, {"action": "start", "outcome": "begun"})
            with self._running_on(lease, "start", state=ServiceState.ERROR):
                self._mend(lease, deadline, wait=wait)
            return
        if observation.state in SERVING and service.canary is None and self._can_go_over(row, observation.revision):
            # an update was interrupted; what it needs was prepared before the row had its revision
            lease.write({"target": Target.ACTIVE, "message": ""}, {"action": "update", "outcome": "begun"})
            with self._running_on(lease, "update"):
                self.roll(lease, deadline, wait=wait)
            return
        lease.write(
            {
                "target": Target.ACTIVE,
                "state": ServiceState.PENDING_STARTUP,
                "message": "",
                "prediction_url": None,
                "details": without_completion(row),
            },
            {"action": "start", "outcome": "begun"},
        )
        on_its_way = observation.state is ServiceState.PENDING_STARTUP and current
        if not on_its_way and (observation.state is not ServiceState.INACTIVE or service.canary is not None):
            self.bring_down(lease, deadline, self.deployer.do_stop, "restart")
            self.end_canary(lease)
        self.bring_up(lease, deadline, wait=wait)

    def bring_up(self, lease: Lease, deadline: float, *, wait: bool, prepared: bool = False) -> str:
        """Prepare and start the newest revision and wait until it answers; whatever fails leaves nothing running."""
        operation = self.operation(lease, deadline)
        service = operation.service
        try:
            if not prepared:
                self.progress(f"preparing {service.name}")
                self.deployer.do_prepare(operation)
            self.progress(f"starting {service.name}")
            self.deployer.do_start(operation)
            if wait:
                self.await_active(lease, operation, "start")
        except LeaseLostError:
            raise  # whoever has taken over decides what runs
        except BaseException as error:
            self._give_up(lease, operation, error)
            if isinstance(error, StackkitError) or not isinstance(error, Exception):
                raise
            raise DeploymentError(f"The service {service.name!r} did not start: {error!r}.") from error
        return service.id

    def roll(self, lease: Lease, deadline: float, *, wait: bool) -> None:
        """Have the running server go over to the newest revision, for which everything has been prepared."""
        operation = self.operation(lease, deadline)
        self.progress(f"updating {operation.service.name}")
        if isinstance(self.deployer, UpdatesInPlace):
            self.deployer.do_update(operation)
        if wait:
            self.await_active(lease, operation, "update")

    def _mend(self, lease: Lease, deadline: float, *, wait: bool) -> None:
        """Start what runs once more, so that what is gone of it comes back."""
        operation = self.operation(lease, deadline)
        self.progress(f"mending {operation.service.name}")
        self.deployer.do_start(operation)
        if wait:
            self.await_active(lease, operation, "start")

    @contextmanager
    def _running_on(self, lease: Lease, action: str, **values: Any) -> Iterator[None]:
        """For what is done beside a server that runs on when it fails; that and ``values`` are written down then."""
        try:
            yield
        except LeaseLostError:
            raise
        except BaseException as error:
            self._note_failure(lease, action, error, **values)
            raise

    def _can_go_over(self, row: RowMapping, revision: int | None) -> bool:
        """Whether a server of an earlier ``revision`` can go over to the row's while it runs."""
        if revision is None:
            return False
        served = self.read(lambda connection: rows.revision(connection, row["id"], revision))
        if served is None:
            return False
        before = {**row, "config": served["config"], "source": served["source"], "revision": revision}
        return self.can_update(before, self.service(row).config)

    def can_update(self, row: RowMapping | Mapping[str, Any], after: ServiceConfig) -> bool:
        """Whether the row's server, while it runs, can go over to ``after``."""
        return isinstance(self.deployer, UpdatesInPlace) and self.deployer.can_update(
            self.reveal(self.service(row).config), self.reveal(after)
        )

    def _note_failure(self, lease: Lease, action: str, error: BaseException, **values: Any) -> None:
        message = f"Its {action} was cancelled." if isinstance(error, KeyboardInterrupt) else reason(error)
        failed = {**values, "message": message}
        lease.write(failed, {"action": action, "outcome": "failed", **failed})

    def await_active(self, lease: Lease, operation: Operation, verb: Verb) -> None:
        """Wait until the newest revision answers, complete its start, and write that down.

        Raises as ``await_arrival`` does.
        """
        observation = await_arrival(self.deployer, lease, operation, verb)
        lease.write(
            self.active(operation.service, observation, self.complete(operation)),
            {"action": verb, "outcome": "done", "state": observation.state},
        )

    def active(
        self, service: Service, observation: Observation, done: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The columns of a service that was seen to answer; ``done`` are details that were come by beside that."""
        return {
            "state": observation.state,
            "message": "",
            "prediction_url": observation.prediction_url,
            "details": {**service.status.details, **observation.details, **(done or {})},
            "unknown_since": None,
            "unknown_reason": None,
        }

    def complete(self, operation: Operation) -> dict[str, Any]:
        """Do what is left to do once the operation's revision answers; returns the details that tell of it."""
        if not isinstance(self.deployer, CompletesStart):
            return {}
        self.progress(f"completing {operation.service.name}")
        self.deployer.do_complete(operation)
        return {COMPLETED: operation.service.revision}

    def _give_up(self, lease: Lease, operation: Operation, error: BaseException) -> None:
        """Stop what a failed or cancelled start has left, and write down why."""
        message = "Its start was cancelled." if isinstance(error, KeyboardInterrupt) else reason(error)
        operation.deadline = self.clean_up_deadline()
        try:
            self.deployer.do_stop(operation)
            await_arrival(self.deployer, lease, operation, "stop", again=self.deployer.do_stop)
        except LeaseLostError:
            return
        except Exception as second:
            message += f" And it could not be cleaned up: {second}"
        lease.write(
            {"state": ServiceState.ERROR, "message": message, "prediction_url": None},
            {"action": "start", "outcome": "failed", "state": ServiceState.ERROR, "message": message},
        )

    # Down

    def bring_down(self, lease: Lease, deadline: float, act: Callable[[Operation], None], action: str) -> None:
        """Have ``act`` (do_stop or do_delete) end the server and what runs beside it, and wait until that is so."""
        operation = self.operation(lease, max(deadline, time.monotonic() + 1.0))
        self.progress(f"stopping {operation.service.name}")
        try:
            act(operation)
            await_arrival(self.deployer, lease, operation, "stop", again=act)
        except LeaseLostError:
            raise
        except BaseException as error:
            self._note_failure(lease, action, error)
            if isinstance(error, StackkitError) or not isinstance(error, Exception):
                raise
            raise DeploymentError(f"The service {operation.service.name!r} did not stop: {error!r}.") from error

    def end_canary(
        self, lease: Lease, values: Mapping[str, Any] | None = None, event: Mapping[str, Any] | None = None
    ) -> None:
        """Write down that there is no canary any more, and ``values`` beside that; also when there was none."""
        row = lease.read()
        key = rows.new_event_key()

        def end(connection: Connection) -> None:
            if not rows.write(connection, row["id"], lease.epoch, {**NO_CANARY, **(values or {})}):
                raise lease.lost()
            if row["canary_revision"] is not None:
                rows.remove_revision(connection, row["id"], row["canary_revision"])
            if event is not None:
                rows.record_event(connection, row, actor=leases.actor(), key=key, **event)

        lease.commit(end)

    # What all of them need

    def clean_up_deadline(self) -> float:
        return time.monotonic() + self.deployer.clean_up_seconds

    def observe(self, service: Service) -> Observation:
        return observe(self.deployer, service)

    def service(self, row: RowMapping | Mapping[str, Any]) -> Service:
        return Service(row, self.deployer)

    def operation(self, lease: Lease, deadline: float, row: RowMapping | Mapping[str, Any] | None = None) -> Operation:
        """An operation on the service as its row is now, or as ``row`` has it."""
        return Operation(
            self.service(lease.read() if row is None else row), lease, deadline, self.progress, self.reveal
        )

    def reveal(self, config: AnyConfig) -> AnyConfig:
        """The configuration with its secrets in place; the model's URI stays as it is, since everybody is shown it."""
        values = configs.clear(config)
        uri = values.pop("model_uri", "")
        if configs.references(values):
            stored = values
            values = self.read(lambda connection: self.secrets.reveal(connection, stored))
        return parse(type(config), {**values, "model_uri": uri}, "the configuration")

    def read(self, query: Callable[[Connection], Result]) -> Result:
        """Ask the database, and wait for one that went away."""

        def ask() -> Result:
            with self.database.read() as connection:
                return query(connection)

        return patiently(ask, self.progress)

    def check_platform(self, row: RowMapping) -> None:
        """Raises PlatformUnavailableError unless the service lives where this deployer acts."""
        here = self.deployer.do_identify()
        if row["platform_id"] not in (None, here.id):
            raise PlatformUnavailableError(
                f"The service {row['service_name']!r} lives on {row['platform_name']}, not on {here.name}.",
                f"Act on it from {row['platform_name']}.",
            )

    def differences(self, row: RowMapping | Mapping[str, Any], config: ServiceConfig, source: ModelSource) -> list[str]:
        """What is otherwise than in the row, in words that show no secret."""
        try:
            stored = self.reveal(self.service(row).config)
        except StackkitError:
            return ["its stored configuration cannot be read"]
        return differences(stored, ModelSource(**row["source"]), self.reveal(config), source)

    def same(self, row: RowMapping | Mapping[str, Any], config: ServiceConfig, source: ModelSource) -> bool:
        return not self.differences(row, config, source)


def named_columns(config: ServiceConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in NAMED}


def without_completion(row: RowMapping | Mapping[str, Any]) -> dict[str, Any]:
    """The row's details for a server that goes down: its next start is to be completed again."""
    return {name: value for name, value in row["details"].items() if name != COMPLETED}


def reason(error: BaseException) -> str:
    """Why something failed, as the history tells it."""
    if isinstance(error, StackkitError):
        return error.message
    return "it was cancelled" if isinstance(error, KeyboardInterrupt) else repr(error)
