"""The rows of the workers of a node in shared memory, so that nothing that was counted is lost with a worker.

Each worker writes its row at least every second, and before it tells its values to another worker. The row survives it:
its successor goes on from these values. So the totals of a node never fall, whichever worker is asked: a fall would
look like a restart to Prometheus, and `rate()` would count everything once more.
"""

import mmap
import os
from typing import Final

from wsaas.metrics.metric import Row
from wsaas.metrics.row import IS_MONOTONIC, ROW_LENGTH

_SIZE: Final = ROW_LENGTH * 8
"""Bytes of a row. Its values are doubles, which are exact up to 2^53."""


class SharedRows:
    """The rows of `count` workers, in the memory `descriptor` from `create`. `index`: the own row (from 0 on)."""

    def __init__(self, descriptor: int, index: int, count: int) -> None:
        """Map the memory."""
        self._mapping = mmap.mmap(descriptor, count * _SIZE)
        self._values: memoryview[float] = memoryview(self._mapping).cast("d")
        self.index = index
        self.others = [each for each in range(count) if each != index]
        self.base = self._read(index)
        """What earlier processes have counted that had this index."""

    def write(self, row: Row) -> None:
        """Store the own row, of which only the values that never fall are kept."""
        values, start = self._values, self.index * ROW_LENGTH
        for place, value in enumerate(row):
            values[start + place] = (value or 0.0) if IS_MONOTONIC[place] else 0.0

    def read_total(self, index: int) -> Row:
        """Return the stored row of another worker. It has no gauges."""
        values = self._read(index)
        return [value if IS_MONOTONIC[place] else None for place, value in enumerate(values)]

    def _read(self, index: int) -> list[float]:
        return [*self._values[index * ROW_LENGTH : (index + 1) * ROW_LENGTH]]

    def close(self) -> None:
        """Release the memory."""
        self._values.release()
        self._mapping.close()


def attach(descriptor: int, index: int, count: int) -> SharedRows | None:
    """Return the rows in the memory `descriptor`, None if a supervisor of another version has made it."""
    return SharedRows(descriptor, index, count) if os.fstat(descriptor).st_size == count * _SIZE else None


def create(count: int) -> int:
    """Return the descriptor of memory for the rows of `count` workers, all zero."""
    descriptor = os.memfd_create("wsaas-metrics")
    os.truncate(descriptor, count * _SIZE)
    return descriptor
