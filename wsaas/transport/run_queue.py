"""Fair scheduling of connections that have more work than one turn of the event loop allows.

A connection that was sent a thousand tiny frames at once may not decode them all while everybody else waits. It does
its share, then it queues here, and goes on when its turn comes: round robin, a bounded time per turn of the loop.
"""

import time
from collections import deque
from collections.abc import Callable

from wsaas.clock import Clock

TURN_S = 0.0005
"""Seconds of one turn of the loop that all queued connections together may take."""

SLICE_S = 0.0001
"""Seconds that one connection may take before it queues. The time is checked between two frames or requests."""


class RunQueue:
    """Connections that have work left, in the order in which they are served.

    `timer` returns seconds that advance within a turn of the loop, which the loop's own clock does not.
    """

    __slots__ = ("_clock", "_queue", "_running", "timer")

    def __init__(self, clock: Clock, timer: Callable[[], float] = time.perf_counter) -> None:
        """Start empty."""
        self._clock = clock
        self._queue: deque[Callable[[], None]] = deque()
        self._running = False
        self.timer = timer

    def __len__(self) -> int:
        """Return how many connections are queued."""
        return len(self._queue)

    def add(self, work: Callable[[], None]) -> None:
        """Call `work` once, in a later turn of the loop. It returns within about `SLICE_S` and may add itself again."""
        self._queue.append(work)
        if not self._running:
            self._running = True
            self._clock.call_later(0.0, self._run)

    def _run(self) -> None:
        queue, timer = self._queue, self.timer
        end = timer() + TURN_S
        try:
            # Each of those queued now is served at most once: what they add waits for the next turn.
            for _ in range(len(queue)):
                queue.popleft()()
                if timer() >= end:
                    break
        finally:
            # Also when one of them raised: the others still have their turn.
            self._running = bool(queue)
            if queue:
                self._clock.call_later(0.0, self._run)
