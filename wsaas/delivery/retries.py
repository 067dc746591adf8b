"""The retries of one event: their window, their number and their delays."""

import math
import random
from typing import Final

from wsaas.log.wording import counted

FIRST_RETRY_DELAY_S: Final = 0.1
"""Seconds. The delay before the n-th retry is at most 2^n times this."""

MAX_RETRY_DELAY_S: Final = 10.0
"""Maximum seconds before a retry, unless the backend asks for more with `Retry-After`."""

_MAX_DOUBLINGS: Final = 16


class Retries:
    """The failed attempts to deliver one event, and the window (seconds) in which it is retried.

    `due`: when the next attempt is made (monotonic seconds), once `delay` was called.
    `failures`: attempts that failed after something was sent, so that the backend may have seen the event.
    """

    __slots__ = ("_deadline", "_window", "due", "failures")

    def __init__(self, window: float, now: float, failures: int = 0) -> None:
        """Begin the window `now` (monotonic seconds)."""
        self._deadline = now + window
        self._window = window
        self.due = now
        self.failures = failures

    def is_overdue(self, now: float, unreachable_s: float) -> bool:
        """Return whether to give up the event, after the backend was unreachable for `unreachable_s` seconds.

        After a failed attempt, the event is overdue at the end of the window. If no attempt reached the backend, the
        backend must also have been unreachable for a whole window.
        """
        return now >= self._deadline and (self.failures > 0 or unreachable_s >= self._window)

    def delay(self, now: float, least: float) -> float:
        """Return the seconds until the next attempt; at least `least`, the `Retry-After` of the backend.

        Exponential back-off with full jitter: a random time below a bound that doubles with each failure. The last
        attempt is made when the window ends, even if the backend has asked for a later one.
        """
        bound = min(MAX_RETRY_DELAY_S, FIRST_RETRY_DELAY_S * 2 ** min(self.failures, _MAX_DOUBLINGS))
        delay = max(random.uniform(0, bound), least)  # noqa: S311 - no secret
        if self.failures:
            delay = min(delay, self._deadline - now)
        self.due = now + delay
        return delay

    def explain(self, why: str) -> str:
        """Return `why` and the number of failed attempts, for the log."""
        return f"{why}, {counted(self.failures, 'time')}" if self.failures else why


NO_RETRIES: Final = Retries(math.inf, 0.0)
"""Used while an event has not failed."""
