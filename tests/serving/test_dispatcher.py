from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from stackkit.serving.dispatcher import Dispatcher, Done, QueueFullError


@dataclass(frozen=True)
class Work:
    name: str
    key: Hashable = None
    rows: int = 1


class Gate:
    """A function for a dispatcher that waits to be released in its first call and remembers what it was given."""

    def __init__(self, fail: Callable[[Sequence[Work]], bool] = lambda _: False) -> None:
        self.began, self.released = threading.Event(), threading.Event()
        self.calls: list[list[str]] = []
        self._fail = fail

    def __call__(self, works: Sequence[Work]) -> list[str]:
        self.began.set()
        self.released.wait()
        self.calls.append([work.name for work in works])
        if self._fail(works):
            raise LookupError(works[0].name)
        return [work.name.upper() for work in works]


async def queue_behind_one(gate: Gate, works: Sequence[Work], *, max_rows: int = 64) -> list[Any]:
    """Submit ``works`` while the function is busy with another piece, and return what became of them."""
    dispatcher = Dispatcher(gate, capacity=100, max_rows=max_rows)
    first = asyncio.create_task(dispatcher.submit(Work("first")))
    await asyncio.to_thread(gate.began.wait)
    rest = [asyncio.create_task(dispatcher.submit(work)) for work in works]
    await asyncio.sleep(0)
    assert dispatcher.waiting == len(works)
    gate.released.set()
    await first
    return await asyncio.gather(*rest, return_exceptions=True)


def test_all_calls_are_made_on_one_thread_that_is_not_the_loops() -> None:
    async def scenario() -> set[int]:
        dispatcher: Dispatcher[Work, int] = Dispatcher(lambda _: [threading.get_ident()], capacity=10, max_rows=1)
        return {done.outcome for done in await asyncio.gather(*(dispatcher.submit(Work("")) for _ in range(5)))}

    threads = asyncio.run(scenario())
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


def test_an_idle_function_is_called_at_once() -> None:
    gate = Gate()
    gate.released.set()

    async def scenario() -> None:
        dispatcher = Dispatcher(gate, capacity=10, max_rows=64)
        for name in "ab":
            await dispatcher.submit(Work(name, "k"))

    asyncio.run(scenario())
    assert gate.calls == [["a"], ["b"]]


def test_what_waits_with_equal_keys_is_one_call() -> None:
    gate = Gate()
    works = [Work("a", 1), Work("x", 2), Work("b", 1), Work("alone"), Work("y", 2), Work("too")]
    outcomes = asyncio.run(queue_behind_one(gate, works))
    assert gate.calls == [["first"], ["a", "b"], ["x", "y"], ["alone"], ["too"]]
    assert [done.outcome for done in outcomes] == ["A", "X", "B", "ALONE", "Y", "TOO"]
    assert [done.batch_rows for done in outcomes] == [2, 2, 2, 1, 2, 1]


@pytest.mark.parametrize(
    ("rows", "calls"),
    [
        ([1, 1, 1, 1], [["0", "1", "2"], ["3"]]),
        ([2, 2, 1], [["0", "2"], ["1"]]),
        ([9, 1, 1], [["0"], ["1", "2"]]),
        ([1, 9, 1], [["0", "2"], ["1"]]),
    ],
)
def test_a_call_has_no_more_rows_than_allowed_unless_one_alone_has(rows: list[int], calls: list[list[str]]) -> None:
    gate = Gate()
    works = [Work(str(number), "k", count) for number, count in enumerate(rows)]
    asyncio.run(queue_behind_one(gate, works, max_rows=3))
    assert gate.calls[1:] == calls


def test_when_a_call_for_several_fails_each_is_tried_alone() -> None:
    gate = Gate(fail=lambda works: any(work.name == "bad" for work in works))
    good, bad, other = asyncio.run(queue_behind_one(gate, [Work(name, "k") for name in ("good", "bad", "other")]))
    assert (good, other) == (Done("GOOD", 1), Done("OTHER", 1))
    assert isinstance(bad, LookupError)
    assert bad.args == ("bad",)


