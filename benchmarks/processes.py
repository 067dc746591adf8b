"""What processes cost: CPU time and memory, as the kernel counts them in `/proc`."""

import os
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def tree(root: int) -> list[int]:
    """Return the process id `root` and those of all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for process in found:
        found += children.get(process, ())
    return found


def cpu(processes: list[int]) -> float:
    """Return the user and system time of all threads of `processes` so far, in seconds.

    The scheduler counts it in nanoseconds; `stat` has the same in steps of 10 ms. Threads that ended are missing.
    """
    nanoseconds = 0
    for process in processes:
        for thread in (PROC / str(process) / "task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                nanoseconds += int((thread / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def user_and_system(processes: list[int]) -> tuple[float, float]:
    """Return the user time and the system time of `processes` so far, in seconds, in steps of 10 ms."""
    ticks = [0, 0]
    for process in processes:
        fields = (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
        ticks[0] += int(fields[11])
        ticks[1] += int(fields[12])
    return ticks[0] / os.sysconf("SC_CLK_TCK"), ticks[1] / os.sysconf("SC_CLK_TCK")


def core_busy(core: int) -> float:
    """Return how long a core was busy, or taken by another virtual machine, so far: seconds, in steps of 10 ms."""
    for line in (PROC / "stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
            return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    raise LookupError(f"there is no core {core}")


def memory(processes: list[int]) -> int:
    """Return the proportional set size of `processes` in bytes: a shared page counts in part for each of its owners.

    The kernel stops the process while it counts; `resident` does not.
    """
    total = 0
    for process in processes:
        for line in (PROC / str(process) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def resident(process: int) -> int:
    """Return the resident memory of one process in bytes."""
    pages = int((PROC / str(process) / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
