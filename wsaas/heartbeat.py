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


SLICE = 250
"""Sweeps after which others have their turn: those of 100,000 clients take 70 ms, and more where they are pinged."""


class Heartbeat:
    """Sweeps whatever is watched, every `seconds`, a few at a time."""

    def __init__(self, clock: Clock, seconds: float, *sweeps: Callable[[float], None]) -> None:
        """Call `sweeps` too, at each beat, with the time."""
        self._clock = clock
        self._seconds = seconds
        self._sweeps = sweeps
        self._timer: Timer | None = None
        self._turn: Timer | None = None
        self._left: list[Swept] = []
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
        for timer in (self._timer, self._turn):
            if timer is not None:
                timer.cancel()

    def _beat(self) -> None:
        # The next one first: a fault in a sweep must not be the end of all.
        self.start()
        if not self._left:
            self._left = list(self._watched)
            self._go_on()
        now = self._clock.now()
        for sweep in self._sweeps:
            sweep(now)

    def _go_on(self) -> None:
        some = self._left[-SLICE:]
        del self._left[-SLICE:]
        self._turn = self._clock.call_later(0.0, self._go_on) if self._left else None
        now = self._clock.now()
        for what in some:
            # It may have been forgotten since the beat.
            if what in self._watched:
                what.sweep(now)
