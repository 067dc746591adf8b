"""The limit on the memory of the process. Above it, the largest clients are throttled, then handshakes are refused.

Each client has its own limits (`INBOX`, `SEND_BUFFER`, `MAX_MESSAGE_SIZE`), but thousands of clients at these limits
would exceed the memory of the machine. While the process is above its limit, each client has an allowance, which
shrinks. The gateway stops reading from clients above their allowance, and refuses pushes to them. Small messages of
other clients flow as before.
"""

import math
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Final

from wsaas.log.throttle import throttle
from wsaas.memory import usage

MAX_ALLOWANCE: Final = 4 << 20
MIN_ALLOWANCE: Final = 16 << 10
"""Bytes that each client may use when the process has just exceeded the limit, and the minimum of this allowance."""

SAMPLE_BYTES: Final = 8 << 20
"""Growth of the buffers of all clients after which the memory is sampled again. It is also sampled each second."""

RELIEF_SHARE: Final = 0.9
"""Share of the limit below which the allowance grows again."""

MIN_LIMIT: Final = 64 << 20
"""The smallest valid limit, in bytes. Python and the libraries use half of it."""

SAMPLES_PER_TRIM: Final = 10
"""While the limit is exceeded, freed memory is returned to the system once in this number of samples (seconds)."""


class Pressure(Enum):
    """What is done to stay within the limit."""

    NONE = "within the limit"
    THROTTLING = "over the limit: clients above their allowance are throttled"
    REFUSING = "over the limit with the smallest allowance: handshakes are refused"


# Bound once: up to Python 3.11, reading a member from its class is a call in Python.
NONE: Final = Pressure.NONE
THROTTLING: Final = Pressure.THROTTLING
REFUSING: Final = Pressure.REFUSING


class MemoryLimit:
    """Compares the memory in use with `limit`, in bytes (infinity for no limit).

    `allowance`: bytes that one client may use before it is throttled; infinity within the limit.
    """

    __slots__ = ("_growth", "_samples", "_trim", "_usage", "allowance", "limit", "pressure")

    def __init__(self, limit: float, usage: Callable[[], int], trim: Callable[[], object] = lambda: None) -> None:
        """`usage` returns the bytes in use; `trim` returns freed memory to the system."""
        self._growth = 0
        self._samples = 0
        self._trim = trim
        self._usage = usage
        self.allowance = math.inf
        self.limit = limit
        self.pressure = NONE

    def note(self, size: int) -> None:
        """Note that the buffers of clients grew by `size` bytes, to detect a flood before the next sample is due."""
        self._growth += size
        if self._growth >= SAMPLE_BYTES:
            self._sample()

    def check(self, _now: float) -> None:
        """Sample the memory in use. Call it about once a second."""
        if self._sample() and self.pressure is not NONE:
            self._grow()
        elif self.pressure is not NONE:
            self._samples += 1
            if self._samples % SAMPLES_PER_TRIM == 0:
                # The excess may be freed memory that the C library has kept.
                self._trim()

    def _sample(self) -> bool:
        """Sample the memory, and shrink the allowance if too much is in use; return whether it may grow again."""
        self._growth = 0
        in_use = self._usage()
        if in_use > self.limit:
            self._shrink(in_use)
        return in_use < self.limit * RELIEF_SHARE

    def _shrink(self, in_use: int) -> None:
        if self.pressure is NONE:
            message = (
                "memory: %(mib)d MiB in use, MAX_MEMORY is %(max)d MiB: the clients that use the most are throttled"
            )
            throttle.warning(("memory", THROTTLING), message, {"mib": in_use >> 20, "max": int(self.limit) >> 20})
            self._set(THROTTLING, MAX_ALLOWANCE)
        elif self.allowance > MIN_ALLOWANCE:
            self._set(self.pressure, self.allowance / 2)
        elif self.pressure is THROTTLING:
            message = "memory: still over MAX_MEMORY with all clients throttled: new clients are refused"
            throttle.warning(("memory", REFUSING), message)
            self._set(REFUSING, self.allowance)

    def _grow(self) -> None:
        if self.allowance < MAX_ALLOWANCE:
            self._set(THROTTLING, self.allowance * 2)
        else:
            throttle.info(("memory", NONE), "memory: within MAX_MEMORY again")
            self._set(NONE, math.inf)

    def _set(self, pressure: Pressure, allowance: float) -> None:
        self.pressure = pressure
        self.allowance = allowance


NO_MEMORY_LIMIT: Final = MemoryLimit(math.inf, lambda: 0)


def process_limit(max_memory: int | None, processes: int = 1) -> MemoryLimit:
    """Return the limit for this process.

    `max_memory`: bytes, 0 for no limit, None for half of the available memory, which `processes` of them share.
    """
    limit = max(MIN_LIMIT, usage.available() // 2 // processes) if max_memory is None else max_memory or math.inf
    return MemoryLimit(limit, partial(usage.in_use, limit * RELIEF_SHARE), usage.trim)
