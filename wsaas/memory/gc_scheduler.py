"""When Python's garbage collector runs."""

import gc
import sys
import time
from collections.abc import Callable

GC_THRESHOLDS = (2_000, 3, 1 << 30)
"""Thresholds of the three generations. The objects of the first two are few: to collect them takes a millisecond. A
collection of the third looks at each object of each client, and all wait for it: only `GcScheduler` starts one."""

GC_INTERVAL_S = 60.0
"""Least seconds between two full collections."""

GC_SHARE = 0.001
"""Share of the time that full collections may take. After one of 70 ms (100,000 clients) there is none for 70 s."""

FEW_CLIENTS = 2_000
"""Up to this number of clients, a full collection takes a few milliseconds."""

GROWTH_BLOCKS, GROWTH_SHARE = 200_000, 1 / 4
"""Growth, in memory blocks of Python objects and as a share of those in use, after which a full collection looks for
garbage. 200,000 blocks are some 15 MB."""

SAMPLE_S = 1.0
"""Least seconds between two samples of the blocks in use. One takes 0.1 ms with 100,000 clients."""


def stop_full_collections() -> None:
    """Collect once, exclude the objects of now for good, and let Python start no full collection by itself.

    To be called once, when the process has started.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


class GcScheduler:
    """Starts full collections, which search all objects for garbage.

    The gateway itself makes no reference cycles: this bounds what a library or a bug may leave. With up to
    `FEW_CLIENTS` clients there is a collection every `GC_INTERVAL_S`. With more, there is one when the blocks in use
    are `GROWTH_BLOCKS` and `GROWTH_SHARE` above their least number since the last one. That may be garbage or new
    clients and messages: only a collection can tell. In any case collections are `GC_INTERVAL_S` apart, and take no
    more than `GC_SHARE` of the time.
    """

    def __init__(self, clients: Callable[[], int], blocks: Callable[[], int] = sys.getallocatedblocks) -> None:
        """`clients` returns the number of clients, `blocks` that of the memory blocks of Python objects."""
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
