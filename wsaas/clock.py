"""The time and the timers of the event loop, behind an interface that tests replace."""

import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, ClassVar, Final, Protocol

STALL_S: Final = 0.1
"""Lateness of a timer, in seconds, that shows a stall: the process was stopped, or its host is slow."""

GRACE_S: Final = 0.5
"""Seconds that time-outs are extended after a stall, to read and handle what arrived meanwhile."""


class Timer(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Cancel the call. Does nothing if it was made already."""


class _NoTimer:
    """A timer without a scheduled call."""

    __slots__ = ()

    def cancel(self) -> None:
        """Do nothing."""


NO_TIMER: Final[Timer] = _NoTimer()


class Loop(Protocol):
    """The methods of an event loop that a clock uses."""

    def time(self) -> float:
        """Return the monotonic time in seconds."""

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any) -> Timer:
        """Call `callback(*args)` in `delay` seconds."""


class Clock:
    """`now()`: monotonic seconds; `wall()`: seconds since the epoch; `call_later(seconds, callback, *args)`."""

    __slots__ = ("call_later", "now", "wall")

    def __init__(self, loop: Loop) -> None:
        """Use the time and the timers of `loop`."""
        self.now: Callable[[], float] = loop.time
        self.wall: Callable[[], float] = time.time
        self.call_later: Callable[..., Timer] = loop.call_later


class AfterPoll:
    """Calls `call(now)` after the loop has polled its sockets, so that all data that arrived before `now` was read.

    Use it to decide that something did not arrive in time. A timer alone may fire before the loop reads its sockets.
    After a stall, all data that arrived meanwhile would then count as late.
    """

    __slots__ = ("_call", "_clock", "_timer")

    def __init__(self, clock: Clock, call: Callable[[float], None]) -> None:
        """Schedule the call. Create this object in the callback of a timer."""
        self._clock = clock
        self._call = call
        # In each turn the loop makes the calls that are due at once, polls, and then runs its timers. So `_mark` runs
        # before the next poll, and the call that it schedules runs after this poll.
        self._timer = clock.call_later(0.0, self._mark)

    def cancel(self) -> None:
        """Cancel the call. Does nothing if it was made already."""
        self._timer.cancel()

    def _mark(self) -> None:
        self._timer = self._clock.call_later(0.0, self._call, self._clock.now())


_MILLISECONDS: Final = tuple(f".{number:03d}Z" for number in range(1000))
"""The end of a time stamp by its milliseconds. A look-up takes half the time of formatting the number."""


class _Second:
    """The last formatted second. Most time stamps share it."""

    number: ClassVar[int] = -1
    text: ClassVar[str] = ""


def rfc3339(at: float) -> str:
    """Format `at` (seconds since the epoch) in UTC with milliseconds, as `2026-01-31T12:00:00.123Z` (RFC 3339)."""
    milliseconds = int(at * 1000)
    second = milliseconds // 1000
    if second != _Second.number:
        _Second.text = datetime.fromtimestamp(second, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
        _Second.number = second
    return _Second.text + _MILLISECONDS[milliseconds - second * 1000]
