"""The one lifecycle: what moves a model server from what it is to what was asked for.

Every operation has the same shape. The intent is written first, under a lease. Then the flavor acts; what it makes
has names derived from the service's UUID, and what a platform hands back is checkpointed as it comes. The lifecycle
alone waits, times out and cancels. The outcome is written last, with the platform's own words on failure; a start
that failed leaves nothing running. Whoever is killed half-way leaves a row that says what was meant, and asking
again finishes it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, RowMapping

from ..errors import (
    AlreadyExistsError,
    DeploymentError,
    InvalidConfigError,
    LeaseLostError,
    NotFoundError,
    PlatformUnavailableError,
    StackkitError,
    StoreError,
)
from ..stack import SecretStore, configs
from ..stack.configs import parse, plain
from ..store import services as rows
from ..store.outages import patiently
from . import leases
from .abilities import FoundServer, UpdatesInPlace
from .comparison import differences
from .config import ModelSource, Observation, PlatformIdentity, ServiceConfig, ServiceState, Target
from .leases import Lease
from .operation import Operation, Progress, silent
from .service import Service
from .waiting import Verb, await_arrival, observe

if TYPE_CHECKING:
    from .base import BaseModelDeployer

_NAMED = ("model_name", "model_version", "pipeline_name", "pipeline_step_name", "run_name")
_CLEAN_UP_SECONDS = 30.0
_RESTORE_SECONDS = 300.0

Result = TypeVar("Result")


class Lifecycle:
    """One operation on a service of a deployer."""

    def __init__(self, deployer: BaseModelDeployer, progress: Progress = silent) -> None:
        self._deployer = deployer
        self._database = deployer.database
        self._secrets = SecretStore(deployer.database)
        self._progress = progress
        self._hold = ExitStack()

    # The verbs

    def deploy(self, config: ServiceConfig, *, replace: bool, timeout: float) -> str:
        """Have the service that ``config`` names serve what it says; return its UUID."""
        deadline = time.monotonic() + timeout
        platform = self._deployer.do_identify()
        identity = config.identity(self._deployer.id)
        with self._resolved(config) as source:
            while True:
                lease = self._insert(config, source, identity, platform)
                if lease is not None:
                    with lease:
                        return self._bring_up(lease, deadline, wait=timeout > 0)
                row = self._read(lambda connection: rows.get_by_identity(connection, identity))
                if row is None:
                    continue  # deleted in between
                if self._same(row, config, source):
                    finished = self._start_same(row, config, source, deadline, wait=timeout > 0)
                elif replace:
                    finished = self._replace(row["id"], config, source, deadline, wait=timeout > 0)
                else:
                    raise AlreadyExistsError(
                        f"The service {row['service_name']!r} ({row['id']}) has another configuration: "
                        f"{', '.join(self._differences(row, config, source))}.",
                        "Replace it (replace=True, or --replace), or give the new one a service_name of its own.",
                    )
                if finished:
                    return str(row["id"])

    def update(self, service_id: str, changes: Mapping[str, Any], *, timeout: float) -> None:
        """Give the service a new revision: its stored configuration with ``changes``. Raises NotFoundError."""
        deadline = time.monotonic() + timeout
        row = self._read(lambda connection: rows.get(connection, service_id))
        if row is None:
            raise _not_found(service_id)
        config = parse(
            self._deployer.service_config_class,
            {**configs.clear(self._service(row).config), **changes},
            f"a {row['flavor']} service",
        )
        if config.identity(self._deployer.id) != row["identity"]:
            raise InvalidConfigError(
                f"An update cannot give the service {row['service_name']!r} another name.",
                "Deploy a service of its own, and delete this one.",
            )
        with self._resolved(config) as source:
            if not self._replace(service_id, config, source, deadline, wait=timeout > 0):
                raise _not_found(service_id)

    def rollback(self, service_id: str, number: int | None, *, timeout: float) -> None:
        """Have an earlier revision's configuration and bytes serve again, as a new revision.

        ``number`` None means the one before the present one. Raises NotFoundError.
        """
        deadline = time.monotonic() + timeout
        with self._database.read() as connection:
            row = rows.get(connection, service_id)
            known = {each["number"]: each for each in rows.revisions(connection, service_id)}
        if row is None:
            raise _not_found(service_id)
        wanted = known.get(row["revision"] - 1 if number is None else number)
        if wanted is None:
            raise NotFoundError(
                f"The service {row['service_name']!r} has no such revision to go back to.",
                f"It has: {', '.join(map(str, known))}.",
            )
        config = self._service({**row, "config": wanted["config"]}).config
        if not self._replace(service_id, config, ModelSource(**wanted["source"]), deadline, wait=timeout > 0):
            raise _not_found(service_id)

    def adopt(self, found: FoundServer) -> None:
        """Give a server that runs and that no row names its row back; what it is, the next look tells.

        Raises AlreadyExistsError when another service bears its name by now.
        """
        config = parse(self._deployer.service_config_class, found.config, "the configuration kept beside the server")
        values = {
            **self._columns(config, found.source, config.identity(self._deployer.id), self._deployer.do_identify()),
            "id": found.service_id,
            "config": dict(found.config),
            "details": dict(found.details),
            "revision": found.revision,
        }
        owner = leases.new_owner()
        try:
            with self._database.write() as connection:
                if not rows.insert_service(connection, values, owner):
                    raise AlreadyExistsError(
                        f"There is a service {config.display_name!r} already.",
                        "Delete that first, if the server that runs is the one to keep.",
                    )
                rows.record_event(connection, values, actor=leases.actor(), action="adopt", outcome="done")
                rows.release_lease(connection, found.service_id, 1)
        finally:
            leases.retire(owner)

    def start(self, service_id: str, *, timeout: float) -> None:
        """Start the service; a no-op when it runs. Raises NotFoundError."""
        deadline = time.monotonic() + timeout
        with self._take(service_id, deadline) as lease:
            self._check_platform(lease.read())
            self._converge_up(lease, deadline, wait=timeout > 0)

    def stop(self, service_id: str, *, timeout: float) -> None:
        """Stop the service; a no-op when nothing of it runs. Raises NotFoundError."""
        deadline = time.monotonic() + timeout
        with self._take(service_id, deadline) as lease:
            row = lease.read()
            self._check_platform(row)
            if self._observe(self._service(row)).state is ServiceState.INACTIVE and row["target"] == Target.INACTIVE:
                lease.write({"state": ServiceState.INACTIVE, "message": "", "prediction_url": None})
                return
            lease.write(
                {"target": Target.INACTIVE, "state": ServiceState.PENDING_SHUTDOWN},
                {"action": "stop", "outcome": "begun"},
            )
            self._bring_down(lease, deadline, self._deployer.do_stop, "stop")
            lease.write(
                {"state": ServiceState.INACTIVE, "message": "", "prediction_url": None},
                {"action": "stop", "outcome": "done", "state": ServiceState.INACTIVE},
            )

    def delete(self, service_id: str, *, timeout: float) -> None:
        """Remove the service and its row, the row only after the platform confirms. Raises NotFoundError."""
        deadline = time.monotonic() + timeout
        with self._take(service_id, deadline) as lease:
            row = lease.read()
            self._check_platform(row)
            lease.write(
                {"target": Target.DELETED, "state": ServiceState.PENDING_SHUTDOWN},
                {"action": "delete", "outcome": "begun"},
            )
            self._bring_down(lease, deadline, self._deployer.do_stop, "delete")
            self._bring_down(lease, deadline, self._deployer.do_delete, "delete")
            lease.commit(lambda connection: self._remove(connection, lease))
        self._sweep()

    # Bringing up

    def _insert(
        self, config: ServiceConfig, source: ModelSource, identity: str, platform: PlatformIdentity
    ) -> Lease | None:
        """The intent of a new service, as a row that is leased to us; None when there is one already."""
        owner = leases.new_owner()

        def insert() -> str | None:
            service_id = str(uuid.uuid4())
            with self._database.write() as connection:
                stored = self._secrets.conceal(connection, plain(config), service_id)
                values = {
                    **self._columns(config, source, identity, platform),
                    "id": service_id,
                    "config": stored,
                    "details": {},
                }
                if rows.insert_service(connection, values, owner):
                    rows.record_event(connection, values, actor=leases.actor(), action="deploy", outcome="begun")
                    return service_id
                self._secrets.forget(connection, service_id)
                row = rows.get_by_identity(connection, identity)
                # it is ours when the database went away after a commit and before it could say so
                return row["id"] if row is not None and row["lease_owner"] == owner else None

        lease = None
        try:
            service_id = patiently(insert, self._progress)
            if service_id is not None:
                lease = Lease(self._database, service_id, 1, owner, self._progress)
                self._hold.close()
            return lease
        finally:
            if lease is None:
                leases.retire(owner)

    def _columns(
        self, config: ServiceConfig, source: ModelSource, identity: str, platform: PlatformIdentity
    ) -> dict[str, Any]:
        return {
            "identity": identity,
            "deployer_id": self._deployer.id,
            "flavor": self._deployer.record.flavor,
            "service_name": config.display_name,
            **_named_columns(config),
            "source": source.as_dict(),
            "target": Target.ACTIVE,
            "state": ServiceState.PENDING_STARTUP,
            "message": "",
            "platform_id": platform.id,
            "platform_name": platform.name,
        }

    def _start_same(
        self, row: RowMapping, config: ServiceConfig, source: ModelSource, deadline: float, *, wait: bool
    ) -> bool:
        """Have the service that is there run; False when it is gone or another by the time it is our turn."""
        self._check_platform(row)
        if self._serves(row, config, source):
            return True
        lease = leases.take(
            self._database,
            row["id"],
            deadline,
            done=lambda now: self._serves(now, config, source),
            progress=self._progress,
        )
        if lease is None:
            return self._read(lambda connection: rows.get(connection, row["id"])) is not None
        with lease:
            if not self._same(lease.read(), config, source):
                return False
            self._hold.close()
            self._label(lease, config)
            self._converge_up(lease, deadline, wait=wait)
            return True

    def _serves(self, row: RowMapping, config: ServiceConfig, source: ModelSource) -> bool:
        """Whether the row's server is up with just this configuration, so that there is nothing to do."""
        if row["leased"] or row["target"] != Target.ACTIVE or row["state"] != ServiceState.ACTIVE:
            return False
        if not self._same(row, config, source) or row["run_name"] != config.run_name:
            return False
        observation = self._observe(self._service(row))
        return observation.state is ServiceState.ACTIVE and observation.revision in (None, row["revision"])

    def _converge_up(self, lease: Lease, deadline: float, *, wait: bool) -> None:
        """Have the newest revision run: nothing to do where it does, a fresh start where anything else does."""
        row = lease.read()
        service = self._service(row)
        observation = self._observe(service)
        current = observation.revision in (None, row["revision"])
        if observation.state is ServiceState.ACTIVE and current:
            lease.write({"target": Target.ACTIVE, **self._active(service, observation)})
            return
        lease.write(
            {"target": Target.ACTIVE, "state": ServiceState.PENDING_STARTUP, "message": "", "prediction_url": None},
            {"action": "start", "outcome": "begun"},
        )
        if observation.state is not ServiceState.INACTIVE and not (
            observation.state is ServiceState.PENDING_STARTUP and current
        ):
            self._bring_down(lease, deadline, self._deployer.do_stop, "restart")
        self._bring_up(lease, deadline, wait=wait)

    def _replace(
        self, service_id: str, config: ServiceConfig, source: ModelSource, deadline: float, *, wait: bool
    ) -> bool:
        """Give the service a new revision and have that run; False when the service is gone."""
        lease = leases.take(self._database, service_id, deadline, progress=self._progress)
        if lease is None:
            return False
        with lease:
            row = lease.read()
            self._check_platform(row)
            if self._same(row, config, source):
                self._hold.close()
                self._label(lease, config)
                self._converge_up(lease, deadline, wait=wait)
                return True
            # the old revision goes on serving while the new one is made ready, and stays if that fails
            new = {"config": plain(config), "source": source.as_dict(), "revision": row["revision"] + 1}
            candidate = Service({**row, **new}, self._deployer)
            self._deployer.do_prepare(Operation(candidate, lease, deadline, self._progress, self._reveal))
            was_serving = self._observe(self._service(row)).state is ServiceState.ACTIVE
            rolls = was_serving and self._can_update(self._service(row).config, config)
            self._revise(lease, row, config, source, keeps_serving=rolls)
            try:
                if rolls:
                    self._roll(lease, deadline, wait=wait)
                else:
                    self._bring_down(lease, deadline, self._deployer.do_stop, "replace")
                    self._bring_up(lease, deadline, wait=wait, prepared=True)
            except LeaseLostError:
                raise
            except BaseException as error:
                if was_serving:
                    self._restore(lease, row, error)
                raise
        return True

    def _can_update(self, before: ServiceConfig, after: ServiceConfig) -> bool:
        return isinstance(self._deployer, UpdatesInPlace) and self._deployer.can_update(
            self._reveal(before), self._reveal(after)
        )

    def _roll(self, lease: Lease, deadline: float, *, wait: bool) -> None:
        """Have the running server go over to the newest revision; until then, and if that fails, it serves the old."""
        operation = self._operation(lease, deadline)
        service = operation.service
        self._progress(f"updating {service.name}")
        try:
            if isinstance(self._deployer, UpdatesInPlace):
                self._deployer.do_update(operation)
            if wait:
                self._await_active(lease, operation, "update")
        except LeaseLostError:
            raise
        except BaseException:
            if self._observe(service).update_error is None:
                # nothing says that it was given up: it could still go over when nobody expects it any more
                self._bring_down(lease, time.monotonic() + _CLEAN_UP_SECONDS, self._deployer.do_stop, "update")
            raise

    def _restore(self, lease: Lease, row: RowMapping, error: BaseException) -> None:
        """Have the revision serve again that a failed replacement took the place of, and write down why."""
        reason = _reason(error)
        failed, number = row["revision"] + 1, row["revision"]
        message = f"The update to revision {failed} failed, and revision {number} serves again: {reason}"
        restored = {name: row[name] for name in (*_NAMED, "config", "source", "revision")}

        def restore(connection: Connection) -> None:
            if not rows.write(connection, row["id"], lease.epoch, restored):
                raise lease.lost()
            rows.remove_revision(connection, row["id"], failed)
            event = {"action": "restore", "outcome": "begun", "message": message}
            rows.record_event(connection, row, actor=leases.actor(), **event)

        lease.commit(restore)
        self._converge_up(lease, time.monotonic() + _RESTORE_SECONDS, wait=True)

    def _revise(
        self, lease: Lease, row: RowMapping, config: ServiceConfig, source: ModelSource, *, keeps_serving: bool
    ) -> None:
        number = row["revision"] + 1
        gone = {"state": ServiceState.PENDING_STARTUP, "message": "", "prediction_url": None}
        changed = ", ".join(self._differences(row, config, source))

        def revise(connection: Connection) -> None:
            written = rows.get(connection, row["id"])
            if written is not None and written["lease_epoch"] == lease.epoch and written["revision"] == number:
                return  # the database went away after the commit and before it could say so
            values = {
                **_named_columns(config),
                "config": self._secrets.conceal(connection, plain(config), row["id"], number),
                "source": source.as_dict(),
                "revision": number,
                "target": Target.ACTIVE,
            }
            if not rows.write(connection, row["id"], lease.epoch, values if keeps_serving else {**values, **gone}):
                raise lease.lost()
            rows.insert_revision(connection, {"id": row["id"], **values})
            event = {"action": "replace", "outcome": "begun", "message": f"revision {number}: {changed}"}
            rows.record_event(connection, row, actor=leases.actor(), **event)

        lease.commit(revise)
        self._hold.close()

    def _bring_up(self, lease: Lease, deadline: float, *, wait: bool, prepared: bool = False) -> str:
        """Prepare and start the newest revision and wait until it answers; whatever fails leaves nothing running."""
        operation = self._operation(lease, deadline)
        service = operation.service
        try:
            if not prepared:
                self._progress(f"preparing {service.name}")
                self._deployer.do_prepare(operation)
            self._progress(f"starting {service.name}")
            self._deployer.do_start(operation)
            if wait:
                self._await_active(lease, operation, "start")
        except LeaseLostError:
            raise  # whoever has taken over decides what runs
        except BaseException as error:
            self._give_up(lease, operation, error)
            if isinstance(error, StackkitError) or not isinstance(error, Exception):
                raise
            raise DeploymentError(f"The service {service.name!r} did not start: {error!r}.") from error
        return service.id

    def _give_up(self, lease: Lease, operation: Operation, error: BaseException) -> None:
        """Stop what a failed or cancelled start has left, and write down why."""
        message = "Its start was cancelled." if isinstance(error, KeyboardInterrupt) else _reason(error)
        operation.deadline = time.monotonic() + _CLEAN_UP_SECONDS
        try:
            self._deployer.do_stop(operation)
            await_arrival(self._deployer, lease, operation, "stop", again=self._deployer.do_stop)
        except LeaseLostError:
            return
        except Exception as second:
            message += f" And it could not be cleaned up: {second}"
        lease.write(
            {"state": ServiceState.ERROR, "message": message, "prediction_url": None},
            {"action": "start", "outcome": "failed", "state": ServiceState.ERROR, "message": message},
        )

    # Bringing down

    def _bring_down(self, lease: Lease, deadline: float, act: Callable[[Operation], None], action: str) -> None:
        operation = self._operation(lease, max(deadline, time.monotonic() + 1.0))
        self._progress(f"stopping {operation.service.name}")
        try:
            act(operation)
            await_arrival(self._deployer, lease, operation, "stop", again=act)
        except LeaseLostError:
            raise
        except BaseException as error:
            message = f"Its {action} was cancelled." if isinstance(error, KeyboardInterrupt) else _reason(error)
            lease.write({"message": message}, {"action": action, "outcome": "failed", "message": message})
            if isinstance(error, StackkitError) or not isinstance(error, Exception):
                raise
            raise DeploymentError(f"The service {operation.service.name!r} did not stop: {error!r}.") from error

    def _remove(self, connection: Connection, lease: Lease) -> None:
        row = rows.get(connection, lease.service_id)
        if row is None:
            return  # the database went away after the commit and before it could say so
        if not rows.remove(connection, lease.service_id, lease.epoch):
            raise lease.lost()
        rows.record_event(connection, row, actor=leases.actor(), action="delete", outcome="done")
        self._secrets.forget(connection, lease.service_id)

    # The models' bytes

    @contextmanager
    def _resolved(self, config: ServiceConfig) -> Iterator[ModelSource]:
        """The bytes that ``config`` asks for, out of every sweeper's reach until a row names them."""
        try:
            with self._hold:
                self._hold.enter_context(self._deployer.do_hold())
                yield self._deployer.do_resolve(self._reveal(config), self._progress)
        except StoreError:
            raise
        except StackkitError:
            with suppress(StackkitError):  # what was refused, or failed, is to be told, and not what came after it
                self._sweep()
            raise

    def _sweep(self) -> None:
        self._deployer.do_sweep(lambda digests: self._read(lambda connection: rows.digests_named(connection, digests)))

    # What both need

    def _await_active(self, lease: Lease, operation: Operation, verb: Verb) -> None:
        """Wait until the newest revision answers, and write that down. Raises as ``await_arrival`` does."""
        observation = await_arrival(self._deployer, lease, operation, verb)
        lease.write(
            self._active(operation.service, observation),
            {"action": verb, "outcome": "done", "state": ServiceState.ACTIVE},
        )

    def _observe(self, service: Service) -> Observation:
        return observe(self._deployer, service)

    def _active(self, service: Service, observation: Observation) -> dict[str, Any]:
        return {
            "state": ServiceState.ACTIVE,
            "message": "",
            "prediction_url": observation.prediction_url,
            "details": {**service.status.details, **observation.details},
            "unknown_since": None,
            "unknown_reason": None,
        }

    def _take(self, service_id: str, deadline: float) -> Lease:
        lease = leases.take(self._database, service_id, deadline, progress=self._progress)
        if lease is None:
            raise _not_found(service_id)
        return lease

    def _service(self, row: RowMapping | Mapping[str, Any]) -> Service:
        return Service(row, self._deployer)

    def _operation(self, lease: Lease, deadline: float) -> Operation:
        return Operation(self._service(lease.read()), lease, deadline, self._progress, self._reveal)

    def _reveal(self, config: ServiceConfig) -> ServiceConfig:
        """The configuration with its secrets in place; the model's URI stays as it is, since everybody is shown it."""
        values = configs.clear(config)
        uri = values.pop("model_uri", "")
        if configs.references(values):
            stored = values
            values = self._read(lambda connection: self._secrets.reveal(connection, stored))
        return parse(type(config), {**values, "model_uri": uri}, "the configuration")

    def _read(self, query: Callable[[Connection], Result]) -> Result:
        """Ask the database, and wait for one that went away."""

        def ask() -> Result:
            with self._database.read() as connection:
                return query(connection)

        return patiently(ask, self._progress)

    def _check_platform(self, row: RowMapping) -> None:
        here = self._deployer.do_identify()
        if row["platform_id"] not in (None, here.id):
            raise PlatformUnavailableError(
                f"The service {row['service_name']!r} lives on {row['platform_name']}, not on {here.name}.",
                f"Act on it from {row['platform_name']}.",
            )

    def _label(self, lease: Lease, config: ServiceConfig) -> None:
        row = lease.read()
        if row["run_name"] != config.run_name:
            lease.write({"run_name": config.run_name, "config": {**row["config"], "run_name": config.run_name}})

    def _same(self, row: RowMapping, config: ServiceConfig, source: ModelSource) -> bool:
        return not self._differences(row, config, source)

    def _differences(self, row: RowMapping, config: ServiceConfig, source: ModelSource) -> list[str]:
        """What is otherwise than in the row, in words that show no secret."""
        try:
            stored = self._reveal(self._service(row).config)
        except StackkitError:
            return ["its stored configuration cannot be read"]
        return differences(stored, ModelSource(**row["source"]), self._reveal(config), source)


def _named_columns(config: ServiceConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in _NAMED}


def _reason(error: BaseException) -> str:
    if isinstance(error, StackkitError):
        return error.message
    return "it was cancelled" if isinstance(error, KeyboardInterrupt) else repr(error)


def _not_found(service_id: str) -> NotFoundError:
    return NotFoundError(
        f"There is no model server {service_id!r}.", "See what there is: stackkit model-deployer models list."
    )
