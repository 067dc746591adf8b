"""What a case prints: progress on stderr, Markdown tables on stdout."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import TypeVar

MEBIBYTE = 1 << 20

K = TypeVar("K")
R = TypeVar("R")


def progress(text: str) -> None:
    """Print a line of progress on stderr."""
    print(text, file=sys.stderr, flush=True)


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [" | ".join(heads), " | ".join("---" for _ in heads), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def in_turn(runs: Mapping[K, Callable[[], R]], repeats: int) -> dict[K, list[R]]:
    """Do each of `runs` once, then all of them again, `repeats` times in all; return the results of each, by name.

    Runs that are compared follow each other, so that the speed of a virtual machine that drifts is the same for all.
    """
    results: dict[K, list[R]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            results[name].append(run())
    return results


def medians(rows: Iterable[Sequence[float]]) -> list[float]:
    """Return the median of each column."""
    return [median(column) for column in zip(*rows, strict=True)]
