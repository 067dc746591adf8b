"""The memory, open files and sockets of a process."""

import os
from pathlib import Path


def open_sockets() -> int:
    """Return the number of open sockets of this process."""
    return sum(map(_is_socket, Path("/proc/self/fd").iterdir()))


def resident_memory(pid: int | str = "self") -> int:
    """Return the resident memory of a process in bytes. Raises `OSError` if there is no such process."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def proportional_memory(pid: int) -> int:
    """Return the proportional memory (PSS) of a process in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Pss in smaps_rollup")


def open_files(pid: int) -> int:
    """Return the number of open file descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _is_socket(descriptor: Path) -> bool:
    """Return whether a descriptor is a socket. It may have been closed meanwhile."""
    try:
        return descriptor.readlink().name.startswith("socket:")
    except OSError:
        return False
