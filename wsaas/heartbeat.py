"""One timer for all: every so often it sweeps what is watched."""

from collections.abc import Callable

from wsaas.client import Swept
from wsaas.clock import Clock, Timer
from wsaas.settings import Settings

BEATS = 10
"""Beats within the shortest time-out: so late, at most, a time-out is noticed (a tenth of itself)."""

SHORTEST, LONGEST = 0.01, 1.0
"""Bounds of the time between two beats, in seconds."""


def period(settings: Settings) -> float:
    """Return the seconds between two beats that the time-outs of `settings` ask for."""
    times = (
        settings.ws_timeout,
        settings.handshake_timeout,
        settings.keep_alive_timeout,
        settings.api_timeout,
    )
    return min(LONGEST, max(SHORTEST, min(time for time in times if time) / 1000 / BEATS))


class Heartbeat:
    """Sweeps whatever is watched, every `seconds`."""

    def __init__(self, clock: Clock, seconds: float, *sweeps: Callable[[float], None]) -> None:
        """Call `sweeps` too, at each beat, with the time."""
        self._clock = clock
        self._seconds = seconds
        self._sweeps = sweeps
        self._timer: Timer | None = None
        self._watched: set[Swept] = set()

    def __len__(self) -> int:
        """Return how many are watched: every transport that was accepted and is not closed is."""
        return len(self._watched)

    def watched(self) -> list[Swept]:
        """Return what is watched."""
        return list(self._watched)

    def watch(self, what: Swept) -> None:
        """Sweep `what` from now on."""
        self._watched.add(what)

    def forget(self, what: Swept) -> None:
        """Sweep `what` no more; harmless when it is not watched."""
        self._watched.discard(what)

    def start(self) -> None:
        """Beat from now on."""
        self._timer = self._clock.call_later(self._seconds, self._beat)

    def stop(self) -> None:
        """Beat no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        # The next one first: a fault in a sweep must not be the end of all.
        self.start()
        now = self._clock.now()
        for what in list(self._watched):
            what.sweep(now)
        for sweep in self._sweeps:
            sweep(now)
