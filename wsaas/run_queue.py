"""Fair scheduling of connections that have more work than one turn of the event loop allows.

A connection that receives a thousand tiny frames at once must not decode them all while others wait. It works for a
slice of time, then queues here until its turn comes. Turns are round robin, for a bounded time per turn of the loop.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from wsaas.clock import Clock

TURN_S: Final = 0.0005
"""Seconds that all queued connections together may work in one turn of the loop."""

SLICE_S: Final = 0.0001
"""Seconds that one connection may work before it has to queue. Checked between two frames or requests."""


class RunQueue:
    """A queue of connections with work to do, first in, first out.

    `waiting`: the queued calls. `timer` returns seconds that advance within a turn of the loop, unlike the loop's time.
    """

    __slots__ = ("_clock", "_running", "timer", "waiting")

    def __init__(self, clock: Clock, timer: Callable[[], float] = time.perf_counter) -> None:
        """Run the calls in turns of the loop of `clock`."""
        self._clock = clock
        self._running = False
        self.timer = timer
        self.waiting: deque[Callable[[], None]] = deque()

    def add(self, work: Callable[[], None]) -> None:
        """Call `work` once in a later turn of the loop. It should return within `SLICE_S`, and may add itself again."""
        self.waiting.append(work)
        if not self._running:
            self._running = True
            self._clock.call_later(0.0, self._run)

    def _run(self) -> None:
        queue, timer = self.waiting, self.timer
        end = timer() + TURN_S
        try:
            # Each connection is served at most once: work that it adds waits for the next turn.
            for _ in range(len(queue)):
                queue.popleft()()
                if timer() >= end:
                    break
        finally:
            # In `finally`, so that the queue continues even if `work` raises an exception.
            self._running = bool(queue)
            if queue:
                self._clock.call_later(0.0, self._run)