def test_what_is_tried_alone_is_answered_when_it_is_done() -> None:
    turn = threading.Semaphore(0)
    calls: list[list[str]] = []

    def function(works: Sequence[Work]) -> list[str]:
        calls.append([work.name for work in works])
        turn.acquire()
        if len(works) > 1:
            raise LookupError
        return [work.name.upper() for work in works]

    async def scenario() -> None:
        dispatcher = Dispatcher(function, capacity=100, max_rows=64)

        def submit(*names: str) -> list[asyncio.Task[Done[str]]]:
            return [asyncio.create_task(dispatcher.submit(Work(name, "k"))) for name in names]

        async def until_called(times: int) -> None:
            while len(calls) < times:
                await asyncio.sleep(0.001)

        (first,) = submit("first")
        await until_called(1)
        a, b, unheard, given_up = submit("a", "b", "unheard", "given up")
        await asyncio.sleep(0)
        turn.release()
        await until_called(2)
        (later,) = submit("later")
        unheard.cancel()
        await asyncio.sleep(0)
        turn.release()
        await until_called(3)
        given_up.cancel()
        turn.release()
        assert (await a).outcome == "A"
        turn.release(2)
        assert [(await task).outcome for task in (first, b, later)] == ["FIRST", "B", "LATER"]

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert calls == [["first"], ["a", "b", "unheard", "given up"], ["a"], ["b"], ["later"]]


def test_each_call_has_its_own_time() -> None:
    """So that a call for many, each of which is then done alone, is not taken for one that hangs."""
    gate = Gate(fail=lambda works: len(works) > 1)
    seen: list[float] = []

    async def scenario() -> None:
        dispatcher: Dispatcher[Work, str] = Dispatcher(gate, capacity=100, max_rows=64)
        original = gate._fail
        gate._fail = lambda works: seen.append(dispatcher._began or 0.0) or original(works)
        tasks = [asyncio.create_task(dispatcher.submit(Work(name, "k"))) for name in ("first", "a", "b")]
        await asyncio.sleep(0)
        gate.released.set()
        await asyncio.gather(*tasks)

    asyncio.run(scenario())
    assert gate.calls[-2:] == [["a"], ["b"]]
    assert len(set(seen)) == len(seen)


def test_cancelled_work_that_still_waits_is_never_done_and_gives_up_its_place() -> None:
    gate = Gate()

    async def scenario() -> None:
        dispatcher = Dispatcher(gate, capacity=1, max_rows=1)
        running = asyncio.create_task(dispatcher.submit(Work("running")))
        await asyncio.to_thread(gate.began.wait)
        cancelled = asyncio.create_task(dispatcher.submit(Work("cancelled")))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        later = asyncio.create_task(dispatcher.submit(Work("later")))
        await asyncio.sleep(0)
        gate.released.set()
        await asyncio.gather(running, later)

    asyncio.run(scenario())
    assert gate.calls == [["running"], ["later"]]


def test_no_more_may_wait_than_the_capacity() -> None:
    gate = Gate()

    async def scenario() -> None:
        dispatcher = Dispatcher(gate, capacity=1, max_rows=1)
        running = asyncio.create_task(dispatcher.submit(Work("running")))
        await asyncio.to_thread(gate.began.wait)
        waiting = asyncio.create_task(dispatcher.submit(Work("waiting")))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await dispatcher.submit(Work("refused"))
        step = asyncio.create_task(dispatcher.submit(Work("step of what is begun"), is_begun=True))
        await asyncio.sleep(0)
        assert dispatcher.waiting == 2
        gate.released.set()
        await asyncio.gather(running, waiting, step)

    asyncio.run(scenario())
    assert gate.calls == [["running"], ["waiting"], ["step of what is begun"]]


def test_it_says_for_how_long_it_has_been_busy() -> None:
    gate = Gate()

    async def scenario() -> tuple[float, float, float]:
        dispatcher = Dispatcher(gate, capacity=1, max_rows=1)
        idle = dispatcher.busy_for()
        running = asyncio.create_task(dispatcher.submit(Work("running")))
        await asyncio.to_thread(gate.began.wait)
        earlier, later = dispatcher.busy_for(), dispatcher.busy_for()
        gate.released.set()
        await running
        return idle, earlier, later

    idle, earlier, later = asyncio.run(scenario())
    assert idle == 0
    assert 0 < earlier <= later
