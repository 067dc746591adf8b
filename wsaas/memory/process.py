"""How this process treats memory: the heap of the C library, and Python's garbage collector. Set once, at its start."""

import ctypes
import gc
import os
import sys
import time
from collections.abc import Callable

KEPT = 16 << 20
"""Freed bytes at the end of the heap that are kept. By default glibc keeps 128 KiB, and a large message has all its
pages taken from the kernel, and cleared by it, again and again: four fifths of what it costs."""

MAPPED = 8 << 20
"""Bytes from which on a block is mapped on its own, and given back when it is freed."""

YOUNG, MIDDLE, NEVER = 2_000, 3, 1 << 30
"""Thresholds of the three generations: objects of the first two are few, a collection of them takes a millisecond.
One of the third looks at every object of every client, while all stand still; there is none but by `GcScheduler`."""

GC_INTERVAL_S = 60.0
"""Least seconds between two full collections."""

GC_SHARE = 0.001
"""Most of the time that full collections may take: after one of 70 ms (100,000 clients) there is none for 70 s."""

FEW_CLIENTS = 2_000
"""Clients with whom a full collection takes a few milliseconds."""

GARBAGE_BLOCKS, GARBAGE_SHARE = 200_000, 1 / 4
"""Memory blocks of Python objects, and part of those in use, by which memory may grow until a full collection looks
for garbage among them. 200,000 blocks are some 15 MB."""

SAMPLE_S = 1.0
"""Least seconds between two looks at the memory in use: one takes 0.1 ms with 100,000 clients."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_SET_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


def keep_freed() -> bool:
    """Let glibc keep `KEPT` freed bytes; return whether it does.

    Not where another C library is used, nor where the environment already tells glibc what to do (mallopt(3)).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or any(name in os.environ for name in _SET_BY_USER):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, KEPT) and mallopt(_M_MMAP_THRESHOLD, MAPPED))


def rest_collector() -> None:
    """Look for garbage among young objects only, and never again at what is there now."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, NEVER)


class GcScheduler:
    """Decides when all objects are searched for garbage (a full collection).

    Nothing of ours leaves garbage; this is a bound for what a library or a fault leaves. With up to `FEW_CLIENTS` there
    is a full collection every `GC_INTERVAL_S`. With more, there is one when the number of memory blocks in use is
    `GARBAGE_BLOCKS` and `GARBAGE_SHARE` above its least since the last one, whether by garbage or by new clients and
    messages that wait: only a collection can tell. Neither comes before `GC_INTERVAL_S` are over, nor so often that
    collections take more than `GC_SHARE` of the time.
    """

    def __init__(self, clients: Callable[[], int], blocks: Callable[[], int] = sys.getallocatedblocks) -> None:
        """`clients` returns how many there are, `blocks` how many memory blocks Python objects take."""
        self._clients = clients
        self._blocks = blocks
        self._least_blocks = blocks()
        self._next = 0.0
        self._next_sample = 0.0

    def sweep(self, now: float) -> None:
        """Collect if it is time; `now` is in monotonic seconds."""
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
        return growth >= GARBAGE_BLOCKS and growth >= self._least_blocks * GARBAGE_SHARE
