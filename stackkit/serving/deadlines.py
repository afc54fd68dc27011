"""Time limits for many tasks at once, at the cost of an entry in a dictionary for each."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Deadlines:
    """Gives every task the same time. One timer is enough: whoever began first is due first."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: dict[_Limit, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def limit(self) -> _Limit:
        """A context manager that raises TimeoutError in the current task when its time is over."""
        return _Limit(self)

    def enter(self, limit: _Limit) -> None:
        loop = asyncio.get_running_loop()
        self._running[limit] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._expire)

    def leave(self, limit: _Limit) -> None:
        self._running.pop(limit, None)

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._timer = None
        for limit, end in list(self._running.items()):
            if end > now:
                self._timer = loop.call_at(end, self._expire)
                return
            del self._running[limit]
            limit.expire()


class _Limit:
    __slots__ = ("_deadlines", "_is_expired", "_task")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._is_expired = False

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        self._deadlines.enter(self)

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self._deadlines.leave(self)
        # somebody else may have cancelled the task as well: then that is what it is told
        is_ours = self._is_expired and self._task is not None and self._task.uncancel() == 0
        if is_ours and kind is asyncio.CancelledError:
            raise TimeoutError

    def expire(self) -> None:
        self._is_expired = True
        if self._task is not None:
            self._task.cancel()
