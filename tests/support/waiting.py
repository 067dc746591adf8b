"""Waits for conditions, with a time-out."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

TIMEOUT_S = 20.0
"""Seconds that a test waits for an event: far more than it takes on a busy machine."""

POLL_S = 0.005
"""Seconds between two checks of a condition."""

STABLE_S = 0.2
"""Seconds without a change, after which a number counts as stable."""

T = TypeVar("T")


async def with_timeout(awaitable: Awaitable[T], seconds: float = TIMEOUT_S) -> T:
    """Return the result of `awaitable`. Raises `asyncio.TimeoutError` if it takes too long."""
    return await asyncio.wait_for(awaitable, seconds)


async def wait_until(condition: Callable[[], Any], what: str = "", shown: Callable[[], Any] = str) -> None:
    """Poll `condition` until it is true. The error of a time-out contains `what` and the result of `shown`."""
    deadline = asyncio.get_running_loop().time() + TIMEOUT_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"timed out waiting for {what} {shown()}"
        await asyncio.sleep(POLL_S)


async def wait_until_stable(number: Callable[[], int]) -> int:
    """Wait until `number` stays the same for `STABLE_S`; return it."""
    before = number()
    await asyncio.sleep(STABLE_S)
    while before != (now := number()):
        before = now
        await asyncio.sleep(STABLE_S)
    return before


async def run_ready_callbacks() -> None:
    """Let the loop make the calls that are scheduled, and those that they schedule, such as for a new connection."""
    for _ in range(5):
        await asyncio.sleep(0)
