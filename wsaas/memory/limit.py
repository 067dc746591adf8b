"""A bound on the memory of the whole process: past it the largest holders are throttled, then handshakes are refused.

Each client is bounded by itself (`INBOX`, `SEND_BUFFER`, `MAX_MESSAGE_SIZE`), but thousands that hold all they may
would take more than the machine has. While the process is over its limit, what one client may hold becomes less and
less: clients that hold more are not read, and pushes to them are refused. Small messages of others flow as before.
"""

import math
from collections.abc import Callable
from enum import Enum
from functools import partial

from wsaas.log import logger
from wsaas.memory import usage

LARGEST_ALLOWANCE, SMALLEST_ALLOWANCE = 4 << 20, 16 << 10
"""Bytes that one client may hold when the limit was just passed, and at least, however long it is passed."""

SAMPLE_BYTES = 8 << 20
"""Bytes that come to be held until the memory in use is looked at again, if a second does not pass before."""

RELIEF = 0.9
"""Part of the limit below which clients may hold more again."""

MIN_LIMIT = 64 << 20
"""Least bytes that the limit may be: Python and the libraries take half of that."""

TRIM_SWEEPS = 10
"""Sweeps over the limit from one request to give freed memory back to the system to the next."""


class Pressure(Enum):
    """How much memory is in use."""

    NONE = "within the limit"
    THROTTLING = "over the limit: who holds much is throttled"
    REFUSING = "over the limit though all are throttled: no new clients"


# A member of an enumeration is searched for each time, a name is there.
NONE, THROTTLING, REFUSING = Pressure


class MemoryLimit:
    """Compares the memory in use with `limit` (bytes; infinity for none) and decides what one client may hold.

    `allowance`: bytes that one client may hold before it is throttled, infinity within the limit.
    """

    __slots__ = ("_held", "_sweeps", "_trim", "_usage", "allowance", "limit", "pressure")

    def __init__(self, limit: float, usage: Callable[[], int], trim: Callable[[], object] = lambda: None) -> None:
        """`usage` returns the bytes in use; `trim` gives freed ones back to the system."""
        self._held = 0
        self._sweeps = 0
        self._trim = trim
        self._usage = usage
        self.allowance = math.inf
        self.limit = limit
        self.pressure = NONE

    def note(self, size: int) -> None:
        """Note that `size` more bytes are held by some client or other: much may come within a second."""
        self._held += size
        if self._held >= SAMPLE_BYTES:
            self._sample()

    def sweep(self, _now: float) -> None:
        """Look at the memory in use; to be called about once a second."""
        if self._sample() and self.pressure is not NONE:
            self._relax()
        elif self.pressure is not NONE:
            self._sweeps += 1
            if self._sweeps % TRIM_SWEEPS == 0:
                # Freed memory that the C library keeps may be all that is too much.
                self._trim()

    def _sample(self) -> bool:
        """Tighten if too much is in use; return whether it is so little that clients may hold more again."""
        self._held = 0
        in_use = self._usage()
        if in_use > self.limit:
            self._tighten(in_use)
        return in_use < self.limit * RELIEF

    def _tighten(self, in_use: int) -> None:
        if self.pressure is NONE:
            logger.warning(
                "memory: %d MiB in use, MAX_MEMORY is %d MiB: clients that hold much are throttled",
                in_use >> 20,
                int(self.limit) >> 20,
            )
            self._set(THROTTLING, LARGEST_ALLOWANCE)
        elif self.allowance > SMALLEST_ALLOWANCE:
            self._set(self.pressure, self.allowance / 2)
        elif self.pressure is THROTTLING:
            logger.warning("memory: still over MAX_MEMORY with all clients throttled: new ones are refused")
            self._set(REFUSING, self.allowance)

    def _relax(self) -> None:
        if self.allowance < LARGEST_ALLOWANCE:
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
    return MemoryLimit(limit, partial(usage.in_use, limit * RELIEF), usage.trim)
