"""Lets gateways watch every connection, as if somebody followed it in the console."""

from typing import Any

from wsaas.api.console.console import Console
from wsaas.watching.watcher import HandshakeFollower, Watch

ALL = 10**9


class Everything(HandshakeFollower):
    """Follows all connections, and makes JSON of all that happens."""

    def __init__(self) -> None:
        self.path = None
        self.wanted = ALL
        self._positions: dict[Watch, int] = {}

    def begin(self, watch: Watch) -> None:
        self._positions[watch] = 0

    def advance(self) -> None:
        for watch, position in self._positions.items():
            for index in range(max(position, watch.ring.first), watch.ring.count):
                watch.ring.get(index).to_json()
            self._positions[watch] = watch.ring.count

    def check(self, now: float) -> None:
        pass


class WatchingConsole(Console):
    """A console that watches every connection."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        everything = Everything()
        self.watcher.add(everything)
        self.watcher.await_handshakes(everything)
