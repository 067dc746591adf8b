"""The values of all metrics as one list, a *row*.

The rows of all workers have the same places, so they are merged place by place.
"""

from collections.abc import Sequence
from typing import Final

from wsaas.metrics.metric import Figures, Row
from wsaas.metrics.table import METRICS

ROW_LENGTH: Final = sum(metric.width for metric in METRICS)

IS_MONOTONIC: Final = [metric.is_monotonic for metric in METRICS for _ in range(metric.width)]
"""For each place of a row, whether its values only rise."""


def read_row(figures: Figures) -> Row:
    """Return the values of all metrics."""
    row: Row = []
    for metric in METRICS:
        row += metric.read(figures)
    return row


def merge_rows(rows: Sequence[Row]) -> Row:
    """Return the row of a node, from those of its workers."""
    if len(rows) == 1:
        return rows[0]
    merged: Row = []
    at = 0
    for metric in METRICS:
        for place in range(at, at + metric.width):
            known = [value for row in rows if (value := row[place]) is not None]
            merged.append(metric.merge(known) if known else None)
        at += metric.width
    return merged
