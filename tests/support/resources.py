"""What a process uses: its memory, its open files and its sockets."""

import os
from pathlib import Path


def open_sockets() -> int:
    """Return how many sockets this process has open."""
    return sum(map(_is_socket, Path("/proc/self/fd").iterdir()))


def resident_memory(pid: int | str = "self") -> int:
    """Return the bytes of memory that a process has resident. Raises `OSError` when there is no such process."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def proportional_memory(pid: int) -> int:
    """Return the bytes of memory of a process, those that it shares divided among their users (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Pss in smaps_rollup")


def open_files(pid: int) -> int:
    """Return how many file descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _is_socket(descriptor: Path) -> bool:
    """Return whether a descriptor, which may be closed by now, is one of a socket."""
    try:
        return descriptor.readlink().name.startswith("socket:")
    except OSError:
        return False
