"""The one thread that runs the model, the bounded queue before it, and what of the queue is answered together."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Joinable(Protocol):
    """Work that may be done together with other work of an equal key; with the key None it is done alone."""

    @property
    def key(self) -> Hashable: ...

    @property
    def rows(self) -> int: ...


Work = TypeVar("Work", bound=Joinable)
Outcome = TypeVar("Outcome")


class QueueFullError(Exception):
    """As much work waits as may wait."""


class AbandonedError(Exception):
    """The call that is being made is taken never to return."""


@dataclass(slots=True)
class Done(Generic[Outcome]):
    """``batch_rows`` is how many rows were done in the same call."""

    outcome: Outcome
    batch_rows: int


@dataclass(eq=False, slots=True)
class _Entry(Generic[Work, Outcome]):
    work: Work
    future: asyncio.Future[Done[Outcome]]
    key: Hashable
    """The work's, until a call with it and others has failed: then None."""


class Dispatcher(Generic[Work, Outcome]):
    """Calls ``function`` with what waits, on a thread of its own, and returns as many outcomes as it was given works.

    One thread, because a model need not be safe to be called from several, and because what has queued up while it
    was busy is then known: work of equal keys becomes one call of at most ``max_rows`` rows. Nothing ever waits for
    more to come. When a call for several raises, each is done again alone, before what waits behind them, so that only
    the one at fault fails, and none waits for the others. At most ``capacity`` pieces may wait when one more comes, all
    of them in one event loop.
    """

    def __init__(
        self,
        function: Callable[[Sequence[Work]], Sequence[Outcome]],
        capacity: int,
        max_rows: int,
        observe_depth: Callable[[int], object] = lambda _: None,
    ) -> None:
        """``observe_depth`` is told how many pieces wait whenever that changes, and must not block."""
        self._function = function
        self._capacity = capacity
        self._max_rows = max_rows
        self._observe_depth = observe_depth
        self._waiting: deque[_Entry[Work, Outcome]] = deque()
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._is_idle = False
        self._began: float | None = None
        self._is_abandoned = False
        threading.Thread(target=self._run, name="model", daemon=True).start()

    @property
    def waiting(self) -> int:
        """How many pieces of work wait; the one that is being done is not among them."""
        return len(self._waiting)

    def busy_for(self) -> float:
        """Seconds since the call that is being made began; 0 when none is."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    def abandon(self) -> None:
        """Give up the call that is being made: raise AbandonedError to all that wait behind it, or come later. Called
        in the event loop.
        """
        with self._lock:
            self._is_abandoned = True
            left = [entry.future for entry in self._waiting]
            self._waiting.clear()
        _settle([(future, AbandonedError()) for future in left])

    async def submit(self, work: Work, *, is_begun: bool = False) -> Done[Outcome]:
        """The outcome of ``work``, or what was raised for it. Raises QueueFullError at once when there is no room, of
        which a further step of what ``is_begun`` needs none; AbandonedError after ``abandon``.

        Cancelling drops work that still waits; work that has begun goes on to its end, unheard.
        """
        entry: _Entry[Work, Outcome] = _Entry(work, asyncio.get_running_loop().create_future(), work.key)
        with self._lock:
            if self._is_abandoned:
                raise AbandonedError
            if len(self._waiting) >= self._capacity and not is_begun:
                raise QueueFullError
            self._waiting.append(entry)
            self._observe_depth(len(self._waiting))
            if self._is_idle:
                self._is_idle = False
                self._arrived.notify()
        try:
            return await entry.future
        except asyncio.CancelledError:
            with self._lock:
                if entry in self._waiting:
                    self._waiting.remove(entry)
                    self._observe_depth(len(self._waiting))
            raise

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._waiting:
                    self._is_idle = True
                    self._arrived.wait()
                batch = self._take()
                self._observe_depth(len(self._waiting))
            self._began = time.monotonic()
            settled = self._do(batch)
            self._began = None
            if settled is None:
                self._separate(batch)
            else:
                _deliver(batch, settled)
            del batch, settled

    def _take(self) -> list[_Entry[Work, Outcome]]:
        """The one that has waited longest, with all that can be done in the same call. Holds the lock."""
        first = self._waiting.popleft()
        batch, rows, key = [first], first.work.rows, first.key
        if key is None or rows >= self._max_rows or not self._waiting:
            return batch
        left: deque[_Entry[Work, Outcome]] = deque()
        for entry in self._waiting:
            if entry.key == key and rows + entry.work.rows <= self._max_rows:
                batch.append(entry)
                rows += entry.work.rows
            else:
                left.append(entry)
        self._waiting = left
        return batch

    def _do(self, batch: Sequence[_Entry[Work, Outcome]]) -> Sequence[Done[Outcome] | BaseException] | None:
        """What became of each; None when it is not known which of several is at fault."""
        rows = sum(entry.work.rows for entry in batch)
        try:
            outcomes = self._function([entry.work for entry in batch])
        except BaseException as error:
            return [error] if len(batch) == 1 else None
        return [Done(outcome, rows) for outcome in outcomes]

    def _separate(self, batch: Sequence[_Entry[Work, Outcome]]) -> None:
        """Put back, each on its own, those that somebody still waits for."""
        with self._lock:
            for entry in reversed(batch):
                if not entry.future.cancelled():
                    entry.key = None
                    self._waiting.appendleft(entry)
            self._observe_depth(len(self._waiting))


def _deliver(batch: Sequence[_Entry[Work, Outcome]], settled: Sequence[Done[Outcome] | BaseException]) -> None:
    """Wake the event loop once for all that wait."""
    ends = list(zip([entry.future for entry in batch], settled, strict=True))
    # a loop that is closed by now has nobody left who waits
    with contextlib.suppress(RuntimeError):
        batch[0].future.get_loop().call_soon_threadsafe(_settle, ends)


def _settle(ends: Sequence[tuple[asyncio.Future[Done[Outcome]], Done[Outcome] | BaseException]]) -> None:
    for future, end in ends:
        if future.done():
            continue
        if isinstance(end, BaseException):
            future.set_exception(end)
        else:
            future.set_result(end)
