"""The memory that is available to the process, and the memory that it uses."""

import ctypes
import os
import sys
from pathlib import Path
from typing import Final

BLOCK_SIZE: Final = 80
"""Average bytes of a block of Python's allocator, which serves requests of up to 512 bytes."""

INTERPRETER_SIZE: Final = 32 << 20
"""Upper bound for the bytes that the interpreter and the libraries use besides allocated blocks."""

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_STATM: Final = Path("/proc/self/statm")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")


_MALLINFO2: Final = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),  # "hblkhd": bytes in mapped blocks
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),  # "uordblks": bytes in use in the heap
)


class _Mallinfo2(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and later (mallinfo(3)); all fields are `size_t`."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _MALLINFO2)


def available(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Return how many bytes of memory this process may use.

    This is the lowest limit of its cgroup and the enclosing cgroups, or the memory of the machine without a limit.
    """
    found = [os.sysconf("SC_PHYS_PAGES") * _PAGE]
    for top, path, name in _cgroups(cgroups, membership):
        for group in (path, *path.parents):
            try:
                text = (top / group / name).read_text().strip()
            except OSError:
                # In a container, the path may be valid only on the host.
                continue
            if text.isdigit():
                found.append(int(text))
    return min(found)


def _cgroups(cgroups: Path, membership: Path) -> list[tuple[Path, Path, str]]:
    """Return where the cgroups of this process may have a limit: folder of the hierarchy, path in it, and file name.

    Lines of `membership` are `0::path` for version 2 and `number:controllers:path` for version 1 (cgroups(7)).
    """
    paths = {"": Path(), "memory": Path()}
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in paths:
                paths[controller] = Path(path.lstrip("/"))
    return [
        (cgroups, paths[""], "memory.max"),
        (cgroups / "memory", paths["memory"], "memory.limit_in_bytes"),
    ]


def resident(statm: Path = _STATM) -> int:
    """Return the resident bytes of this process; 0 if the system has no /proc."""
    try:
        return int(statm.read_bytes().split()[1]) * _PAGE
    except OSError:
        return 0


def allocated() -> int:
    """Estimate how many bytes this process has allocated; return the resident bytes if the C library has no count."""
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        return resident()
    mallinfo2.restype = _Mallinfo2
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd) + sys.getallocatedblocks() * BLOCK_SIZE + INTERPRETER_SIZE


def in_use(threshold: float) -> int:
    """Return the resident bytes. If they exceed `threshold`, return the allocated bytes instead if those are fewer.

    The difference is freed memory that the C library could not return to the system because of fragmentation. It is
    reused before the process grows, so it must not count against new clients.
    """
    size = resident()
    return min(size, allocated()) if size > threshold else size


def trim() -> None:
    """Return freed memory to the system if the C library supports it (malloc_trim(3))."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
