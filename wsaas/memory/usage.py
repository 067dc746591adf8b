"""How much memory there is, and how much of it this process takes."""

import ctypes
import os
import sys
from pathlib import Path

BLOCK_SIZE = 80
"""Average bytes of a memory block of Python's own allocator, which takes what has up to 512 bytes."""

INTERPRETER_SIZE = 32 << 20
"""Bytes that the interpreter and the libraries take beside what they allocate, at most."""

_PAGE = os.sysconf("SC_PAGE_SIZE")
_STATM = Path("/proc/self/statm")
_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


_MALLINFO2 = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),  # "hblkhd": bytes in mapped blocks
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),  # "uordblks": bytes in others
)


class _Mallinfo2(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and later (mallinfo(3)); all fields are `size_t`."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _MALLINFO2)


def available(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Return the bytes of memory that this process may use.

    That is the least limit of its cgroup and those around it, if one has a limit, else what the machine has.
    """
    found = [os.sysconf("SC_PHYS_PAGES") * _PAGE]
    for top, path, name in _cgroups(cgroups, membership):
        for group in (path, *path.parents):
            try:
                text = (top / group / name).read_text().strip()
            except OSError:
                # In a container, the path may be that outside of it.
                continue
            if text.isdigit():
                found.append(int(text))
    return min(found)


def _cgroups(cgroups: Path, membership: Path) -> list[tuple[Path, Path, str]]:
    """Return where a cgroup of this process may have a limit: below which folder, its path, and the file's name.

    Both versions are looked for: lines of `membership` are `0::path`, or `number:controllers:path` (cgroups(7)).
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
    """Return the bytes of memory that this process has resident; 0 where the system has no /proc."""
    try:
        return int(statm.read_bytes().split()[1]) * _PAGE
    except OSError:
        return 0


def allocated() -> int:
    """Return about how many bytes this process has allocated; where the C library does not tell, what is resident."""
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        return resident()
    mallinfo2.restype = _Mallinfo2
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd) + sys.getallocatedblocks() * BLOCK_SIZE + INTERPRETER_SIZE


def in_use(much: float) -> int:
    """Return the bytes of memory that are resident or, where those are more than `much`, allocated if that is less.

    What was freed but not given back to the system, because other objects lie between, is used again before the process
    grows: it may not keep new clients out.
    """
    size = resident()
    return min(size, allocated()) if size > much else size


def trim() -> None:
    """Give freed memory back to the system, as far as the C library can (malloc_trim(3))."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
