"""The settings of the heap of the C library."""

import ctypes
import os

TRIM_THRESHOLD_BYTES = 16 << 20
"""Freed bytes at the end of the heap that are kept. The default of glibc is 128 KiB: for each large message, the kernel
would map all pages anew and clear them, which is four fifths of what the message takes."""

MMAP_THRESHOLD_BYTES = 8 << 20
"""Size from which on a block is mapped by itself, and returned to the system when it is freed."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_SET_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Let glibc keep `TRIM_THRESHOLD_BYTES` of freed memory; return whether it does.

    It does not where the C library is another one, or where the environment configures glibc (mallopt(3)).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or any(name in os.environ for name in _SET_BY_USER):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES) and mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES))
