"""The settings of the heap of the C library."""

import ctypes
import os
from typing import Final

TRIM_THRESHOLD_BYTES: Final = 16 << 20
"""Freed bytes at the end of the heap that are kept. With glibc's default of 128 KiB, the kernel would map and clear all
pages again for each large message, which takes four fifths of its time."""

MMAP_THRESHOLD_BYTES: Final = 8 << 20
"""Minimum size of a block that has its own mapping, and is returned to the system when it is freed."""

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_SET_BY_USER: Final = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Let glibc keep `TRIM_THRESHOLD_BYTES` of freed memory; return whether it does.

    Does nothing with another C library, or if environment variables configure glibc (mallopt(3)).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or any(name in os.environ for name in _SET_BY_USER):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES) and mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES))
