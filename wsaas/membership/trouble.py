"""Log lines about the trouble with NATS: one when it begins, one a minute, and one when it is over."""

from collections.abc import Callable
from typing import Final

from wsaas.log import logger
from wsaas.log.throttle import throttle

REMINDER_S: Final = 60.0


class Trouble:
    """`details` returns what is not replicated, for people; empty for nothing."""

    def __init__(self) -> None:
        """Start without trouble."""
        self._due = 0.0
        self._since: float | None = None
        self.details: Callable[[], str] = lambda: ""

    @property
    def is_over(self) -> bool:
        """Whether there is none."""
        return self._since is None

    def found(self, why: str, now: float) -> None:
        """Note that something failed."""
        if self._since is None:
            self._since = now
            self._due = now + REMINDER_S
            throttle.warning(("NATS", "trouble"), "no contact with the cluster: %s%s", why, self._details())
        elif now >= self._due:
            self._due = now + REMINDER_S
            logger.warning("no contact with the cluster for %d s: %s%s", now - self._since, why, self._details())

    def solved(self, now: float) -> None:
        """Note that everything works."""
        if self._since is not None:
            seconds, self._since = now - self._since, None
            throttle.warning(("NATS", "trouble over"), "in contact with the cluster again after %.1f s", seconds)

    def _details(self) -> str:
        details = self.details()
        return f"; {details}" if details else ""
