"""A limit on log lines that may repeat thousands of times a second.

The first line of a cause is logged at once. Then no line of this cause is logged for one second, after the next line
for two seconds, then four, and so on up to a minute. Lines within such an interval are counted, and the latest of them
is logged at its end with their number. A cause without lines for a minute is forgotten.
"""

import logging
import time
from collections.abc import Callable, Hashable

from wsaas.log import logger

MIN_INTERVAL_S, MAX_INTERVAL_S = 1.0, 60.0
"""Seconds between two lines of one cause, at first and at most."""

MAX_CAUSES = 256
"""Causes that are tracked at a time. All others count as one."""

_OTHER_CAUSE = "any other cause"


class _Cause:
    """The lines of one cause. `count`: lines since the last one that was logged; `message`, `args`: the latest."""

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
        """Begin the next interval."""
        self.interval = min(MAX_INTERVAL_S, self.interval * 2)
        self.logged_at = now
        self.count = 0
        self.args = ()


class LogThrottle:
    """Logs to the logger of `wsaas`. Arguments are formatted only when their line is logged."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Start with no causes; `now` gives monotonic seconds."""
        self._now = now
        self._causes: dict[Hashable, _Cause] = {}

    def info(self, cause: Hashable, message: str, *args: object) -> None:
        """Log `message % args` at INFO, unless a line of the same `cause` was logged too recently."""
        self._log(logging.INFO, cause, message, args)

    def warning(self, cause: Hashable, message: str, *args: object) -> None:
        """Log at WARN, as `info` does at INFO."""
        self._log(logging.WARNING, cause, message, args)

    def error(self, cause: Hashable, message: str, *args: object) -> None:
        """Log at ERROR, as `info` does at INFO."""
        self._log(logging.ERROR, cause, message, args)

    def log_due(self, now: float) -> None:
        """Log what was counted in the intervals that are over at `now`. To be called about once a second."""
        for key, cause in [*self._causes.items()]:
            if cause.count and cause.is_due(now):
                self._summarize(cause, now)
            elif now >= cause.last_at + MAX_INTERVAL_S:
                del self._causes[key]

    def flush(self) -> None:
        """Log what was counted so far, and forget all causes. For the end of the process."""
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
        logger.log(cause.level, cause.message + " (%d more in %d s)", *cause.args, cause.count, seconds)
        cause.note_logged(now)


throttle = LogThrottle()
"""The one of the process, like `logger`."""
