"""Reports what a node does to systemd: that it is ready, reloads, stops, and still answers."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from wsaas.clock import NO_TIMER, Timer
from wsaas.systemd.notifier import Notifier

STATUS_INTERVAL_S: Final = 10.0
"""Seconds between two reports without a watchdog."""

_MICROSECONDS: Final = 1_000_000
_FAILED: Final = "; a file could not be reloaded, see the log"


class Node(Protocol):
    """A gateway, or a supervisor of several."""

    def stop(self) -> None:
        """Drain. A second call cuts the drain short."""

    def reload(self, done: Callable[[bool], object], /) -> None:
        """Reload files, then call `done` with whether all of them could be used."""

    def summary(self) -> str:
        """Return what the node does, for people."""

    def is_alive(self) -> bool:
        """Whether clients are served. That this is called shows only that the loop of this process runs."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: how long the node may take to `start` and to `stop`, and the time-out of the `watchdog`, if any."""

    start: float
    stop: float
    watchdog: float | None = None


class Service:
    """A node as a service. The handlers of signals call this instead of the node.

    `start`, `stop` and `reload` may be called in any case; without systemd, they report nothing.
    """

    def __init__(self, node: Node, notifier: Notifier, limits: Limits) -> None:
        """Report nothing yet."""
        self._is_started = False
        self._is_stopping = False
        self._limits = limits
        self._node = node
        self._note = ""
        self._notifier = notifier
        self._owed: dict[str, str | int] = {}
        self._reloads = 0
        self._timer: Timer = NO_TIMER

    def starting(self) -> None:
        """Report how long the start may take, as it may have to wait for the journal of an earlier process."""
        self._notifier.send(EXTEND_TIMEOUT_USEC=_microseconds(self._limits.start))

    def started(self) -> None:
        """Report that the node accepts connections. From now on it is watched."""
        if self._notifier.is_on and not self._is_stopping:
            self._is_started = True
            self._tell(READY=1, STATUS=self._status())
            self._schedule()

    def stop(self) -> None:
        """Stop the node, and report how long that may take."""
        if not self._is_stopping:
            self._is_stopping = True
            limit = self._limits.stop
            # Tells how long to wait, whatever the unit says: nobody has to keep it and DRAIN_TIMEOUT in step.
            extended = _microseconds(limit)
            self._tell(STOPPING=1, STATUS=self._status(), EXTEND_TIMEOUT_USEC=extended)
        self._node.stop()

    def reload(self) -> None:
        """Reload files, and report when that begins and ends."""
        self._reloads += 1
        number = self._reloads
        if self._is_running():
            # Otherwise, a READY that is owed could end this reload.
            self._owed = {}
            # systemd tells from the time that this is about its own signal, and not an earlier one.
            self._notifier.send(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

        def done(is_complete: bool) -> None:
            # While another reload is in progress, READY would end that one.
            if number == self._reloads:
                self._note = "" if is_complete else _FAILED
                if self._is_running():
                    self._tell(READY=1, STATUS=self._status())

        self._node.reload(done)

    def close(self) -> None:
        """Report nothing any more."""
        self._timer.cancel()
        self._notifier.close()

    def _is_running(self) -> bool:
        """Whether READY tells about a reload: before the start is over, it would end the start."""
        return self._is_started and not self._is_stopping

    def _tell(self, **state: str | int) -> None:
        """Report a change of state. systemd waits for it: if it has no room now, the next report repeats it."""
        self._owed = {} if self._notifier.send(**state) else state

    def _schedule(self) -> None:
        watchdog = self._limits.watchdog
        interval = STATUS_INTERVAL_S if watchdog is None else watchdog / 2
        self._timer = asyncio.get_running_loop().call_later(interval, self._report)

    def _report(self) -> None:
        alive = {"WATCHDOG": 1} if self._limits.watchdog is not None and self._node.is_alive() else {}
        if self._notifier.send(**{**self._owed, **alive, "STATUS": self._status()}):
            self._owed = {}
        self._schedule()

    def _status(self) -> str:
        prefix = "stopping: " if self._is_stopping else ""
        return f"{prefix}{self._node.summary()}{self._note}"


def _microseconds(seconds: float) -> int:
    return int(seconds * _MICROSECONDS)
