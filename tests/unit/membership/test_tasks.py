"""Time limits, and tasks that swallow cancellations."""

import asyncio
import gc
from typing import Any

import pytest

from tests.support.stage import Stage
from wsaas.membership import tasks
from wsaas.membership.tasks import end_tasks, start_task, wait_for

LONG_S = 1000.0


@pytest.fixture(autouse=True)
def impatient(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Run the tests on the loop of a stage, which accepts no task that is left and no lost exception."""
    monkeypatch.setattr(tasks, "PATIENCE_S", 0.01)
    return stage


async def swallow(count: int, result: str = "") -> str:
    """Go on after `count` cancellations, and return `result` after the next one."""
    for _ in range(count + 1):
        try:
            await asyncio.sleep(LONG_S)
        except asyncio.CancelledError:  # noqa: PERF203 - what is tested
            continue
    return result


async def fail_when_cancelled() -> None:
    try:
        await asyncio.sleep(LONG_S)
    finally:
        raise OSError("failed")


async def began(task: "asyncio.Task[Any]") -> "asyncio.Task[Any]":
    """Let `task` get to what it waits for."""
    for _ in range(3):
        await asyncio.sleep(0)
    return task


async def test_a_result_within_the_time_is_returned() -> None:
    assert await wait_for(asyncio.sleep(0, "result"), LONG_S) == "result"


async def test_an_error_within_the_time_is_raised() -> None:
    future = asyncio.get_running_loop().create_future()
    future.set_exception(OSError("failed"))
    with pytest.raises(OSError, match="failed"):
        await wait_for(future, LONG_S)


async def test_what_takes_too_long_has_ended_when_the_time_is_over() -> None:
    task = asyncio.ensure_future(asyncio.sleep(LONG_S))
    with pytest.raises(asyncio.TimeoutError):
        await wait_for(task, 0.001)
    assert task.cancelled()


async def test_a_result_that_comes_at_the_last_moment_is_not_lost() -> None:
    assert await wait_for(swallow(2, "result"), 0.001) == "result"


async def test_an_error_that_comes_at_the_last_moment_is_raised() -> None:
    with pytest.raises(OSError, match="failed"):
        await wait_for(fail_when_cancelled(), 0.001)


async def test_a_cancellation_in_the_turn_of_the_result_is_not_swallowed() -> None:
    future = asyncio.get_running_loop().create_future()
    task = await began(asyncio.ensure_future(wait_for(future, LONG_S)))
    future.set_result(None)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_is_not_swallowed_although_the_awaited_task_swallows_it() -> None:
    task = await began(asyncio.ensure_future(wait_for(swallow(2), LONG_S)))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_after_a_cancellation_is_not_reported_as_unseen() -> None:
    task = await began(asyncio.ensure_future(wait_for(fail_when_cancelled(), LONG_S)))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    gc.collect()


async def test_an_error_that_ends_a_task_is_logged_at_once(impatient: Stage) -> None:
    async def fail() -> None:
        raise KeyError("seq")

    said = "the watch has failed, so this node has to be restarted"
    failed, cancelled = start_task(fail(), "the watch"), start_task(asyncio.sleep(LONG_S), "the rest")
    await began(failed)
    await end_tasks([failed, cancelled])
    (record,) = [each for each in impatient.logged if each.getMessage() == said]
    # Otherwise, it would be one that no test expects.
    impatient.logged.remove(record)
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)
    assert cancelled.cancelled()


async def test_tasks_that_swallow_cancellations_are_ended() -> None:
    some = [await began(asyncio.ensure_future(swallow(count))) for count in range(3)]
    await end_tasks(some)
    assert all(task.done() for task in some)


async def test_tasks_are_ended_although_their_end_is_cancelled() -> None:
    stubborn = await began(asyncio.ensure_future(swallow(5)))
    ending = await began(asyncio.ensure_future(end_tasks([stubborn])))
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert stubborn.done()


async def test_a_task_that_ends_another_one_is_ended_with_it() -> None:
    inner = await began(asyncio.ensure_future(swallow(5)))

    async def run() -> None:
        try:
            await asyncio.sleep(LONG_S)
        finally:
            await end_tasks([inner])

    await end_tasks([await began(asyncio.ensure_future(run()))])
    assert inner.done()
