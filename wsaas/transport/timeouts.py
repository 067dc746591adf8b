"""The time-outs of all connections, checked by one timer.

Each check passes a time up to which all data that arrived was read, even after a stall (see `clock.AfterPoll`). So a
connection is never closed for silence while its bytes wait in the kernel. If the timer itself is late by a whole
interval, the process has stalled. The check is then postponed once, by `GRACE_S`: it may take several turns of the loop
to handle what arrived meanwhile, and to finish connections to the backend that are being opened.
"""

import math
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from wsaas.clock import GRACE_S, STALL_S, AfterPoll, Clock, Timer
from wsaas.counters import LAG_BOUNDS, Histogram
from wsaas.settings import Settings

CHECKS_PER_TIMEOUT: Final = 10
"""Number of checks within the shortest time-out. So a time-out is detected with a delay of at most a tenth of it."""

MIN_INTERVAL_S: Final = 0.01
MAX_INTERVAL_S: Final = 1.0
"""Bounds of the interval between two checks."""

BATCH_SIZE: Final = 100
"""Minimum number of connections that are checked in one turn of the loop."""

BATCH_GAP_S: Final = 0.001
"""Seconds between two batches."""

SPREAD_SHARE: Final = 0.5
"""Share of the interval over which the batches are spread. Checking 100,000 connections at once would take 70 ms, or a
second if each of them were pinged and answered."""

BUCKETS: Final = 509
"""Number of parts over which the connections are spread by their hash. Copying one part with 100,000 would be slow, and
could start a garbage collection that visits all of them."""


NOT_CLOSING: Final = 0.0
"""The deadline of a client's connection that is not closing."""


class HasDeadline(Protocol):
    """A connection in `Timeouts`."""

    def check_deadline(self, now: float) -> None:
        """Act on what has timed out by `now` (monotonic seconds). All data that arrived before `now` was read."""

    def close_gracefully(self) -> None:
        """Send what is buffered and close, within a bounded time."""


_Bucket = dict[HasDeadline, None]
"""A set of connections. A dict takes half the memory of a `set`: 30 to 50 bytes for each connection."""


def check_interval(settings: Settings) -> float:
    """Return the seconds between two checks for the time-outs in `settings`."""
    times = (
        settings.ws_timeout,
        settings.handshake_timeout,
        settings.keep_alive_timeout,
        settings.api_timeout,
        settings.api_connection_age,
    )
    return min(MAX_INTERVAL_S, max(MIN_INTERVAL_S, min(time for time in times if time) / CHECKS_PER_TIMEOUT))


class Timeouts:
    """All accepted connections until they are closed, and the timer that checks their deadlines.

    Iteration uses a copy, so that connections may be added and discarded meanwhile.
    """

    def __init__(
        self, clock: Clock, interval: float, *jobs: Callable[[float], None], lag: Histogram | None = None
    ) -> None:
        """Check every `interval` seconds, and call each of `jobs` with the monotonic time.

        `lag`: how late the timer fires, which shows how late the event loop is.
        """
        self._lag = lag or Histogram(LAG_BOUNDS)
        self._clock = clock
        self._interval = interval
        self._jobs = jobs
        self._timers: dict[str, Timer] = {}
        self._read_until = (0.0, 0.0)
        self._is_late = False
        self._buckets: list[_Bucket] = [{} for _ in range(BUCKETS)]
        self._unchecked: list[_Bucket] = []
        self._count = 0
        self._batch_size = BATCH_SIZE

    def __len__(self) -> int:
        """Return the number of connections."""
        return self._count

    def __iter__(self) -> Iterator[HasDeadline]:
        """Iterate over a copy."""
        return iter([each for bucket in self._buckets for each in bucket])

    def add(self, connection: HasDeadline) -> None:
        """Check `connection` from now on. May be called again."""
        bucket = self._buckets[hash(connection) % BUCKETS]
        self._count += connection not in bucket
        bucket[connection] = None

    def discard(self, connection: HasDeadline) -> None:
        """Stop checking `connection`, if it was added."""
        bucket = self._buckets[hash(connection) % BUCKETS]
        if connection in bucket:
            del bucket[connection]
            self._count -= 1

    def replace(self, connection: HasDeadline, successor: HasDeadline) -> None:
        """Check `successor` from now on instead of `connection`. Raises `KeyError` unless that was added."""
        del self._buckets[hash(connection) % BUCKETS][connection]
        self._buckets[hash(successor) % BUCKETS][successor] = None

    def start(self) -> None:
        """Start the timer."""
        self._set_timer(self._interval)

    def stop(self) -> None:
        """Stop the timer."""
        for timer in self._timers.values():
            timer.cancel()

    def close_all(self) -> None:
        """Close each connection gracefully."""
        for connection in self:
            connection.close_gracefully()

    def expire_all(self) -> None:
        """Treat all deadlines as passed, which closes all remaining connections."""
        for connection in self:
            connection.check_deadline(math.inf)

    def _set_timer(self, seconds: float) -> None:
        self._timers["interval"] = self._clock.call_later(seconds, self._on_timer, self._clock.now() + seconds)

    def _on_timer(self, due: float) -> None:
        late = self._clock.now() - due
        self._lag.observe(max(0.0, late))
        self._is_late = not self._is_late and late >= max(STALL_S, self._interval)
        if self._is_late:
            self._set_timer(GRACE_S)
            return
        # Set first: an exception in a check must not stop the timer.
        self._set_timer(self._interval)
        self._timers["poll"] = AfterPoll(self._clock, self._check)

    def _check(self, now: float) -> None:
        if not self._unchecked:
            self._unchecked = [bucket for bucket in self._buckets if bucket]
            self._batch_size = max(BATCH_SIZE, math.ceil(self._count * BATCH_GAP_S / (self._interval * SPREAD_SHARE)))
            self._read_until = (now, now)
            self._check_batch()
        for job in self._jobs:
            job(now)

    def _check_batch(self) -> None:
        batch: list[tuple[HasDeadline, _Bucket]] = []
        while self._unchecked and len(batch) < self._batch_size:
            bucket = self._unchecked.pop()
            batch += [(connection, bucket) for connection in bucket]
        if self._unchecked:
            self._timers["batch"] = self._clock.call_later(BATCH_GAP_S, self._check_batch)
        # The loop polls between two batches. So everything that arrived before the previous batch was read. After a
        # stall, later data may still be unread.
        now, before = self._read_until
        self._read_until = (before, self._clock.now())
        for connection, bucket in batch:
            # The check of another connection may have discarded this one.
            if connection in bucket:
                connection.check_deadline(now)
