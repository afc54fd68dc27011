"""Leases: the right to work on one service, for a while, known to every process that shares the database.

A lease has an owner, an expiry by the database's clock and an epoch. Taking it over raises the epoch, and every
write is conditional on it: an expired lease does not prove its owner dead, so the one that slept through the expiry
finds its writes refused with LeaseLostError.
"""

from __future__ import annotations

import getpass
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, RowMapping

from ..errors import DeploymentTimeoutError, LeaseLostError, StoreError
from ..processes import ProcessIdentity, machine_name
from ..store import Database
from ..store import services as rows
from ..store.outages import patiently
from .progress import Progress, silent

_RENEW_SECONDS = rows.LEASE_SECONDS / 3
_RELEASE_SECONDS = 5.0
_POLL_SECONDS = (0.02, 0.5)

Result = TypeVar("Result")


def actor() -> str:
    """Who is at work, for the history: user, machine and process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{machine_name()}:{os.getpid()}"


_at_work: set[str] = set()
"""The owners of this process that have or want a lease: any other of its own is of an operation that has ended."""


def new_owner() -> str:
    """What a lease's row says of its owner; unlike any other's, even within one process. To be retired in the end."""
    owner = json.dumps({"process": ProcessIdentity.current().as_dict(), "id": str(uuid.uuid4())})
    _at_work.add(owner)
    return owner


def retire(owner: str) -> None:
    """Say that an owner got no lease, or is done with it: what it may still hold anybody may take over."""
    _at_work.discard(owner)


class Lease:
    """A lease that is held. As a context manager it renews itself in a thread, and is given back at the end."""

    def __init__(
        self, database: Database, service_id: str, epoch: int, owner: str, progress: Progress = silent
    ) -> None:
        self.database = database
        self.service_id = service_id
        self.epoch = epoch
        self._owner = owner
        self._progress = progress
        self._lost = False
        self._waited_in_vain = False
        self._done = threading.Event()
        self._renewer = threading.Thread(target=self._renew, name="stackkit-lease", daemon=True)

    def __enter__(self) -> Self:
        self._renewer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._renewer.join()
        try:
            if not self._lost:
                # all that matters has been written, and a lease of one who has retired holds up nobody
                with suppress(StoreError):
                    patiently(self._release, seconds=0 if self._waited_in_vain else _RELEASE_SECONDS)
        finally:
            retire(self._owner)

    def check(self) -> None:
        """Raises LeaseLostError when the lease is known to be somebody else's."""
        if self._lost:
            raise self.lost()

    def read(self) -> RowMapping:
        """The row as it is now. Raises LeaseLostError when it is gone."""
        row = self._patiently(self._get)
        if row is None or row["lease_epoch"] != self.epoch:
            raise self.lost()
        return row

    def write(self, values: Mapping[str, Any], event: Mapping[str, Any] | None = None) -> None:
        """Change the row and, in the same transaction, its history (``action``, ``outcome``, ``state``, ``message``).

        Raises LeaseLostError, and changes nothing, when the lease is somebody else's by now.
        """
        key = rows.new_event_key()

        def change(connection: Connection) -> None:
            if not rows.write(connection, self.service_id, self.epoch, values):
                raise self.lost()
            if event is not None and (row := rows.get(connection, self.service_id)) is not None:
                rows.record_event(connection, row, actor=actor(), key=key, **event)

        self.commit(change)

    def commit(self, work: Callable[[Connection], Result]) -> Result:
        """Do ``work`` in one transaction, again while the database is away: see ``patiently`` for what it must bear.

        What has begun outside must be written down, and stopping a server because nobody can be told of it would be
        worse than waiting. Raises StoreError when the wait was in vain.
        """

        def transaction() -> Result:
            with self.database.write() as connection:
                return work(connection)

        return self._patiently(transaction)

    def _patiently(self, action: Callable[[], Result]) -> Result:
        # after one wait in vain, each of the writes that clean up would wait as long again
        try:
            result = patiently(action, self._progress, seconds=0 if self._waited_in_vain else None)
        except StoreError:
            self._waited_in_vain = True
            raise
        self._waited_in_vain = False
        return result

    def _get(self) -> RowMapping | None:
        with self.database.read() as connection:
            return rows.get(connection, self.service_id)

    def _release(self) -> None:
        with self.database.write() as connection:
            rows.release_lease(connection, self.service_id, self.epoch)

    def _renew(self) -> None:
        while not self._done.wait(_RENEW_SECONDS):
            try:
                with self.database.write() as connection:
                    held = rows.renew_lease(connection, self.service_id, self.epoch)
            except StoreError:
                continue  # the database may be back for the next turn; if not, the epoch decides
            if not held:
                self._lost = True
                return

    def lost(self) -> LeaseLostError:
        """The error to raise when a write was refused; from then on the lease counts as somebody else's."""
        self._lost = True
        return _taken_over(self.service_id)


def take(
    database: Database,
    service_id: str,
    deadline: float,
    *,
    done: Callable[[RowMapping], bool] = lambda row: False,
    since: int | None = None,
    progress: Progress = silent,
) -> Lease | None:
    """Take the lease of a service, waiting for the one who has it until ``deadline`` (``time.monotonic()``).

    One whose owner is provably dead is taken over at once. Returns None when the service is gone, or when while
    waiting ``done(row)`` says that there is nothing left to do. Raises DeploymentTimeoutError, StoreError when the
    database goes away for long, and LeaseLostError when somebody has taken it after its epoch was ``since``.
    """
    owner = new_owner()
    pause, longest = _POLL_SECONDS

    def look() -> RowMapping | None:
        with database.read() as connection:
            return rows.get(connection, service_id)

    def claim(seen: RowMapping, dead: str | None) -> int | None:
        with database.write() as connection:
            return rows.take_lease(connection, service_id, owner, seen["lease_epoch"], instead_of=dead)

    lease = None
    try:
        while True:
            row = patiently(look, progress)
            if row is None or done(row):
                return None
            if since not in (None, row["lease_epoch"]):
                raise _taken_over(service_id)
            dead = dead_owner(row)
            if not row["leased"] or dead is not None:
                epoch = patiently(partial(claim, row, dead), progress)
                if epoch is not None:
                    lease = Lease(database, service_id, epoch, owner, progress)
                    return lease
            if time.monotonic() >= deadline:
                raise DeploymentTimeoutError(
                    f"The service {row['service_name']!r} is being worked on by another process ({row['state']}).",
                    "Wait for it, or try again with a longer --timeout.",
                )
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(pause * 1.5, longest)
    finally:
        if lease is None:
            retire(owner)


def _taken_over(service_id: str) -> LeaseLostError:
    return LeaseLostError(
        f"Another process has taken over the service {service_id}.",
        f"See what became of it: stackkit model-deployer models describe {service_id}.",
    )


def dead_owner(row: RowMapping | Mapping[str, Any]) -> str | None:
    """The owner of the row's lease when it holds it still and is provably dead, or has retired; else None."""
    if not row["leased"]:
        return None
    owner: str = row["lease_owner"] or ""
    process = ProcessIdentity.parse(owner)
    if process is None:
        return None
    ours_and_retired = process == ProcessIdentity.current() and owner not in _at_work
    return owner if ours_and_retired or process.is_provably_dead() else None
