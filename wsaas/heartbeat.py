"""One timer for all: every so often it sweeps what is watched."""

import math
from collections.abc import Callable

from wsaas.clock import Clock, Timer
from wsaas.common import Swept
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
        settings.api_connection_age,
    )
    return min(LONGEST, max(SHORTEST, min(time for time in times if time) / 1000 / BEATS))


SLICE, TICK = 100, 0.001
"""Sweeps, at least, that are made at a time, and the seconds to the next time."""

SPREAD = 2
"""The part (one in so many) of the time between two beats over which sweeps are spread where they are many. All those
of 100,000 clients at once would take 70 ms, and a second where each is pinged and answers."""

GROUPS = 509
"""Those who are watched are kept in so many groups. A list of 100,000 that is made for a moment costs more than to
make it: the garbage collector may come by, and looks at each of them."""


class Heartbeat:
    """Sweeps whatever is watched, every `seconds`, a few at a time."""

    def __init__(self, clock: Clock, seconds: float, *sweeps: Callable[[float], None]) -> None:
        """Call `sweeps` too, at each beat, with the time."""
        self._clock = clock
        self._seconds = seconds
        self._sweeps = sweeps
        self._timer: Timer | None = None
        self._turn: Timer | None = None
        self._groups: list[set[Swept]] = [set() for _ in range(GROUPS)]
        self._left: list[set[Swept]] = []
        self._count = 0
        self._slice = SLICE

    def __len__(self) -> int:
        """Return how many are watched: every transport that was accepted and is not closed is."""
        return self._count

    def watched(self) -> list[Swept]:
        """Return what is watched."""
        return [what for group in self._groups for what in group]

    def watch(self, what: Swept) -> None:
        """Sweep `what` from now on."""
        group = self._groups[hash(what) % GROUPS]
        self._count += what not in group
        group.add(what)

    def forget(self, what: Swept) -> None:
        """Sweep `what` no more; harmless when it is not watched."""
        group = self._groups[hash(what) % GROUPS]
        self._count -= what in group
        group.discard(what)

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
            self._left = [group for group in self._groups if group]
            self._slice = max(SLICE, math.ceil(self._count * TICK * SPREAD / self._seconds))
            self._go_on()
        now = self._clock.now()
        for sweep in self._sweeps:
            sweep(now)

    def _go_on(self) -> None:
        some: list[tuple[Swept, set[Swept]]] = []
        while self._left and len(some) < self._slice:
            group = self._left.pop()
            some += [(what, group) for what in group]
        self._turn = self._clock.call_later(TICK, self._go_on) if self._left else None
        now = self._clock.now()
        for what, group in some:
            # It may have been forgotten by what the sweep of another set off.
            if what in group:
                what.sweep(now)
