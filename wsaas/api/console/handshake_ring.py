"""What this process records of the next handshakes for a viewer at another process of the node."""

from typing import Any, Final

import orjson

from wsaas.clock import Clock
from wsaas.watching.watcher import HandshakeFollower, Watch, Watcher

EXPIRES_S: Final = 5.0
"""Seconds without a request after which the viewer has left."""

MAX_PART: Final = 256 * 1024
"""Bytes of events in one answer, about."""


class RemoteHandshakes(HandshakeFollower):
    """Follows the next handshakes, and keeps its place in the rings between two requests."""

    def __init__(self, watcher: Watcher, clock: Clock, wanted: tuple[int, str | None]) -> None:
        """Begin. `wanted`: how many handshakes, and of which path. Raises `TooManyViewers`."""
        self.wanted, self.path = wanted
        self.is_gone = False
        self._asked_at = clock.now()
        self._clock = clock
        self._positions: dict[Watch, int] = {}
        self._watcher = watcher
        watcher.add(self)
        watcher.await_handshakes(self)

    def begin(self, watch: Watch) -> None:
        """Follow one more connection."""
        self.wanted -= 1
        self._positions[watch] = 0

    def advance(self) -> None:
        """Do nothing: the viewer asks."""

    def check(self, now: float) -> None:
        """Leave if nobody has asked for a while."""
        if now - self._asked_at >= EXPIRES_S:
            self.leave()

    def leave(self) -> None:
        """Follow nothing any more."""
        self.is_gone = True
        self._watcher.cancel_handshakes(self)
        self._watcher.leave(self)

    def take(self) -> dict[str, Any]:
        """Return the events since the last call."""
        self._asked_at = self._clock.now()
        events: list[orjson.Fragment] = []
        size = lost = 0
        for watch in self._positions:
            watch.recorder.look()
            ring, at = watch.ring, self._positions[watch]
            lost += max(0, ring.first - at)
            at = max(at, ring.first)
            while at < ring.count and size < MAX_PART:
                data = ring.get(at).to_json()
                size += len(data)
                events.append(orjson.Fragment(data))
                at += 1
            self._positions[watch] = at
        return {"code": "OK", "events": events, "lost": lost}
