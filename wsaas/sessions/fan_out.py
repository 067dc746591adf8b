"""Work on many clients at once, in slices: a large group never holds up the loop.

Work begins at once and runs for one slice. What is left continues in later turns of the loop, between which other
connections are served. Work on one channel, such as a group, is done in the order in which it was started, so two
publishes to a group have the same order at every member.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from typing import Final

from wsaas.counters import Counters
from wsaas.errors import RETRY_AFTER, HTTPError, TooManyRequests
from wsaas.run_queue import RunQueue

FAN_OUT_SLICE_S: Final = 0.0005
"""Seconds of one slice. The last client in a slice may exceed it."""


Summary = dict[str, int | list[str]]
"""What work has done, by the names that a response shows. The summaries of several processes are merged by adding."""


class FanOut(ABC):
    """Work on many clients.

    `on_done` is called at its end, unless `is_done` when `FanOutQueue.start` returns. `error`: why nothing was done.
    """

    __slots__ = ("error", "is_done", "on_done")

    def __init__(self) -> None:
        """Prepare the work; `FanOutQueue.start` starts it."""
        self.error: HTTPError | None = None
        self.is_done = False
        self.on_done: Callable[[], None] = _ignore

    @abstractmethod
    def summary(self) -> Summary:
        """Return what was done so far."""

    @abstractmethod
    def count(self, counters: Counters) -> None:
        """Add what was done to the counters of the process, at the end of the work."""

    @abstractmethod
    def advance(self, timer: Callable[[], float], end: float) -> bool:
        """Work until `timer` returns `end` or more, on one client at least; return whether all is done."""


class FanOutQueue:
    """The work that is under way. Different channels take turns with each other, and with the `run_queue`."""

    __slots__ = ("_channels", "_count", "_counters", "_limit", "run_queue")

    def __init__(self, run_queue: RunQueue, limit: int, counters: Counters | None = None) -> None:
        """Have at most `limit` pieces of work under way (`MAX_PUBLISHES`). `counters`: those of the process."""
        self._counters = counters or Counters()
        self._channels: dict[Hashable, deque[FanOut]] = {}
        self._count = 0
        self._limit = limit
        self.run_queue = run_queue

    def __len__(self) -> int:
        """Return how many pieces of work are under way."""
        return self._count

    def start(self, work: FanOut, channel: Hashable) -> None:
        """Begin `work` now, or behind the work that is under way on `channel`. Raises `TooManyRequests`.

        Work that fits in one slice is done when this returns.
        """
        if self._count >= self._limit:
            raise TooManyRequests(
                f"{self._count} publishes are under way, as many as MAX_PUBLISHES allows: wait for their answers.",
                RETRY_AFTER,
            )
        waiting = self._channels.get(channel)
        if waiting is not None:
            waiting.append(work)
            self._count += 1
        elif not self._advance(work):
            self._channels[channel] = deque([work])
            self._count += 1
            self.run_queue.add(partial(self._take_turn, channel))

    def stop(self) -> None:
        """Drop the work that is under way. Its `on_done` is not called."""
        self._channels.clear()
        self._count = 0

    def _advance(self, work: FanOut) -> bool:
        timer = self.run_queue.timer
        work.is_done = work.advance(timer, timer() + FAN_OUT_SLICE_S)
        if work.is_done:
            work.count(self._counters)
        return work.is_done

    def _take_turn(self, channel: Hashable) -> None:
        waiting = self._channels.get(channel)
        if waiting is None:
            return
        work = waiting[0]
        if self._advance(work):
            waiting.popleft()
            self._count -= 1
            if not waiting:
                # Before the call, which may start more work on this channel.
                del self._channels[channel]
            work.on_done()
        if waiting:
            self.run_queue.add(partial(self._take_turn, channel))


def _ignore() -> None:
    """Do nothing."""
