"""The waiting events of one connection, in order and in bounded memory."""

from collections import deque
from typing import Final, Protocol

from wsaas.counters import Counters
from wsaas.events import Event, Message

MESSAGE_OVERHEAD: Final = 512
"""Bytes that are added to the size of a waiting message: about the memory that its objects take."""


class Source(Protocol):
    """The source of the events."""

    def pause(self) -> None:
        """Supply no more messages: the inbox is full."""

    def resume(self) -> None:
        """Supply messages again."""


class Backpressure:
    """Counts waiting bytes. Pauses their source above `high` bytes, and resumes it at half of that."""

    __slots__ = ("_counters", "_high", "_source", "level", "paused")

    def __init__(self, high: int, source: Source, counters: Counters) -> None:
        """Pause `source` above `high` bytes. `counters`: those of the process."""
        self._counters = counters
        self._high = high
        self._source = source
        self.level = 0
        self.paused = False

    def add(self, size: int) -> None:
        """Add `size` bytes."""
        self.level += size
        self._counters.backlog += size
        if self.level > self._high and not self.paused:
            self.paused = True
            self._counters.paused += 1
            self._source.pause()

    def remove(self, size: int) -> None:
        """Subtract `size` bytes."""
        # Nothing is left to subtract after `discard`.
        size = min(size, self.level)
        self.level -= size
        self._counters.backlog -= size
        if self.paused and self.level <= self._high // 2:
            self.paused = False
            self._counters.paused -= 1
            self._source.resume()

    def discard(self) -> None:
        """Stop counting: the waiting messages were dropped."""
        self._counters.backlog -= self.level
        self._counters.paused -= self.paused
        self.level, self.paused = 0, False


class Inbox:
    """The events that wait for the current one. `pressure` counts the bytes of their messages."""

    __slots__ = ("_events", "pressure")

    def __init__(self, high: int, source: Source, counters: Counters) -> None:
        """Pause `source` above `high` bytes. `counters`: those of the process."""
        self._events: deque[Event] = deque()
        self.pressure = Backpressure(high, source, counters)

    def __bool__(self) -> bool:
        """Return whether any event waits."""
        return bool(self._events)

    def add(self, event: Event) -> None:
        """Append `event` and count it."""
        self._events.append(event)
        self.pressure.add(_size(event))

    def pop(self) -> Event:
        """Remove and return the oldest event. Its bytes count until `uncount`."""
        return self._events.popleft()

    def uncount(self, event: Event) -> None:
        """Stop counting the bytes of `event`, which was popped. May resume the source, which may add events at once."""
        self.pressure.remove(_size(event))

    def discard_messages(self) -> int:
        """Remove all messages, but no other event; return how many. May resume the source."""
        messages = [event for event in self._events if isinstance(event, Message)]
        self._events = deque(event for event in self._events if not isinstance(event, Message))
        for message in messages:
            self.uncount(message)
        return len(messages)

    def events(self) -> list[Event]:
        """Return all events, the oldest first."""
        return [*self._events]


def _size(event: Event) -> int:
    return MESSAGE_OVERHEAD + len(event.data) if isinstance(event, Message) else 0
