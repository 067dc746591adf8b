"""How this process treats memory: the heap of the C library, and Python's garbage collector. Set once, at its start."""

import ctypes
import gc
import os
from collections.abc import Callable

KEPT = 16 << 20
"""Freed bytes at the end of the heap that are kept. By default glibc keeps 128 KiB, and a large message has all its
pages taken from the kernel, and cleared by it, again and again: four fifths of what it costs."""

MAPPED = 8 << 20
"""Bytes from which on a block is mapped on its own, and given back when it is freed."""

YOUNG, MIDDLE, NEVER = 2_000, 3, 1 << 30
"""Thresholds of the three generations: objects of the first two are few, a collection of them takes a millisecond.
One of the third looks at every object of every client, while all stand still; there is none but by `Collector`."""

QUIET = 60.0
"""Seconds between two collections of everything."""

FEW = 2_000
"""Clients with whom that takes a few milliseconds."""

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


class Collector:
    """Collects all garbage now and then, while there are few clients. None of ours leaves any: this is for the rest."""

    def __init__(self, clients: Callable[[], int]) -> None:
        """Ask `clients` how many there are."""
        self._clients = clients
        self._next = 0.0

    def sweep(self, now: float) -> None:
        """Collect at `now` (monotonic seconds), if it is time."""
        if now >= self._next and self._clients() <= FEW:
            self._next = now + QUIET
            gc.collect()
