"""Counts the clients of several processes in shared memory.

Each process has a row of counters that only it writes, so no lock is needed, and the counts of a process that died can
be removed. A row has the number of clients, and the number of connections by address block in a count-min sketch: two
hashes select two counters of each block, and the lesser one is an upper bound for the block's connections. It is exact
unless both counters are shared with other blocks.
"""

import mmap
import os
from hashlib import blake2b
from typing import Final

SKETCH_WIDTH: Final = 1 << 17
"""Counters per hash. With 100,000 addresses in the other processes, the count of an address is too high by 0.1 on
average."""

_KEY_SIZE: Final = 16
_HEADER: Final = _KEY_SIZE // 4
_ROW: Final = 1 + 2 * SKETCH_WIDTH


class SharedCounts:
    """The counts of process `index` (from 0 on) of `count` processes, in the file `descriptor` from `create`."""

    def __init__(self, descriptor: int, index: int, count: int) -> None:
        """Map the memory. The descriptor is not needed any more afterwards."""
        self._mapping = mmap.mmap(descriptor, _size(count))
        self._words = memoryview(self._mapping).cast("I")
        self._key = self._mapping[:_KEY_SIZE]
        self._own = _row(index)
        self._others = [_row(other) for other in range(count) if other != index]

    def close(self) -> None:
        """Release the memory."""
        self._words.release()
        self._mapping.close()

    @property
    def processes(self) -> int:
        """The number of processes."""
        return len(self._others) + 1

    def set_clients(self, clients: int) -> None:
        """Set the number of clients of this process."""
        self._words[self._own] = clients

    def clients_elsewhere(self) -> int:
        """Return the number of clients of the other processes."""
        words = self._words
        return sum(words[row] for row in self._others)

    def add(self, block: str, number: int) -> None:
        """Add `number`, which may be negative, to the connections of an address block in this process."""
        for place in self._places(block):
            self._words[self._own + place] += number

    def connections_elsewhere(self, block: str) -> int:
        """Return an upper bound for the connections of an address block in the other processes."""
        words = self._words
        return min(sum(words[row + place] for row in self._others) for place in self._places(block))

    def clear(self, index: int) -> None:
        """Set all counts of process `index` to zero, after it ended."""
        start = _row(index) * 4
        self._mapping[start : start + _ROW * 4] = bytes(_ROW * 4)

    def _places(self, block: str) -> tuple[int, int]:
        """Return the places in a row of the two counters of `block`."""
        # Keyed, so that nobody can find addresses that share counters.
        digest = blake2b(block.encode(), digest_size=8, key=self._key).digest()
        first, second = int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:], "big")
        return 1 + first % SKETCH_WIDTH, 1 + SKETCH_WIDTH + second % SKETCH_WIDTH


def create(count: int) -> int:
    """Return the descriptor of memory for the counts of `count` processes, all zero."""
    descriptor = os.memfd_create("wsaas-counts")
    os.truncate(descriptor, _size(count))
    os.pwrite(descriptor, os.urandom(_KEY_SIZE), 0)
    return descriptor


def _size(count: int) -> int:
    return (_HEADER + count * _ROW) * 4


def _row(index: int) -> int:
    return _HEADER + index * _ROW
