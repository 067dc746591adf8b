"""A limit on the memory of the process: past it, clients that hold much are throttled, then handshakes are refused.

Each client has limits of its own (`INBOX`, `SEND_BUFFER`, `MAX_MESSAGE_SIZE`), but thousands that reach them would
exceed the memory of the machine. While the process is over its limit, the allowance of each client shrinks: clients
that hold more are not read, and pushes to them are refused. Small messages of other clients flow as before.
"""

import math
from collections.abc import Callable
from enum import Enum
from functools import partial

from wsaas.log import logger
from wsaas.memory import usage

MAX_ALLOWANCE, MIN_ALLOWANCE = 4 << 20, 16 << 10
"""Bytes that one client may hold when the limit was just passed, and the least that this shrinks to."""

SAMPLE_BYTES = 8 << 20
"""Bytes that clients come to hold until the memory is sampled again, which also happens each second."""

RELIEF_SHARE = 0.9
"""Share of the limit below which the allowance grows again."""

MIN_LIMIT = 64 << 20
"""Bytes of the smallest limit that is accepted. Python and the libraries take half of that."""

SAMPLES_PER_TRIM = 10
"""Samples over the limit, one a second, for each request to return freed memory to the system."""


class Pressure(Enum):
    """How much memory is in use."""

    NONE = "within the limit"
    THROTTLING = "over the limit: clients that hold much are throttled"
    REFUSING = "over the limit although all are throttled: handshakes are refused"


# Bound once: up to Python 3.11, reading a member from its class is a call in Python.
NONE, THROTTLING, REFUSING = Pressure


class MemoryLimit:
    """Compares the memory in use with `limit`, in bytes (infinity for none).

    `allowance`: bytes that one client may hold before it is throttled; infinity within the limit.
    """

    __slots__ = ("_held", "_samples", "_trim", "_usage", "allowance", "limit", "pressure")

    def __init__(self, limit: float, usage: Callable[[], int], trim: Callable[[], object] = lambda: None) -> None:
        """`usage` returns the bytes in use; `trim` returns freed memory to the system."""
        self._held = 0
        self._samples = 0
        self._trim = trim
        self._usage = usage
        self.allowance = math.inf
        self.limit = limit
        self.pressure = NONE

    def note(self, size: int) -> None:
        """Note that clients hold `size` bytes more, so that a flood is noticed before the next sample is due."""
        self._held += size
        if self._held >= SAMPLE_BYTES:
            self._sample()

    def check(self, _now: float) -> None:
        """Sample the memory in use. To be called about once a second."""
        if self._sample() and self.pressure is not NONE:
            self._grow()
        elif self.pressure is not NONE:
            self._samples += 1
            if self._samples % SAMPLES_PER_TRIM == 0:
                # The excess may be freed memory that the C library keeps.
                self._trim()

    def _sample(self) -> bool:
        """Shrink the allowance if too much is in use; return whether it may grow again."""
        self._held = 0
        in_use = self._usage()
        if in_use > self.limit:
            self._shrink(in_use)
        return in_use < self.limit * RELIEF_SHARE

    def _shrink(self, in_use: int) -> None:
        if self.pressure is NONE:
            logger.warning(
                "memory: %d MiB in use, MAX_MEMORY is %d MiB: clients that hold much are throttled",
                in_use >> 20,
                int(self.limit) >> 20,
            )
            self._set(THROTTLING, MAX_ALLOWANCE)
        elif self.allowance > MIN_ALLOWANCE:
            self._set(self.pressure, self.allowance / 2)
        elif self.pressure is THROTTLING:
            logger.warning("memory: still over MAX_MEMORY with all clients throttled: new ones are refused")
            self._set(REFUSING, self.allowance)

    def _grow(self) -> None:
        if self.allowance < MAX_ALLOWANCE:
            self._set(THROTTLING, self.allowance * 2)
        else:
            logger.info("memory: within MAX_MEMORY again")
            self._set(NONE, math.inf)

    def _set(self, pressure: Pressure, allowance: float) -> None:
        self.pressure = pressure
        self.allowance = allowance


NO_MEMORY_LIMIT = MemoryLimit(math.inf, lambda: 0)


def process_limit(max_memory: int | None) -> MemoryLimit:
    """Return a limit of `max_memory` bytes for this process: 0 for none, None for half of what it may use."""
    limit = usage.available() // 2 if max_memory is None else max_memory or math.inf
    return MemoryLimit(limit, partial(usage.in_use, limit * RELIEF_SHARE), usage.trim)
