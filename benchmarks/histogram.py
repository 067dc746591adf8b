"""Latencies as the load generator counts them: pairs of nanoseconds and how often, in steps below 1 %."""

from collections import Counter
from collections.abc import Iterable, Sequence

Histogram = Sequence[tuple[int, int]]


def percentile(histogram: Histogram, share: float) -> float:
    """Return the latency in microseconds that `share` (0.99) of all keep to; nan if there are none."""
    total = sum(count for _, count in histogram)
    seen = 0
    for nanoseconds, count in sorted(histogram):
        seen += count
        if seen >= share * total:
            return nanoseconds / 1000
    return float("nan")


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """Return all of `histograms` in one."""
    counts: Counter[int] = Counter()
    for histogram in histograms:
        for nanoseconds, count in histogram:
            counts[nanoseconds] += count
    return sorted(counts.items())
