"""Whether the backend is there, as all connections find out together.

Each connection retries for itself. But when the backend is down, thousands that retry for themselves are a flood for
whoever tries to come up: so they line up here, one at a time tries its luck, and when that one gets an answer the
others follow, two more for each answer.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from wsaas.clock import Clock, Timer
from wsaas.log import logger
from wsaas.pool import Failure, Outcome
from wsaas.responses import Response

PATIENCE = 16
"""So many failures in a row, of whatever clients, and the backend counts as down. One refused connection suffices."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
"""Seconds before the first probe of a backend that is down, and between two later ones at most."""

_SERVER_ERROR = 500


class Waiter(Protocol):
    """Who waits for the backend to be there."""

    def attempt(self) -> bool:
        """Try; return whether there was anything left to try."""

    def overdue(self, now: float) -> bool:
        """Return whether it waits in vain; it has given up then."""


class Health:
    """Lets everybody through while the backend answers; lines up those that would only try again while it does not."""

    def __init__(self, clock: Clock, went_down: Callable[[], None]) -> None:
        """Take the backend to be there until it shows otherwise; then call `went_down`."""
        self._clock = clock
        self._went_down = went_down
        self._failures = 0
        self._line: deque[Waiter] = deque()
        self._pause = FIRST_PAUSE
        self._probe: Waiter | None = None
        self._timer: Timer | None = None
        self.is_down = False

    def __len__(self) -> int:
        """Return how many are lined up."""
        return len(self._line)

    def wait(self, waiter: Waiter) -> None:
        """Line up until the backend is there; only while it `is_down`."""
        self._line.append(waiter)
        self._probe_later()

    def observe(self, waiter: Waiter, outcome: Outcome) -> None:
        """Learn from what became of a request of `waiter`."""
        if not isinstance(outcome, Response):
            self._failed(waiter, _WEIGHTS[outcome])
        elif outcome.status >= _SERVER_ERROR:
            self._failed(waiter, 1)
        elif self._failures or self._line:
            self._worked()

    def sweep(self, now: float) -> None:
        """Let go of those that wait in vain."""
        if self._line:
            line, self._line = self._line, deque()
            self._line.extendleft(reversed([waiter for waiter in line if not waiter.overdue(now)]))

    def stop(self) -> None:
        """Let nobody try any more."""
        self._line.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _failed(self, waiter: Waiter, weight: int) -> None:
        self._failures += weight
        if self._failures >= PATIENCE and not self.is_down:
            self.is_down = True
            self._pause = FIRST_PAUSE
            logger.warning("the backend is down: requests wait")
            self._went_down()
        if not self.is_down:
            self._release(1)
            return
        if waiter is self._probe:
            self._probe = None
            self._pause = min(LONGEST_PAUSE, self._pause * 2)
        self._probe_later()

    def _worked(self) -> None:
        self._failures = 0
        # Whoever was the probe is one of many now, whose failure says no more than that of others.
        self._probe = None
        if self.is_down:
            self.is_down = False
            logger.info("the backend answers again: %d wait", len(self._line))
        self._release(2)

    def _release(self, number: int) -> None:
        while self._line and number:
            number -= self._line.popleft().attempt()

    def _probe_later(self) -> None:
        if self._line and self._probe is None and self._timer is None:
            self._timer = self._clock.call_later(self._pause, self._probe_now)

    def _probe_now(self) -> None:
        self._timer = None
        if not self.is_down:
            return
        while self._line and self._probe is None:
            waiter = self._line.popleft()
            if waiter.attempt():
                self._probe = waiter


_WEIGHTS = {
    Failure.UNREACHABLE: PATIENCE,
    Failure.CROWDED: 0,
    Failure.BROKEN: 1,
    Failure.GARBLED: 1,
    Failure.TIMED_OUT: 1,
}
