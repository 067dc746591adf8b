"""The row of this process, and what is stored of the other workers."""

from collections.abc import Callable, Collection

from wsaas.counters import Counters
from wsaas.metrics.metric import Figures, Row
from wsaas.metrics.process import read_process
from wsaas.metrics.row import read_row
from wsaas.metrics.shared_rows import SharedRows
from wsaas.statistics import Statistics


class OwnMetrics:
    """Reads the row of this process. `rows`: the memory that the workers share, None for a single process."""

    def __init__(
        self, counters: Counters, statistics: Callable[[], Statistics], rows: SharedRows | None = None
    ) -> None:
        """Read `counters`, and the gauges that `statistics` returns."""
        self._counters = counters
        self._rows = rows
        self.statistics = statistics

    @property
    def index(self) -> int:
        """The index of this worker, 0 for a single process."""
        return 0 if self._rows is None else self._rows.index

    @property
    def workers(self) -> int:
        """How many workers the node has."""
        return 1 if self._rows is None else len(self._rows.others) + 1

    def read(self) -> Row:
        """Return the row. Values that only rise go on from those of an earlier worker with this index."""
        row = read_row(Figures(self._counters, self.statistics(), read_process()))
        rows = self._rows
        if rows is not None:
            # `base` is zero for gauges.
            row = [value if value is None else value + base for value, base in zip(row, rows.base, strict=True)]
            rows.write(row)
        return row

    def store(self, _now: float) -> None:
        """Store the row, to be called every second. Does nothing without other workers."""
        if self._rows is not None:
            self.read()

    def stored(self, answered: Collection[int]) -> list[Row]:
        """Return what is stored of the other workers, without those that have `answered`."""
        rows = self._rows
        return [] if rows is None else [rows.read_total(index) for index in rows.others if index not in answered]

    def close(self) -> None:
        """Store the row for the last time."""
        if self._rows is not None:
            self.read()
            self._rows.close()
            self._rows = None
