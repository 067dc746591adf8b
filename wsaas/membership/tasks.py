"""Ends tasks that use nats-py, which swallows some cancellations."""

import asyncio
from collections.abc import Collection
from typing import Any, Final

PATIENCE_S: Final = 0.2
"""Seconds after which a task is cancelled again."""


async def end_tasks(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel `tasks`, and return when all of them have ended."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=PATIENCE_S)
