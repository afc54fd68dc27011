from __future__ import annotations

import asyncio
import threading

import pytest

from stackkit.serving.dispatcher import Dispatcher, QueueFullError


def test_all_calls_are_made_on_one_thread_that_is_not_the_loops() -> None:
    async def scenario() -> set[int]:
        dispatcher: Dispatcher[None, int] = Dispatcher(lambda _: threading.get_ident(), capacity=10)
        return set(await asyncio.gather(*(dispatcher.submit(None) for _ in range(5))))

    threads = asyncio.run(scenario())
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


def test_an_error_is_raised_to_the_one_who_asked() -> None:
    def fail(text: str) -> str:
        if text == "bad":
            raise LookupError(text)
        return text

    async def scenario() -> list[object]:
        dispatcher = Dispatcher(fail, capacity=10)
        submitted = (dispatcher.submit(text) for text in ("bad", "good"))
        return list(await asyncio.gather(*submitted, return_exceptions=True))

    bad, good = asyncio.run(scenario())
    assert isinstance(bad, LookupError)
    assert good == "good"


def test_cancelled_work_that_still_waits_is_never_done() -> None:
    done: list[int] = []
    began, released = threading.Event(), threading.Event()

    def work(number: int) -> None:
        began.set()
        released.wait()
        done.append(number)

    async def scenario() -> None:
        dispatcher = Dispatcher(work, capacity=2)
        tasks = [asyncio.create_task(dispatcher.submit(number)) for number in range(2)]
        await asyncio.to_thread(began.wait)
        tasks[1].cancel()
        await asyncio.sleep(0)
        released.set()
        await tasks[0]
        await dispatcher.submit(2)

    asyncio.run(scenario())
    assert done == [0, 2]


def test_no_more_may_wait_than_the_capacity() -> None:
    began, released = threading.Event(), threading.Event()

    def work(_: int) -> None:
        began.set()
        released.wait()

    async def scenario() -> None:
        dispatcher = Dispatcher(work, capacity=1)
        running = asyncio.create_task(dispatcher.submit(0))
        await asyncio.to_thread(began.wait)
        waiting = asyncio.create_task(dispatcher.submit(1))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await dispatcher.submit(2)
        released.set()
        await asyncio.gather(running, waiting)

    asyncio.run(scenario())
