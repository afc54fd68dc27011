"""Canaries: a newer revision beside the one that serves, until it is promoted to its place or aborted.

The row names the canary and its share before anything is done, and stays the stable revision's: what is asked for is
told by the share, which is 100 while the canary is promoted and 0 while it is aborted. So whoever is killed half-way
leaves a row that tells which, and asking again finishes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping

from ..errors import DeploymentError, InUseError, InvalidConfigError, LeaseLostError, NotFoundError, NotSupportedError
from ..stack.configs import plain
from ..store import services as rows
from . import leases
from .abilities import SplitsTraffic
from .config import ABORTED, PROMOTED, SERVING, ModelSource, ServiceConfig, ServiceState
from .convergence import NO_CANARY, Convergence, named_columns, reason, without_completion
from .leases import Lease
from .waiting import await_arrival


def refuse_beside_canary(row: RowMapping) -> None:
    """Raises InUseError, with the ways out, when the service has a canary."""
    if row["canary_revision"] is not None:
        command = "stackkit model-deployer models"
        raise InUseError(
            f"The service {row['service_name']!r} has a canary: revision {row['canary_revision']} beside "
            f"revision {row['revision']}.",
            f"Promote it ({command} promote {row['id'][:8]}) or abort it ({command} abort {row['id'][:8]}) first.",
        )


class Canaries:
    """Splits the requests of a deployer's services, which must be able to."""

    def __init__(self, moves: Convergence, deployer: SplitsTraffic) -> None:
        self._moves = moves
        self._deployer = deployer

    def check(self, row: RowMapping, config: ServiceConfig, percent: int) -> None:
        """Refuse a canary of ``config`` with that share before anything is done. Raises NotSupportedError."""
        self._deployer.check_split(self._moves.service(row), config, percent)

    def stored(self, row: RowMapping) -> dict[str, Any] | None:
        """The row as it would be with the canary in the stable revision's place; None when there is no canary."""
        number = row["canary_revision"]
        if number is None:
            return None
        revision = self._moves.read(lambda connection: rows.revision(connection, row["id"], number))
        if revision is None:
            raise NotFoundError(f"Revision {number} of {row['service_name']!r} is gone.")
        return {**row, "revision": number, "config": revision["config"], "source": revision["source"]}

    def begin(
        self,
        lease: Lease,
        config: ServiceConfig,
        source: ModelSource,
        percent: int,
        deadline: float,
        *,
        wait: bool,
        named: Callable[[], None],
    ) -> None:
        """Have ``config`` and ``source`` answer a part of the requests as a new revision, or go on with just that.

        ``named`` is called once the row names them. Raises InUseError for another canary, InvalidConfigError when
        nothing would be different, NotSupportedError when it cannot run beside what serves, and DeploymentError when
        nothing serves or the canary does not come up, which is then aborted.
        """
        moves, row = self._moves, lease.read()
        canary = self.stored(row)
        if canary is not None:
            if not moves.same(canary, config, source):
                refuse_beside_canary(row)
            named()
            self.share(lease, percent, deadline, wait=wait)
            return
        changed = moves.differences(row, config, source)
        if not changed:
            raise InvalidConfigError(
                f"A canary of {row['service_name']!r} would be what serves already.",
                "Say what is to be different: --model-uri URI or -c KEY=VALUE.",
            )
        if moves.observe(moves.service(row)).state not in SERVING:
            raise DeploymentError(
                f"The service {row['service_name']!r} does not run, and a canary needs one to run beside.",
                f"Start it: stackkit model-deployer models start {row['id'][:8]}.",
            )
        if not moves.can_update(row, config):
            raise NotSupportedError(
                f"A revision of {row['service_name']!r} with {', '.join(changed)} cannot run beside what serves.",
                "Update it without --canary: it is stopped and started again.",
            )
        new = {"config": plain(config), "source": source.as_dict(), "revision": row["revision"] + 1}
        moves.deployer.do_prepare(moves.operation(lease, deadline, {**row, **new}))
        self._write_intent(lease, row, config, source, percent, changed)
        named()
        self._split(lease, percent, deadline, wait=wait)

    def share(self, lease: Lease, percent: int, deadline: float, *, wait: bool) -> None:
        """Have the canary that is there answer another part of the requests.

        Raises NotFoundError when there is none, InUseError when its promotion has begun, and as ``begin`` does.
        """
        row = lease.read()
        if row["canary_revision"] is None:
            raise _no_canary(row)
        if row["canary_percent"] == PROMOTED:
            refuse_beside_canary(row)
        message = f"revision {row['canary_revision']}, {percent} %"
        lease.write({"canary_percent": percent}, {"action": "canary", "outcome": "begun", "message": message})
        self._split(lease, percent, deadline, wait=wait, is_there=True)

    def promote(self, lease: Lease, deadline: float, *, wait: bool) -> None:
        """Have the canary serve alone. When it does not, the stable revision does, and the error says why.

        Without ``wait`` it is left on its way.
        """
        moves, row = self._moves, lease.read()
        canary = self.stored(row)
        if canary is None:
            raise _no_canary(row)
        if moves.observe(moves.service(row)).state in (ServiceState.ERROR, ServiceState.INACTIVE):
            raise DeploymentError(
                f"The service {row['service_name']!r} does not run, so that its canary cannot take its place.",
                "Start it, which ends the canary, and update it: "
                f"stackkit model-deployer models start {row['id'][:8]}.",
            )
        message = f"revision {canary['revision']}"
        lease.write({"canary_percent": PROMOTED}, {"action": "promote", "outcome": "begun", "message": message})
        moves.progress(f"promoting revision {canary['revision']} of {row['service_name']}")
        operation = moves.operation(lease, deadline, {**canary, "details": lease.read()["details"]})
        try:
            self._deployer.do_update(operation)
            values: dict[str, Any] = {}
            if wait:
                seen = await_arrival(moves.deployer, lease, operation, "promote", checked=moves.service(lease.read()))
                values = moves.active(operation.service, seen, moves.complete(operation))
        except LeaseLostError:
            raise
        except BaseException as error:
            self._withdraw(lease, error)
            raise
        columns = {name: canary[name] for name in ("revision", "config", "source")}
        lease.write(
            {**named_columns(operation.service.config), **columns, **NO_CANARY, **values},
            {"action": "promote", "outcome": "done", "state": values.get("state"), "message": message},
        )

    def abort(self, lease: Lease, deadline: float, message: str = "") -> None:
        """Have the stable revision serve alone again; ``message`` says why, for the history.

        Asked for again it goes on, and it succeeds also when nothing runs any more. Raises NotFoundError when there
        is no canary, neither in the row nor on the platform, and DeploymentError when it does not go away.
        """
        moves, row = self._moves, lease.read()
        operation = moves.operation(lease, deadline, {**row, "details": without_completion(row)})
        service = operation.service
        if service.canary is None and moves.observe(service).canary is None:
            raise _no_canary(row)
        share = {} if service.canary is None else {"canary_percent": ABORTED}
        lease.write(
            {**share, "details": service.status.details},
            {"action": "abort", "outcome": "begun", "message": message},
        )
        moves.progress(f"aborting the canary of {service.name}")
        try:
            values: dict[str, Any] = {}
            seen = moves.observe(service)
            if seen.state is ServiceState.ERROR:  # nothing is lost by ending what does not serve
                moves.bring_down(lease, deadline, moves.deployer.do_stop, "abort")
            elif seen.state is not ServiceState.INACTIVE:
                self._deployer.do_update(operation)
                seen = await_arrival(moves.deployer, lease, operation, "abort", again=self._deployer.do_update)
            if seen.state in SERVING:
                values = moves.active(service, seen, moves.complete(operation))
        except LeaseLostError:
            raise
        except BaseException as error:
            told = f"Its canary could not be aborted: {reason(error)}"
            lease.write({"message": told}, {"action": "abort", "outcome": "failed", "message": told})
            raise
        moves.end_canary(lease, values, {"action": "abort", "outcome": "done"})

    def _write_intent(
        self,
        lease: Lease,
        row: RowMapping,
        config: ServiceConfig,
        source: ModelSource,
        percent: int,
        changed: list[str],
    ) -> None:
        number = row["revision"] + 1

        def write(connection: Connection) -> None:
            written = rows.get(connection, row["id"])
            if written is not None and written["lease_epoch"] == lease.epoch and written["canary_revision"] == number:
                return  # the database went away after the commit and before it could say so
            stored: Mapping[str, Any] = self._moves.secrets.conceal(connection, plain(config), row["id"], number)
            canary = {"canary_revision": number, "canary_percent": percent}
            if not rows.write(connection, row["id"], lease.epoch, canary):
                raise lease.lost()
            revision = {"id": row["id"], "revision": number, "config": stored, "source": source.as_dict()}
            rows.insert_revision(connection, revision)
            message = f"revision {number}, {percent} %: {', '.join(changed)}"
            rows.record_event(connection, row, actor=leases.actor(), action="canary", outcome="begun", message=message)

        lease.commit(write)

    def _split(self, lease: Lease, percent: int, deadline: float, *, wait: bool, is_there: bool = False) -> None:
        moves = self._moves
        canary = self.stored(lease.read())
        if canary is None:
            raise lease.lost()
        operation = moves.operation(lease, deadline, canary)
        name = operation.service.name
        moves.progress(f"having revision {canary['revision']} of {name} answer {percent} % of its requests")
        try:
            self._deployer.do_split(operation, percent)
            if not wait:
                return
            stable = moves.service(lease.read())
            seen = await_arrival(moves.deployer, lease, operation, "split", checked=stable)
            if is_there:  # a platform may take another share only once the canary answers
                self._deployer.do_split(operation, percent)
                stable = moves.service(lease.read())
                seen = await_arrival(moves.deployer, lease, operation, "split", checked=stable)
        except LeaseLostError:
            raise
        except BaseException as error:
            self._withdraw(lease, error)
            raise
        message = f"revision {canary['revision']}, {percent} %"
        lease.write(moves.active(stable, seen), {"action": "canary", "outcome": "done", "message": message})

    def _withdraw(self, lease: Lease, error: BaseException) -> None:
        """Abort a canary that failed. When even that does not succeed, the row tells of it."""
        row = lease.read()
        message = f"Revision {row['canary_revision']} failed, and revision {row['revision']} serves alone: "
        try:
            self.abort(lease, self._moves.clean_up_deadline(), message + reason(error))
        except LeaseLostError:
            raise
        except Exception:
            return  # the first error is the one to be raised


def _no_canary(row: RowMapping) -> NotFoundError:
    return NotFoundError(
        f"The service {row['service_name']!r} has no canary.",
        f"Make one: stackkit model-deployer models update {row['id'][:8]} --canary PERCENT …",
    )
