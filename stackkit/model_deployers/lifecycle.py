"""The one lifecycle: the verbs, each of which moves a model server from what it is to what was asked for.

Every operation has the same shape. The intent is written first, under a lease. Then the flavor acts; what it makes
has names derived from the service's UUID, and what a platform hands back is checkpointed as it comes. The lifecycle
alone waits, times out and cancels. The outcome is written last, with the platform's own words on failure; a start
that failed leaves nothing running. Whoever is killed half-way leaves a row that says what was meant, and asking
again finishes it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, RowMapping

from ..errors import (
    AlreadyExistsError,
    InvalidConfigError,
    NotFoundError,
    NotSupportedError,
    StackkitError,
    StoreError,
)
from ..stack import configs
from ..stack.configs import parse, plain
from ..store import services as rows
from ..store.outages import patiently
from ..store.tables import services
from . import leases
from .abilities import FoundServer, SplitsTraffic
from .canaries import Canaries, refuse_beside_canary
from .config import SERVING, ModelSource, PlatformIdentity, ServiceConfig, ServiceState, Target
from .convergence import Convergence, named_columns, without_completion
from .leases import Lease
from .progress import Progress, silent
from .replacement import Replacement
from .service import Service

if TYPE_CHECKING:
    from .base import BaseModelDeployer


class Lifecycle:
    """One operation on a service of a deployer.

    With ``since``, a service's epoch, nothing is done to one that somebody has worked on after that: starting,
    stopping, deleting, promoting and aborting raise LeaseLostError instead.
    """

    def __init__(self, deployer: BaseModelDeployer, progress: Progress = silent, *, since: int | None = None) -> None:
        self._deployer = deployer
        self._since = since
        self._database = deployer.database
        self._moves = Convergence(deployer, progress)
        self._secrets = self._moves.secrets
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
                        return self._moves.bring_up(lease, deadline, wait=timeout > 0)
                row = self._moves.read(lambda connection: rows.get_by_identity(connection, identity))
                if row is None:
                    continue  # deleted in between
                if self._moves.same(row, config, source):
                    finished = self._start_same(row, config, source, deadline, wait=timeout > 0)
                elif replace:
                    finished = self._replace(row["id"], config, source, deadline, wait=timeout > 0)
                else:
                    raise AlreadyExistsError(
                        f"The service {row['service_name']!r} ({row['id']}) has another configuration: "
                        f"{', '.join(self._moves.differences(row, config, source))}.",
                        "Replace it (replace=True, or --replace), or give the new one a service_name of its own.",
                    )
                if finished:
                    return str(row["id"])

    def update(self, service_id: str, changes: Mapping[str, Any], *, timeout: float) -> None:
        """Give the service a new revision: its stored configuration with ``changes``. Raises NotFoundError."""
        deadline = time.monotonic() + timeout
        while True:
            row = self._moves.read(lambda connection: rows.get(connection, service_id))
            if row is None:
                raise _not_found(service_id)
            refuse_beside_canary(row)
            config = self._changed(row, changes)
            with self._resolved(config) as source:
                if self._replace(service_id, config, source, deadline, wait=timeout > 0, changed_from=row):
                    return

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
        config = self._moves.service({**row, "config": wanted["config"]}).config
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
            "lease_epoch": found.epoch,  # what is made from now on is later than all that is there
        }
        owner = leases.new_owner()
        try:
            with self._database.write() as connection:
                if not rows.insert_service(connection, values, owner):
                    if rows.get(connection, found.service_id) is not None:
                        return  # somebody else has adopted it meanwhile
                    raise AlreadyExistsError(
                        f"There is a service {config.display_name!r} already.",
                        "Delete that first, if the server that runs is the one to keep.",
                    )
                rows.record_event(connection, values, actor=leases.actor(), action="adopt", outcome="done")
                rows.release_lease(connection, found.service_id, found.epoch)
        finally:
            leases.retire(owner)

    def start(self, service_id: str, *, timeout: float) -> None:
        """Start the service; a no-op when it runs. Raises NotFoundError."""
        deadline = time.monotonic() + timeout
        with self._take(service_id, deadline) as lease:
            self._moves.check_platform(lease.read())
            self._moves.converge_up(lease, deadline, wait=timeout > 0)

    def stop(self, service_id: str, *, timeout: float) -> None:
        """Stop the service; a no-op when nothing of it runs. Raises NotFoundError."""
        deadline = time.monotonic() + timeout
        with self._take(service_id, deadline) as lease:
            row = lease.read()
            self._moves.check_platform(row)
            stopped = {"state": ServiceState.INACTIVE, "message": "", "prediction_url": None}
            seen = self._moves.observe(self._moves.service(row))
            if seen.state is ServiceState.INACTIVE and row["target"] == Target.INACTIVE:
                self._moves.end_canary(lease, stopped)
            else:
                going = {"target": Target.INACTIVE, "state": ServiceState.PENDING_SHUTDOWN}
                lease.write({**going, "details": without_completion(row)}, {"action": "stop", "outcome": "begun"})
                self._moves.bring_down(lease, deadline, self._deployer.do_stop, "stop")
                done = {"action": "stop", "outcome": "done", "state": ServiceState.INACTIVE}
                self._moves.end_canary(lease, stopped, done)
        if row["canary_revision"] is not None:
            self._sweep()

    def delete(self, service_id: str, *, timeout: float) -> None:
        """Remove the service and its row, the row only after the platform confirms. Raises NotFoundError."""
        deadline = time.monotonic() + timeout
        with self._take(service_id, deadline) as lease:
            row = lease.read()
            self._moves.check_platform(row)
            lease.write(
                {"target": Target.DELETED, "state": ServiceState.PENDING_SHUTDOWN},
                {"action": "delete", "outcome": "begun"},
            )
            self._moves.bring_down(lease, deadline, self._deployer.do_stop, "delete")
            self._moves.bring_down(lease, deadline, self._deployer.do_delete, "delete")
            lease.commit(lambda connection: self._remove(connection, lease))
        self._sweep()

    def split(self, service_id: str, changes: Mapping[str, Any], percent: int, *, timeout: float) -> None:
        """Have a revision with ``changes`` answer a part of the requests; without any, change the canary's part.

        Raises NotFoundError.
        """
        deadline = time.monotonic() + timeout
        while True:
            row = self._moves.read(lambda connection: rows.get(connection, service_id))
            if row is None:
                raise _not_found(service_id)
            canary = self._canaries.stored(row)
            config = self._changed(row if canary is None else canary, changes)
            self._canaries.check(row, config, percent)
            if canary is not None and not changes:
                with self._take(service_id, deadline) as lease:
                    self._moves.check_platform(lease.read())
                    self._canaries.share(lease, percent, deadline, wait=timeout > 0)
                return
            with self._resolved(config) as source, self._take(service_id, deadline) as lease:
                now = lease.read()
                self._moves.check_platform(now)
                if _has_same_configuration(now, row):
                    named, wait = self._hold.close, timeout > 0
                    self._canaries.begin(lease, config, source, percent, deadline, wait=wait, named=named)
                    return

    def promote(self, service_id: str, *, timeout: float) -> None:
        """Have the service's canary serve alone. Raises NotFoundError."""
        deadline = time.monotonic() + timeout
        with self._take(service_id, deadline) as lease:
            self._moves.check_platform(lease.read())
            self._canaries.promote(lease, deadline, wait=timeout > 0)

    def abort(self, service_id: str, *, timeout: float) -> None:
        """Have the service's stable revision serve alone again. Raises NotFoundError."""
        deadline = time.monotonic() + timeout
        with self._take(service_id, deadline) as lease:
            self._moves.check_platform(lease.read())
            self._canaries.abort(lease, deadline)
        self._sweep()

    @contextmanager
    def previewed(self, config: ServiceConfig) -> Iterator[tuple[Service, ServiceConfig]]:
        """The service as ``deploy`` with ``replace`` would make it, and its configuration with the secrets in place.

        Nothing is written down.
        """
        identity, platform = config.identity(self._deployer.id), self._deployer.do_identify()
        with self.borrowed(config) as source:
            row = self._moves.read(lambda connection: rows.get_by_identity(connection, identity))
            new = {"config": plain(config), "source": source.as_dict()}
            if row is None:
                unknown = dict.fromkeys(services.columns.keys())
                fresh = {"id": str(uuid.uuid4()), "details": {}, "revision": 1, **new}
                wanted = {**unknown, **self._columns(config, source, identity, platform), **fresh}
            elif self._moves.same(row, config, source):
                wanted = dict(row)
            else:
                refuse_beside_canary(row)
                wanted = {**row, **new, "revision": row["revision"] + 1}
            yield self._moves.service(wanted), self._moves.reveal(config)

    @contextmanager
    def borrowed(self, config: ServiceConfig) -> Iterator[ModelSource]:
        """The bytes that ``config`` asks for, until the end: what was kept of them alone goes then."""
        with self._resolved(config) as source:
            yield source
        self._sweep()

    # What they need

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
            **named_columns(config),
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
        self._moves.check_platform(row)
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
            return self._moves.read(lambda connection: rows.get(connection, row["id"])) is not None
        with lease:
            if not self._moves.same(lease.read(), config, source):
                return False
            self._hold.close()
            self._label(lease, config)
            self._moves.converge_up(lease, deadline, wait=wait)
            return True

    def _serves(self, row: RowMapping, config: ServiceConfig, source: ModelSource) -> bool:
        """Whether the row's server is up with just this configuration, so that there is nothing to do."""
        if row["leased"] or row["target"] != Target.ACTIVE or row["state"] not in SERVING:
            return False
        if not self._moves.same(row, config, source) or row["run_name"] != config.run_name:
            return False
        service = self._moves.service(row)
        seen = self._moves.observe(service)
        return seen.state in SERVING and seen.revision in (None, row["revision"]) and service.is_complete

    def _replace(
        self,
        service_id: str,
        config: ServiceConfig,
        source: ModelSource,
        deadline: float,
        *,
        wait: bool,
        changed_from: RowMapping | None = None,
    ) -> bool:
        """Give the service a new revision and have that run; False when the service is gone.

        False too when its configuration is no more that of ``changed_from``, of which ``config`` was made: to serve
        that would undo what somebody else has changed meanwhile.
        """
        lease = leases.take(self._database, service_id, deadline, progress=self._progress)
        if lease is None:
            return False
        with lease:
            row = lease.read()
            self._moves.check_platform(row)
            if changed_from is not None and not _has_same_configuration(row, changed_from):
                return False
            refuse_beside_canary(row)
            if self._moves.same(row, config, source):
                self._hold.close()
                self._label(lease, config)
                self._moves.converge_up(lease, deadline, wait=wait)
            else:
                Replacement(self._moves).replace(lease, config, source, deadline, wait=wait, named=self._hold.close)
        return True

    def _changed(self, row: RowMapping | Mapping[str, Any], changes: Mapping[str, Any]) -> ServiceConfig:
        """The row's configuration with ``changes``. Raises InvalidConfigError."""
        kept = configs.clear(self._moves.service(row).config)
        found = row["source"]["uri"]
        if Path(found).is_absolute():  # the path that was given may lead elsewhere from where its caller works now
            kept["model_uri"] = found
        config = parse(self._deployer.service_config_class, {**kept, **changes}, f"a {row['flavor']} service")
        if config.identity(self._deployer.id) != row["identity"]:
            raise InvalidConfigError(
                f"An update cannot give the service {row['service_name']!r} another name.",
                "Deploy a service of its own, and delete this one.",
            )
        return config

    @property
    def _canaries(self) -> Canaries:
        if not isinstance(self._deployer, SplitsTraffic):
            raise NotSupportedError(f"The flavor {self._deployer.record.flavor!r} cannot split a server's requests.")
        return Canaries(self._moves, self._deployer)

    def _take(self, service_id: str, deadline: float) -> Lease:
        lease = leases.take(self._database, service_id, deadline, since=self._since, progress=self._progress)
        if lease is None:
            raise _not_found(service_id)
        return lease

    def _label(self, lease: Lease, config: ServiceConfig) -> None:
        row = lease.read()
        if row["run_name"] != config.run_name:
            lease.write({"run_name": config.run_name, "config": {**row["config"], "run_name": config.run_name}})

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
                yield self._deployer.do_resolve(self._moves.reveal(config), self._progress)
        except StoreError:
            raise
        except StackkitError:
            with suppress(StackkitError):  # what was refused, or failed, is to be told, and not what came after it
                self._sweep()
            raise

    def _sweep(self) -> None:
        self._deployer.do_sweep(
            lambda digests: self._moves.read(lambda connection: rows.digests_named(connection, digests))
        )


def _has_same_configuration(row: RowMapping, seen: RowMapping) -> bool:
    """Whether nobody has changed the service's configuration since its row was ``seen``."""
    return all(row[name] == seen[name] for name in ("revision", "run_name", "canary_revision"))


def _not_found(service_id: str) -> NotFoundError:
    return NotFoundError(
        f"There is no model server {service_id!r}.", "See what there is: stackkit model-deployer models list."
    )
