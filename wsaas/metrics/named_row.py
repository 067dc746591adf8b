"""Finds the values of a row by the names of the metrics."""

from itertools import accumulate
from typing import Final

from wsaas.metrics.metric import Row
from wsaas.metrics.table import METRICS

_STARTS: Final = dict(
    zip((metric.name for metric in METRICS), accumulate((metric.width for metric in METRICS), initial=0), strict=False)
)
"""The place of the first value of each metric."""

_METRICS: Final = {metric.name: metric for metric in METRICS}


class NamedRow:
    """A row, read by name."""

    __slots__ = ("_row",)

    def __init__(self, row: Row) -> None:
        """Read `row`."""
        self._row = row

    def get(self, name: str) -> float | None:
        """Return the value of a metric with one series, None if it has none."""
        return self._row[_STARTS[name]]

    def series(self, name: str) -> dict[tuple[str, ...], float]:
        """Return the values of a metric by their labels."""
        start, metric = _STARTS[name], _METRICS[name]
        return {labels: self._row[start + place] or 0.0 for place, labels in enumerate(metric.series)}

    def total(self, name: str) -> float:
        """Return the sum of all series of a metric."""
        return sum(self.series(name).values())

    def buckets(self, name: str) -> list[tuple[float | None, float]]:
        """Return the cumulative counts of a histogram by the upper bound, None for the last one, over all series."""
        start, metric = _STARTS[name], _METRICS[name]
        width = len(metric.bounds) + 2
        counts = [
            sum(self._row[start + number * width + place] or 0.0 for number in range(len(metric.series)))
            for place in range(width - 1)
        ]
        return list(zip([*metric.bounds, None], accumulate(counts), strict=True))

    def sum(self, name: str) -> float:
        """Return the sum of the values of a histogram with one series."""
        return self._row[_STARTS[name] + len(_METRICS[name].bounds) + 1] or 0.0
