"""Latencies as the load generator counts them: pairs of nanoseconds and a count, in buckets less than 1 % wide."""

from collections import Counter
from collections.abc import Iterable, Sequence

Histogram = Sequence[tuple[int, int]]


def percentile(histogram: Histogram, share: float) -> float:
    """Return the latency in microseconds that `share` (such as 0.99) of all do not exceed; nan if it is empty."""
    total = sum(count for _, count in histogram)
    seen = 0
    for nanoseconds, count in sorted(histogram):
        seen += count
        if seen >= share * total:
            return nanoseconds / 1000
    return float("nan")


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """Return the sum of `histograms`."""
    counts: Counter[int] = Counter()
    for histogram in histograms:
        for nanoseconds, count in histogram:
            counts[nanoseconds] += count
    return sorted(counts.items())
