"""Decides when Python's garbage collector runs."""

import gc
import sys
import time
from collections.abc import Callable
from typing import Final

GC_THRESHOLDS: Final = (1_000, 1, 1 << 30)
"""Thresholds of the three generations. The first two have few objects and are collected in a millisecond. The second is
collected with every other collection of the first: objects are visited no more often than with a higher threshold, but
fewer at a time. Collecting the third visits all objects of all clients while everything waits, so only `GcScheduler`
does it."""

GC_INTERVAL_S: Final = 60.0
"""Minimum seconds between two full collections."""

GC_SHARE: Final = 0.001
"""Maximum share of the time for full collections. After one of 70 ms (100,000 clients) there is none for 70 s."""

FEW_CLIENTS: Final = 2_000
"""Up to this number of clients, a full collection takes a few milliseconds."""

GROWTH_BLOCKS: Final = 200_000
GROWTH_SHARE: Final = 1 / 4
"""Growth after which a full collection looks for garbage: a number of memory blocks of Python objects (200,000 are
about 15 MB), and a share of the blocks in use."""

SAMPLE_S: Final = 1.0
"""Minimum seconds between two samples of the blocks in use. A sample takes 0.1 ms with 100,000 clients."""


def stop_full_collections() -> None:
    """Collect once, exclude all current objects from later collections, and keep Python from starting full ones.

    Call it once, when the process has started.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


class GcScheduler:
    """Starts full collections, which search all objects for garbage.

    The gateway itself makes no reference cycles, so full collections only bound what a library or a bug may leave. With
    up to `FEW_CLIENTS` clients, there is one every `GC_INTERVAL_S`. With more clients, there is one when the number of
    blocks in use has grown by both `GROWTH_BLOCKS` and `GROWTH_SHARE` since its minimum after the last collection. The
    growth may be garbage, or new clients and messages: only a collection can tell. Collections are always at least
    `GC_INTERVAL_S` apart, and take at most `GC_SHARE` of the time.
    """

    def __init__(self, clients: Callable[[], int], blocks: Callable[[], int] = sys.getallocatedblocks) -> None:
        """`clients` returns the number of clients, `blocks` the number of memory blocks of Python objects."""
        self._clients = clients
        self._blocks = blocks
        self._least_blocks = blocks()
        self._next = 0.0
        self._next_sample = 0.0

    def collect_if_due(self, now: float) -> None:
        """Start a full collection if one is due. `now`: monotonic seconds."""
        if now < self._next_sample:
            return
        self._next_sample = now + SAMPLE_S
        blocks = self._blocks()
        self._least_blocks = min(self._least_blocks, blocks)
        if now >= self._next and (self._clients() <= FEW_CLIENTS or self._has_grown(blocks)):
            started = time.perf_counter()
            gc.collect()
            took = time.perf_counter() - started
            self._next = now + max(GC_INTERVAL_S, took / GC_SHARE)
            self._least_blocks = self._blocks()

    def _has_grown(self, blocks: int) -> bool:
        growth = blocks - self._least_blocks
        return growth >= GROWTH_BLOCKS and growth >= self._least_blocks * GROWTH_SHARE
