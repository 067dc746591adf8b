"""The events of the watched connections, in bounded memory: the oldest events are dropped first."""

from collections import OrderedDict, deque
from itertools import count
from typing import Final

from wsaas.watching.events import WatchedEvent

MAX_EVENTS: Final = 1000
"""Events of one connection that are kept."""

MAX_BYTES: Final = 8 * 1024 * 1024
"""Bytes that the events of all connections together may take in a process."""


class Ring:
    """The latest events of one connection. `count`: how many there ever were."""

    __slots__ = ("_events", "_is_closed", "_rings", "count")

    def __init__(self, rings: "Rings") -> None:
        """Start empty. `rings`: those of the process."""
        self._events: deque[WatchedEvent] = deque()
        self._is_closed = False
        self._rings = rings
        self.count = 0

    @property
    def first(self) -> int:
        """The index of the oldest event that is kept."""
        return self.count - len(self._events)

    def add(self, event: WatchedEvent) -> None:
        """Add an event, and drop the oldest ones if there are too many. Does nothing after `close`."""
        if self._is_closed:
            return
        event.index = self.count
        self.count += 1
        self._events.append(event)
        if len(self._events) > MAX_EVENTS:
            self._rings.forget(self._events.popleft())
        self._rings.add(self, event)

    def get(self, index: int) -> WatchedEvent:
        """Return the event with an index from `first` on."""
        return self._events[index - self.count]

    def find(self, seq: int) -> WatchedEvent | None:
        """Return the event with this number, None if it is not kept."""
        return next((event for event in self._events if event.seq == seq), None)

    def index_after(self, seq: int) -> int:
        """Return the index of the first event after the one with this number, 0 for number 0."""
        if not seq:
            return 0
        later = sum(event.seq > seq for event in self._events)
        return self.count - later

    def drop_oldest(self) -> None:
        """Drop the oldest event, as the process has too many."""
        self._events.popleft()

    def close(self) -> None:
        """Drop all events, and take no more."""
        self._is_closed = True
        while self._events:
            self._rings.forget(self._events.popleft())


class Rings:
    """All rings of a process. `size`: about the bytes of their events."""

    __slots__ = ("_events", "_limit", "_numbers", "size")

    def __init__(self, limit: int = MAX_BYTES) -> None:
        """Start without events. `limit`: how many bytes there may be."""
        self._limit = limit
        self._events: OrderedDict[int, tuple[Ring, int]] = OrderedDict()
        self._numbers = count(1)
        self.size = 0

    def add(self, ring: Ring, event: WatchedEvent) -> None:
        """Number and count an event that was added to `ring`."""
        event.seq = next(self._numbers)
        self._events[event.seq] = ring, event.size
        self.size += event.size
        while self.size > self._limit:
            _, (oldest, size) = self._events.popitem(last=False)
            self.size -= size
            # The oldest event of all is the oldest one of its ring.
            oldest.drop_oldest()

    def forget(self, event: WatchedEvent) -> None:
        """Stop counting an event that was dropped."""
        _, size = self._events.pop(event.seq)
        self.size -= size
