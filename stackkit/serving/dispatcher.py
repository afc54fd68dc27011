"""The one thread that runs the model, and the bounded queue before it."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Work = TypeVar("Work")
Outcome = TypeVar("Outcome")


class QueueFullError(Exception):
    """As much work waits as may wait."""


class Dispatcher(Generic[Work, Outcome]):
    """Calls ``function`` with one piece of work after the other, on a thread of its own.

    One thread, because a model need not be safe to be called from several, and because what has queued up while it
    was busy is then known. At most ``capacity`` pieces wait.
    """

    def __init__(self, function: Callable[[Work], Outcome], capacity: int) -> None:
        self._function = function
        self._queue: queue.Queue[tuple[Work, Future[Outcome]]] = queue.Queue(capacity)
        threading.Thread(target=self._run, name="model", daemon=True).start()

    async def submit(self, work: Work) -> Outcome:
        """The outcome of ``function(work)``, or what it raised. Raises QueueFullError at once when there is no room.

        Cancelling drops work that still waits; work that has begun goes on to its end, unheard.
        """
        future: Future[Outcome] = Future()
        try:
            self._queue.put_nowait((work, future))
        except queue.Full:
            raise QueueFullError from None
        return await asyncio.wrap_future(future)

    def _run(self) -> None:
        while True:
            work, future = self._queue.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self._function(work))
            except BaseException as error:
                future.set_exception(error)
            del work, future
