"""Fair scheduling of connections that have more work than one turn of the event loop allows.

A connection that was sent a thousand tiny frames at once must not decode them all while the others wait. It works for a
slice of time, then it queues here until its turn comes: round robin, for a bounded time in each turn of the loop.
"""

import time
from collections import deque
from collections.abc import Callable

from wsaas.clock import Clock

TURN_S = 0.0005
"""Seconds that all queued connections together may take in one turn of the loop."""

SLICE_S = 0.0001
"""Seconds that one connection may take before it queues. They are checked between two frames or requests."""


class RunQueue:
    """Connections with work to do, first in, first out: `waiting`.

    `timer` returns seconds that advance within a turn of the loop; the time of the loop does not.
    """

    __slots__ = ("_clock", "_running", "timer", "waiting")

    def __init__(self, clock: Clock, timer: Callable[[], float] = time.perf_counter) -> None:
        """Start empty."""
        self._clock = clock
        self._running = False
        self.timer = timer
        self.waiting: deque[Callable[[], None]] = deque()

    def add(self, work: Callable[[], None]) -> None:
        """Call `work` once, in a later turn of the loop. It returns within about `SLICE_S` and may add itself again."""
        self.waiting.append(work)
        if not self._running:
            self._running = True
            self._clock.call_later(0.0, self._run)

    def _run(self) -> None:
        queue, timer = self.waiting, self.timer
        end = timer() + TURN_S
        try:
            # Each connection is served once at most: what it adds waits for the next turn.
            for _ in range(len(queue)):
                queue.popleft()()
                if timer() >= end:
                    break
        finally:
            # Also when one of them raised an exception.
            self._running = bool(queue)
            if queue:
                self._clock.call_later(0.0, self._run)
