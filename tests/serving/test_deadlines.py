from __future__ import annotations

import asyncio

import pytest

from stackkit.serving.deadlines import Deadlines


async def hang(deadlines: Deadlines) -> None:
    with deadlines.limit():
        await asyncio.Event().wait()


def test_each_task_has_the_same_time_and_one_that_is_done_is_left_alone() -> None:
    async def scenario() -> None:
        deadlines = Deadlines(0.02)
        loop = asyncio.get_running_loop()
        for _ in range(2):  # once more after all of them have come to their end
            with deadlines.limit():
                pass
            begun = loop.time()
            ends = await asyncio.gather(hang(deadlines), hang(deadlines), return_exceptions=True)
            assert [type(end) for end in ends] == [TimeoutError, TimeoutError]
            assert loop.time() - begun >= 0.019

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_later_task_is_not_ended_with_an_earlier_one() -> None:
    async def scenario() -> None:
        deadlines = Deadlines(0.4)
        first = asyncio.create_task(hang(deadlines))
        await asyncio.sleep(0.2)  # more than a busy machine makes a process wait for its turn
        second = asyncio.create_task(hang(deadlines))
        await asyncio.wait([first])
        assert not second.done()
        await asyncio.wait([second])
        assert isinstance(second.exception(), TimeoutError)

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_task_that_somebody_else_cancels_is_cancelled() -> None:
    async def scenario() -> None:
        task = asyncio.create_task(hang(Deadlines(60)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_after_its_end_a_task_can_be_used_as_before() -> None:
    async def scenario() -> None:
        with pytest.raises(TimeoutError):
            await hang(Deadlines(0.001))
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(scenario(), 60))
