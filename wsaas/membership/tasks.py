"""Time limits and ends of tasks that a cancellation reaches for certain.

`asyncio.wait_for` of Python 3.10 and 3.11 swallows a cancellation that comes in the same turn of the loop as the
result, and so does nats-py. A task that lost its cancellation would go on for ever.
"""

import asyncio
from collections.abc import Awaitable, Collection, Coroutine
from typing import Any, Final, TypeVar

from wsaas.log import logger

T = TypeVar("T")

PATIENCE_S: Final = 0.2
"""Seconds after which a task is cancelled again, as it may use nats-py."""


def start_task(work: Coroutine[Any, Any, None], what: str) -> asyncio.Task[None]:
    """Start a task that goes on until it is cancelled. An error that ends it is logged at once. `what`: for people.

    asyncio would log it when nobody refers to the task any more, which is at the end of the process.
    """
    task = asyncio.ensure_future(work)

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s has failed, so this node has to be restarted", what, exc_info=error)

    task.add_done_callback(ended)
    return task


async def wait_for(awaitable: Awaitable[T], seconds: float) -> T:
    """Return the result of `awaitable`. Raises `asyncio.TimeoutError` if it takes too long; it has ended then.

    Other than `asyncio.wait_for`, it swallows no cancellation, whatever `awaitable` does with it.
    """
    future = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait([future], timeout=seconds)
    finally:
        if not future.done():
            await end_tasks([future])
            if not future.cancelled():
                # Not logged as an error that nobody has looked at.
                future.exception()
    if future.cancelled():
        raise asyncio.TimeoutError
    return future.result()


async def end_tasks(tasks: Collection[asyncio.Future[Any]]) -> None:
    """Cancel `tasks`, and return when all of them have ended.

    If this is cancelled itself, it ends them nevertheless, and raises `asyncio.CancelledError` afterwards.
    """
    cancellation: asyncio.CancelledError | None = None
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        try:
            await asyncio.wait(pending, timeout=PATIENCE_S)
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None:
        raise cancellation
