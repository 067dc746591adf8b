"""Time, as the upper floors see it: one object that a test can replace by a clock it turns by hand."""

import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, Protocol

STALL_S = 0.1
"""A timer that is so many seconds late shows that the process stood still: it was stopped, or its host is slow."""

GRACE_S = 0.5
"""Seconds that everything has after a stall before it is judged to be late: to read what came, and to act on it."""


class Timer(Protocol):
    """A call that was put off and can still be taken back."""

    def cancel(self) -> None:
        """Take the call back; harmless when it was made already."""


class _NoTimer:
    """Stands in where no call was put off."""

    __slots__ = ()

    def cancel(self) -> None:
        """Do nothing."""


NO_TIMER: Timer = _NoTimer()


class Loop(Protocol):
    """The part of an event loop that a clock needs."""

    def time(self) -> float:
        """Seconds on a clock that never steps back."""

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any) -> Timer:
        """Call `callback(*args)` in `delay` seconds."""


class Clock:
    """`now()`: monotonic seconds; `wall()`: seconds since the epoch; `call_later(seconds, callback, *args)`."""

    __slots__ = ("call_later", "now", "wall")

    def __init__(self, loop: Loop) -> None:
        """Read time from `loop`."""
        self.now: Callable[[], float] = loop.time
        self.wall: Callable[[], float] = time.time
        self.call_later: Callable[..., Timer] = loop.call_later


class AfterPoll:
    """Calls `call(now)` soon, with a time up to which everything that arrived was read by then.

    For code that decides that something did not arrive in time. A timer may go off before the loop reads its sockets:
    after a stall, everything that came meanwhile would count as late.
    """

    __slots__ = ("_call", "_clock", "_timer")

    def __init__(self, clock: Clock, call: Callable[[float], None]) -> None:
        """Start; from a timer, as a rule."""
        self._clock = clock
        self._call = call
        # In each turn, the loop makes the calls that are due at once, then it polls, and then it looks at its timers.
        # This call is made before the next poll, and the one that follows it behind that.
        self._timer = clock.call_later(0.0, self._mark)

    def cancel(self) -> None:
        """Take the call back; harmless when it was made already."""
        self._timer.cancel()

    def _mark(self) -> None:
        self._timer = self._clock.call_later(0.0, self._call, self._clock.now())


class _Second:
    """The text of the second formatted last: most time stamps share theirs with the one before."""

    number = -1
    text = ""


def rfc3339(at: float) -> str:
    """Format `at` (seconds since the epoch) in UTC with milliseconds, as `2026-01-31T12:00:00.123Z` (RFC 3339)."""
    milliseconds = int(at * 1000)
    second = milliseconds // 1000
    if second != _Second.number:
        _Second.text = datetime.fromtimestamp(second, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
        _Second.number = second
    return f"{_Second.text}.{milliseconds - second * 1000:03d}Z"
