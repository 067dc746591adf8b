"""Throttles log lines that could repeat thousands of times a second.

The first line about a cause is logged at once, and starts an interval of one second. Further lines within an interval
are only counted. At its end, the latest of them is logged with their number, and the next interval is twice as long, up
to a minute. A cause without lines for a minute is forgotten.

A line whose arguments are fields (see `log.formats`) gets two more: `repeated`, the number, and `within_s`.
"""

import logging
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Final

from wsaas.log import logger

MIN_INTERVAL_S: Final = 1.0
MAX_INTERVAL_S: Final = 60.0
"""Seconds between two lines about one cause: initially, and at most."""

MAX_CAUSES: Final = 256
"""Maximum number of causes that are tracked. All others count as one cause."""

_OTHER_CAUSE: Final = "any other cause"


class _Cause:
    """The lines about one cause. `count`: lines since the last logged one; `message`, `args`: the latest line."""

    __slots__ = ("args", "count", "interval", "last_at", "level", "logged_at", "message")

    def __init__(self, now: float) -> None:
        self.interval = MIN_INTERVAL_S
        self.last_at = self.logged_at = now
        self.count = 0
        self.level = logging.NOTSET
        self.message = ""
        self.args: tuple[object, ...] = ()

    def is_due(self, now: float) -> bool:
        """Return whether a line may be logged at `now`."""
        return now >= self.logged_at + self.interval

    def note_logged(self, now: float) -> None:
        """Start the next interval."""
        self.interval = min(MAX_INTERVAL_S, self.interval * 2)
        self.logged_at = now
        self.count = 0
        self.args = ()


class LogThrottle:
    """Logs to `logger`. A line is formatted only if it is logged."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Read the time with `now`, in monotonic seconds."""
        self._now = now
        self._causes: dict[Hashable, _Cause] = {}

    def info(self, cause: Hashable, message: str, *args: object) -> None:
        """Log `message % args` at INFO, or count it if a line about the same `cause` was logged too recently."""
        self._log(logging.INFO, cause, message, args)

    def warning(self, cause: Hashable, message: str, *args: object) -> None:
        """Log at WARN, as `info` does at INFO."""
        self._log(logging.WARNING, cause, message, args)

    def error(self, cause: Hashable, message: str, *args: object) -> None:
        """Log at ERROR, as `info` does at INFO."""
        self._log(logging.ERROR, cause, message, args)

    def log_due(self, now: float) -> None:
        """Log the counted lines of all intervals that are over at `now`. Call it about once a second."""
        for key, cause in [*self._causes.items()]:
            if cause.count and cause.is_due(now):
                self._summarize(cause, now)
            elif now >= cause.last_at + MAX_INTERVAL_S:
                del self._causes[key]

    def flush(self) -> None:
        """Log all counted lines and forget all causes. Call it at the end of the process."""
        now = self._now()
        for cause in self._causes.values():
            if cause.count:
                self._summarize(cause, now)
        self._causes.clear()

    def _log(self, level: int, key: Hashable, message: str, args: tuple[object, ...]) -> None:
        cause = self._causes.get(key)
        if cause is None and len(self._causes) >= MAX_CAUSES:
            key = _OTHER_CAUSE
            cause = self._causes.get(key)
        now = self._now()
        if cause is None:
            self._causes[key] = _Cause(now)
            logger.log(level, message, *args)
            return
        cause.last_at = now
        if not cause.count and cause.is_due(now):
            cause.note_logged(now)
            logger.log(level, message, *args)
        else:
            cause.count += 1
            cause.level, cause.message, cause.args = level, message, args

    def _summarize(self, cause: _Cause, now: float) -> None:
        seconds = max(1, round(now - cause.logged_at))
        if len(cause.args) == 1 and isinstance(fields := cause.args[0], Mapping):
            more = {**fields, "repeated": cause.count, "within_s": seconds}
            logger.log(cause.level, cause.message + " (%(repeated)d more in %(within_s)d s)", more)
        else:
            logger.log(cause.level, cause.message + " (%d more in %d s)", *cause.args, cause.count, seconds)
        cause.note_logged(now)


throttle = LogThrottle()
"""The only throttle of the process, like `logger`."""
