"""Connects to a Unix socket on which the backend listens."""

import asyncio
from collections.abc import Callable
from typing import Final

from wsaas.transport.happy_eyeballs import describe_cause

FIRST_RETRY_S: Final = 0.01
MAX_RETRY_S: Final = 0.2
"""Seconds until the next attempt while the queue of the listener is full, doubled each time."""


async def connect_unix(loop: asyncio.AbstractEventLoop, path: str, factory: Callable[[], asyncio.Protocol]) -> None:
    """Connect the protocol that `factory` returns to the socket at `path`. Raises `OSError`, whose text names the path.

    While the queue of the listener is full, the kernel refuses a connection at once, instead of letting it wait as over
    TCP. So it is tried again, until it is cancelled.
    """
    delay = FIRST_RETRY_S
    while True:
        try:
            await loop.create_unix_connection(factory, path)
        except BlockingIOError as raised:
            raised.__traceback__ = None
        except OSError as raised:
            raised.__traceback__ = None
            error = type(raised)(f"{describe_cause(raised)} (unix:{path})")
            break
        else:
            return
        await asyncio.sleep(delay)
        delay = min(2 * delay, MAX_RETRY_S)
    try:
        raise error
    finally:
        # As in `happy_eyeballs.connect_only`.
        del error
