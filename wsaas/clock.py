"""Time, as the upper floors see it: one object that a test can replace by a clock it turns by hand."""

import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, Protocol


class Timer(Protocol):
    """A call that was put off and can still be taken back."""

    def cancel(self) -> None:
        """Take the call back; harmless when it was made already."""


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
