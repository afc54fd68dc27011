"""Keeping every server at its target: a loop for a container or a systemd unit.

Each round looks at all servers and acts on those that are not where they were asked to be: one that died is started
again, a stop or deletion that was interrupted is finished, and so are the promotion or abort of a canary and a start
that was not completed. The work itself is done by the same verbs and under the same leases as a person's, so that
several watchers, and people beside them, never do a thing twice.

A server that dies again and again is started less and less often, and after a few times no more: its row then says
"Crash loop", until somebody deploys, updates, stops or starts it. All of that is read from the service's history, so
that it is the same for every watcher and outlives them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeGuard

from sqlalchemy import select

from ..errors import LeaseLostError, NotFoundError, StackkitError, StoreError
from ..store import Database
from ..store import services as rows
from ..store.clock import now
from . import leases
from .config import ABORTED, PROMOTED, SERVING, Canary, ServiceState, Target
from .lifecycle import Lifecycle
from .servers import ModelServers
from .service import Service

MOST_RESTARTS = 5
"""How often a server is started again within WINDOW before that is called a crash loop.

A promotion or abort that fails as often is tried again when the window has passed: its server goes on serving.
"""

WINDOW = timedelta(minutes=10)

LONGEST_PAUSE = timedelta(seconds=60)

CRASH_LOOP = "Crash loop"
"""How the message of a service begins that is not started any more."""

_AT_ONCE = 8


class Act(StrEnum):
    """What a watcher does about a service."""

    RESTART = "restart"
    STOP = "stop"
    DELETE = "delete"
    COMPLETE = "complete"
    PROMOTE = "promote"
    ABORT = "abort"
    GIVE_UP = "give up"


_BY_SHARE = {PROMOTED: Act.PROMOTE, ABORTED: Act.ABORT}
_COUNTED = (Act.RESTART, Act.PROMOTE, Act.ABORT)


@dataclass(frozen=True)
class Attempts:
    """What watchers have tried with a service since somebody else last touched it."""

    times: Sequence[datetime]
    gave_up: bool

    @classmethod
    def of(cls, events: Sequence[Any]) -> Attempts:
        """Read them from a history, oldest event first."""
        times: list[datetime] = []
        gave_up, by_watcher = False, False
        for event in events:
            if event["action"] == "watch":
                by_watcher = event["outcome"] == "begun"
                gave_up = gave_up or event["outcome"] == "gave up"
                if by_watcher:
                    times.append(event["at"])
            elif event["outcome"] == "begun":
                if not by_watcher:  # a person's
                    times, gave_up = [], False
            elif event["action"] != "observe":
                by_watcher = False  # what it had begun has ended
        return cls(times, gave_up)

    def recent(self, clock: datetime) -> list[datetime]:
        """Those within WINDOW."""
        return [time for time in self.times if clock - time < WINDOW]

    def is_due(self, clock: datetime) -> bool:
        """Whether the pause after the last one, which is longer after each, has passed."""
        recent = self.recent(clock)
        pause = min(timedelta(seconds=2.0 ** (len(recent) - 1)), LONGEST_PAUSE)
        return not recent or clock - recent[-1] >= pause


def decide(
    target: Target,
    state: ServiceState,
    attempts: Attempts,
    clock: datetime,
    *,
    is_complete: bool = True,
    canary: Canary | None = None,
) -> Act | None:
    """What to do about a service that nobody is working on; None when it is where it should be, or not due yet."""
    if target is Target.DELETED:
        return Act.DELETE
    if target is Target.INACTIVE:
        return Act.STOP if state in (*SERVING, ServiceState.ERROR) else None
    has_tried_enough, is_due = len(attempts.recent(clock)) >= MOST_RESTARTS, attempts.is_due(clock)
    if state in SERVING:
        if is_interrupted(canary):
            return _BY_SHARE[canary.percent] if is_due and not has_tried_enough else None
        return None if is_complete else Act.COMPLETE
    if state not in (ServiceState.ERROR, ServiceState.INACTIVE) or attempts.gave_up:
        return None
    if has_tried_enough:
        return Act.GIVE_UP
    return Act.RESTART if is_due else None


def is_interrupted(canary: Canary | None) -> TypeGuard[Canary]:
    """Whether somebody has begun to promote or abort it; while nobody works on the service, they did not end it."""
    return canary is not None and canary.percent in _BY_SHARE


class Watcher:
    """Looks at all servers of a database every ``interval`` seconds; ``report`` gets a line for all that it does."""

    def __init__(self, database: Database, *, interval: float, report: Callable[[str], None]) -> None:
        self._database = database
        self._interval = interval
        self._report = report
        self._busy: set[str] = set()

    def run(self, stop: threading.Event) -> None:
        """Watch until ``stop`` is set, then finish what has begun. A database that goes away is waited for."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="stackkit-watch") as pool:
            while not stop.is_set():
                try:
                    self.look(pool)
                except StoreError as error:
                    self._report(error.message)
                stop.wait(self._interval)
            pool.shutdown(wait=False, cancel_futures=True)  # what has begun is finished, and nothing else begun

    def look(self, pool: ThreadPoolExecutor) -> None:
        """One round: look at every server, and begin what is due in ``pool``."""
        for service in ModelServers(self._database).find():
            status = service.status
            is_there = status.target.value == status.state.value
            if (
                (is_there and service.is_complete and not is_interrupted(service.canary))
                or service.is_being_worked_on
                or service.id in self._busy
                or status.state is ServiceState.UNKNOWN
            ):
                continue
            with self._database.read() as connection:
                attempts = Attempts.of(rows.events(connection, service.id))
                clock = connection.execute(select(now())).scalar_one()
            act = decide(
                status.target,
                status.state,
                attempts,
                clock,
                is_complete=service.is_complete,
                canary=service.canary,
            )
            if act is not None:
                self._busy.add(service.id)
                pool.submit(self._do, act, service)

    def _do(self, act: Act, service: Service) -> None:
        try:
            if act in _COUNTED and not self._begin_attempt(service):
                return
            self._report(f"{act.value}: {service.name} ({service.id})")
            self._act(act, service)
        except (LeaseLostError, NotFoundError):
            pass  # somebody else has seen to it
        except StackkitError as error:
            self._report(f"{service.name}: {error.message.splitlines()[0]}")
        except Exception as error:  # a flavor's mistake must neither be lost nor end the watch
            self._report(f"{service.name}: {error!r}")
        finally:
            self._busy.discard(service.id)

    def _act(self, act: Act, service: Service) -> None:
        # whoever has worked on it since it was looked at may have asked for something else
        lifecycle, seconds = Lifecycle(service.deployer, since=service.epoch), service.deployer.start_seconds
        match act:
            case Act.RESTART | Act.COMPLETE:
                lifecycle.start(service.id, timeout=seconds)
            case Act.STOP:
                lifecycle.stop(service.id, timeout=seconds)
            case Act.DELETE:
                lifecycle.delete(service.id, timeout=seconds)
            case Act.PROMOTE:
                lifecycle.promote(service.id, timeout=seconds)
            case Act.ABORT:
                lifecycle.abort(service.id, timeout=seconds)
            case Act.GIVE_UP:
                self._give_up(service)

    def _give_up(self, service: Service) -> None:
        message = (
            f"{CRASH_LOOP}: it was started {MOST_RESTARTS} times within {WINDOW.seconds // 60} minutes and did not "
            f"stay up; it is not started again until somebody does. {service.status.message}"
        )
        row = service.stored()
        with self._database.write() as connection:
            if rows.observe(connection, row, {"state": ServiceState.ERROR, "message": message}):
                rows.record_event(
                    connection, row, actor=leases.actor(), action="watch", outcome="gave up", message=message
                )

    def _begin_attempt(self, service: Service) -> bool:
        """Write down that this watcher tries; False when another one has tried, or somebody is at work, meanwhile."""
        with self._database.write() as connection:
            row = rows.get_locked(connection, service.id)
            if row is None or row["lease_epoch"] != service.epoch or (row["leased"] and leases.dead_owner(row) is None):
                return False
            clock = connection.execute(select(now())).scalar_one()
            if not Attempts.of(rows.events(connection, service.id)).is_due(clock):
                return False
            rows.record_event(connection, row, actor=leases.actor(), action="watch", outcome="begun")
            return True
