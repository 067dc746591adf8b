"""Items in the order of their numbers, in many small dicts."""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, Final, Generic, TypeVar

Item = TypeVar("Item")

CHUNK: Final = 340
"""Items that share a dict: as many as fit in one of CPython's with a table of 512."""

_SHRINKING: Final = frozenset({42, 5})
"""Sizes of a full dict at which it is copied when it gets smaller, as the copy has a smaller table."""


class OrderedTable(ABC, Generic[Item]):
    """Items by their keys, in the order of their numbers, which only grow from 1.

    There are many small dicts, because a dict moves all entries when it grows. With 100,000 items in one, that would
    take 6 ms, and to copy them 2.4 ms more for each publish (`python -m benchmarks pauses`). A table of up to `CHUNK`
    items has one dict, and nothing else. Subclasses add items to `_newest`, and remove them there or from `_older`: a
    call for that would take longer than the rest.

    Items may be added and removed during an iteration. It is over the items that were there when it began; those that
    are removed before their turn may be left out.
    """

    __slots__ = ("_newest", "_older")

    def __init__(self) -> None:
        """Start empty."""
        self._newest: dict[str, Item] = {}
        self._older: _Chunks[Item] = _NO_CHUNKS

    @abstractmethod
    def number(self, item: Item) -> int:
        """Return the number of an item."""

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._newest) + self._older.count

    def __iter__(self) -> Iterator[Item]:
        """Iterate in the order of the numbers."""
        return self.after(0) if self._older.count else iter([*self._newest.values()])

    def after(self, number: int) -> Iterator[Item]:
        """Iterate over the items with higher numbers than `number`, in their order."""
        # Items that come later are in the newest dict, or behind it.
        newest = self._behind([*self._newest.values()], number)
        older = self._older
        places = older.places(number)
        if not places:
            return newest
        first = self._behind(older.copy(places[0]), number)
        return chain(first, chain.from_iterable(map(older.copy, places[1:])), newest)

    def _behind(self, items: list[Item], number: int) -> Iterator[Item]:
        return islice(items, bisect_right(items, number, key=self.number), None) if number else iter(items)

    def _begin_chunk(self) -> dict[str, Item]:
        """Return a new dict for the next items, as the newest one is full."""
        newest = self._newest
        if self._older is _NO_CHUNKS:
            self._older = _Chunks()
        self._older.add(self.number(next(iter(newest.values()))), newest)
        self._newest = {}
        return self._newest


class _Chunks(Generic[Item]):
    """Dicts of items, by the first number that each of them had when it was full. `count`: of all items."""

    __slots__ = ("_chunks", "_firsts", "count")

    def __init__(self) -> None:
        self._chunks: dict[int, dict[str, Item]] = {}
        self._firsts: list[int] = []
        self.count = 0

    def add(self, first: int, chunk: dict[str, Item]) -> None:
        """Add a full dict, whose numbers are the highest so far, beginning with `first`."""
        self._chunks[first] = chunk
        self._firsts.append(first)
        self.count += len(chunk)

    def find(self, key: str, number: int) -> Item:
        return self._chunks[self._first(number)][key]

    def remove(self, key: str, number: int) -> None:
        first = self._first(number)
        chunk = self._chunks[first]
        del chunk[key]
        self.count -= 1
        left = len(chunk)
        if not left:
            del self._chunks[first]
            del self._firsts[bisect_right(self._firsts, first) - 1]
        elif left in _SHRINKING:
            self._chunks[first] = chunk.copy()

    def places(self, number: int) -> list[int]:
        """Return the first numbers of the dicts that may have higher numbers than `number`."""
        return self._firsts[max(0, bisect_right(self._firsts, number) - 1) :]

    def copy(self, first: int) -> list[Item]:
        """Return the items of a dict, as far as there are any left."""
        chunk = self._chunks.get(first)
        return [] if chunk is None else [*chunk.values()]

    def _first(self, number: int) -> int:
        """Return the first number of the dict that has this number."""
        return self._firsts[bisect_right(self._firsts, number) - 1]


_NO_CHUNKS: Final[_Chunks[Any]] = _Chunks()
"""The older items of a table that has none. It stays empty."""
