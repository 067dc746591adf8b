"""The machine that measures: its processor cores, its limits, and what other programs take of it."""

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from benchmarks import processes
from benchmarks.report import progress

CALM_TIMEOUT_S = 60
"""Seconds to wait before a run for other programs to leave the cores alone."""

R = TypeVar("R")


@cache
def cores() -> tuple[int, int]:
    """Return the core of the measured process and the core of the load, out of the cores of this process.

    Raises `SystemExit` where there is only one.
    """
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:  # noqa: PLR2004 - two of them
        raise SystemExit("benchmarks need two processor cores: one for the target, one for the load")
    return available[0], available[1]


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Pin this process to `core` inside the block, so that a child that is started there inherits the pinning."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_descriptor_limit() -> None:
    """Allow this process and its children as many open files as the system does."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@dataclass(frozen=True)
class Usage:
    """CPU time that was used. `others`: the share of a core that other programs had, of the core they had more of."""

    seconds: float
    """Wall-clock time."""
    cpu: list[float]
    """CPU seconds of each group of processes, in the order in which the meter was given them."""
    others: float


class CpuMeter:
    """Measures the CPU time of groups of processes, and of other programs on the same cores, from its creation on."""

    def __init__(self, *groups: tuple[int, list[int]]) -> None:
        """Start. Each group is the core that its processes are pinned to, and their process ids."""
        self._groups = groups
        self._cpu = [processes.cpu(pids) for _, pids in groups]
        self._busy = {core: processes.core_busy(core) for core, _ in groups}
        self._started = time.monotonic()

    def read(self) -> Usage:
        """Return what was used since the creation."""
        seconds = time.monotonic() - self._started
        cpu = [processes.cpu(pids) - before for (_, pids), before in zip(self._groups, self._cpu, strict=True)]
        others = [
            processes.core_busy(core)
            - before
            - sum(used for (own, _), used in zip(self._groups, cpu, strict=True) if own == core)
            for core, before in self._busy.items()
        ]
        return Usage(seconds, cpu, max(0.0, *others) / seconds)


def wait_for_calm(share: float) -> None:
    """Return when other programs had at most `share` of either core for a second, or after `CALM_TIMEOUT_S`."""
    deadline = time.monotonic() + CALM_TIMEOUT_S
    while time.monotonic() < deadline:
        meter = CpuMeter(*((core, []) for core in cores()))
        time.sleep(1)
        if meter.read().others <= share:
            return


def undisturbed(run: Callable[[], R], others: Callable[[R], float], calm: float, tries: int) -> R:
    """Return the result of the first run in which other programs had at most `calm` of a core.

    `others` returns that share for a result. After `tries` runs the least disturbed result is returned.
    """
    results: list[R] = []
    while True:
        if calm < 1:
            wait_for_calm(calm)
        results.append(run())
        share = others(results[-1])
        if share <= calm:
            return results[-1]
        if len(results) == tries:
            return min(results, key=others)
        progress(f"repeating a run: other programs had {share:.0%} of a core")
