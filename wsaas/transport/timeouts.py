"""One timer for all: every so often it sweeps what is watched.

What came in time is read before a sweep judges who is late, also after a stall (see `clock.AfterReading`). A beat that
is late itself, by as long as there is between two, puts its sweeps off by `GRACE_S`: what was read may take further
turns of the loop, and connections to the backend that are being opened need some. It does so once; the next one sweeps.
"""

import math
from collections.abc import Callable

from wsaas.clock import GRACE_S, STALL_S, AfterReading, Clock, Timer
from wsaas.settings import Settings
from wsaas.transport.context import HasDeadline

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
    return min(LONGEST, max(SHORTEST, min(time for time in times if time) / BEATS))


SLICE, TICK = 100, 0.001
"""Sweeps, at least, that are made at a time, and the seconds to the next time."""

SPREAD = 2
"""The part (one in so many) of the time between two beats over which sweeps are spread where they are many. All those
of 100,000 clients at once would take 70 ms, and a second where each is pinged and answers."""

GROUPS = 509
"""Those who are watched are kept in so many groups. A list of 100,000 that is made for a moment costs more than to
make it: the garbage collector may come by, and looks at each of them."""


class Timeouts:
    """Sweeps whatever is watched, every `seconds`, a few at a time."""

    def __init__(self, clock: Clock, seconds: float, *sweeps: Callable[[float], None]) -> None:
        """Call `sweeps` too, at each beat, with the time."""
        self._clock = clock
        self._seconds = seconds
        self._sweeps = sweeps
        self._timer: Timer | None = None
        self._reading: Timer | None = None
        self._turn: Timer | None = None
        self._marks = (0.0, 0.0)
        self._is_late = False
        self._groups: list[set[HasDeadline]] = [set() for _ in range(GROUPS)]
        self._left: list[set[HasDeadline]] = []
        self._count = 0
        self._slice = SLICE

    def __len__(self) -> int:
        """Return how many are watched: every transport that was accepted and is not closed is."""
        return self._count

    def watched(self) -> list[HasDeadline]:
        """Return what is watched."""
        return [what for group in self._groups for what in group]

    def watch(self, what: HasDeadline) -> None:
        """Sweep `what` from now on."""
        group = self._groups[hash(what) % GROUPS]
        self._count += what not in group
        group.add(what)

    def forget(self, what: HasDeadline) -> None:
        """Sweep `what` no more; harmless when it is not watched."""
        group = self._groups[hash(what) % GROUPS]
        self._count -= what in group
        group.discard(what)

    def start(self) -> None:
        """Beat from now on."""
        self._set_timer(self._seconds)

    def stop(self) -> None:
        """Beat no more."""
        for timer in (self._timer, self._reading, self._turn):
            if timer is not None:
                timer.cancel()

    def _set_timer(self, seconds: float) -> None:
        self._timer = self._clock.call_later(seconds, self._beat, self._clock.now() + seconds)

    def _beat(self, due: float) -> None:
        self._is_late = not self._is_late and self._clock.now() - due >= max(STALL_S, self._seconds)
        if self._is_late:
            self._set_timer(GRACE_S)
            return
        # The next one first: a fault in a sweep must not be the end of all.
        self._set_timer(self._seconds)
        self._reading = AfterReading(self._clock, self._sweep)

    def _sweep(self, now: float) -> None:
        if not self._left:
            self._left = [group for group in self._groups if group]
            self._slice = max(SLICE, math.ceil(self._count * TICK * SPREAD / self._seconds))
            self._marks = (now, now)
            self._go_on()
        for sweep in self._sweeps:
            sweep(now)

    def _go_on(self) -> None:
        some: list[tuple[HasDeadline, set[HasDeadline]]] = []
        while self._left and len(some) < self._slice:
            group = self._left.pop()
            some += [(what, group) for what in group]
        self._turn = self._clock.call_later(TICK, self._go_on) if self._left else None
        # What arrived up to the time of the slice before the last was read since then. Not what came since the last
        # one, if there was a stall.
        now, before = self._marks
        self._marks = (before, self._clock.now())
        for what, group in some:
            # It may have been forgotten by what the sweep of another set off.
            if what in group:
                what.sweep(now)
