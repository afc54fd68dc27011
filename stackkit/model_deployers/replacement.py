"""Giving a service a new revision: what ran goes on until the new one serves, and serves again if that fails."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Connection, RowMapping

from ..errors import LeaseLostError
from ..stack.configs import plain
from ..store import services as rows
from . import leases
from .abilities import UpdatesInPlace
from .config import SERVING, ModelSource, ServiceConfig, ServiceState, Target
from .convergence import NAMED, Convergence, named_columns, reason, without_completion
from .leases import Lease
from .waiting import await_arrival


class Replacement:
    """Puts a new revision in the place of the one that a service has."""

    def __init__(self, moves: Convergence) -> None:
        self._moves = moves
        self._deployer = moves.deployer

    def replace(
        self,
        lease: Lease,
        config: ServiceConfig,
        source: ModelSource,
        deadline: float,
        *,
        wait: bool,
        named: Callable[[], None],
    ) -> None:
        """Have ``config`` and ``source`` served as a new revision; ``named`` is called once the row names them."""
        moves, row = self._moves, lease.read()
        # the old revision goes on serving while the new one is made ready, and stays if that fails
        new = {"config": plain(config), "source": source.as_dict(), "revision": row["revision"] + 1}
        self._deployer.do_prepare(moves.operation(lease, deadline, {**row, **new}))
        was_serving = moves.observe(moves.service(row)).state in SERVING
        rolls = was_serving and moves.can_update(row, config)
        self._revise(lease, row, config, source, keeps_serving=rolls)
        named()
        try:
            if rolls:
                moves.roll(lease, deadline, wait=wait)
            else:
                moves.bring_down(lease, deadline, self._deployer.do_stop, "replace")
                moves.bring_up(lease, deadline, wait=wait, prepared=True)
        except LeaseLostError:
            raise
        except BaseException as error:
            if was_serving:
                self._restore(lease, row, error, rolled=rolls)
            raise

    def _restore(self, lease: Lease, row: RowMapping, error: BaseException, *, rolled: bool) -> None:
        """Have the revision serve again that a failed replacement took the place of, and write down why."""
        failed, number = row["revision"] + 1, row["revision"]
        message = f"The update to revision {failed} failed, and revision {number} serves again: {reason(error)}"
        restored = {name: row[name] for name in (*NAMED, "config", "source", "revision")}
        restored["details"] = without_completion(lease.read())
        key = rows.new_event_key()

        def restore(connection: Connection) -> None:
            if not rows.write(connection, row["id"], lease.epoch, restored):
                raise lease.lost()
            rows.remove_revision(connection, row["id"], failed)
            event = {"action": "restore", "outcome": "begun", "message": message}
            rows.record_event(connection, row, actor=leases.actor(), key=key, **event)

        lease.commit(restore)
        if rolled:
            self._go_back(lease)
        self._moves.converge_up(lease, time.monotonic() + self._deployer.start_seconds, wait=True)

    def _go_back(self, lease: Lease) -> None:
        """Have a server that may still go over to a failed revision stay with, or return to, the one before.

        One that does not is stopped: it could go over when nobody expects it any more.
        """
        operation = self._moves.operation(lease, self._moves.clean_up_deadline())
        try:
            if isinstance(self._deployer, UpdatesInPlace):
                self._deployer.do_update(operation)
                await_arrival(self._deployer, lease, operation, "update", again=self._deployer.do_update)
        except LeaseLostError:
            raise
        except Exception:
            self._moves.bring_down(lease, self._moves.clean_up_deadline(), self._deployer.do_stop, "update")

    def _revise(
        self, lease: Lease, row: RowMapping, config: ServiceConfig, source: ModelSource, *, keeps_serving: bool
    ) -> None:
        number = row["revision"] + 1
        gone = {"state": ServiceState.PENDING_STARTUP, "message": "", "prediction_url": None}
        changed = ", ".join(self._moves.differences(row, config, source))

        def revise(connection: Connection) -> None:
            written = rows.get(connection, row["id"])
            if written is not None and written["lease_epoch"] == lease.epoch and written["revision"] == number:
                return  # the database went away after the commit and before it could say so
            values = {
                **named_columns(config),
                "config": self._moves.secrets.conceal(connection, plain(config), row["id"], number),
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
