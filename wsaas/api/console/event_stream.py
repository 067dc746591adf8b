"""Streams of the events that this process records."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from wsaas.api.console.remote_stream import Poll, remote_events
from wsaas.api.console.viewer_stream import ViewerStream, lost_event, sse
from wsaas.clock import Clock
from wsaas.http.serialize import OK, OutgoingResponse
from wsaas.http.streamed import Sink
from wsaas.watching.events import WatchedEvent
from wsaas.watching.watcher import HandshakeFollower, Watch, Watcher

MAX_PIECE: Final = 32 * 1024
"""Bytes that are written to one viewer in one turn of the loop, about."""

TURN_S: Final = 0.0002
"""Seconds that one viewer takes of a turn of the loop, about: most of them to make JSON of what was recorded."""


class EventStream(ViewerStream):
    """The events of connections of this process, from their rings.

    `_positions`: the index of the next event to send, for each connection.
    """

    def __init__(self, watcher: Watcher, clock: Clock, hello: Mapping[str, Any]) -> None:
        """Send `hello` first."""
        super().__init__(watcher, clock)
        self._hello = hello
        self._positions: dict[Watch, int] = {}

    def start(self, sink: Sink) -> None:
        """Begin."""
        self._sink = sink
        self._watcher.add(self)
        self._write(sse("hello", orjson.dumps({"kind": "hello", **self._hello})))
        for watch in self._positions:
            self._watcher.follow(watch, self)
        self.advance()

    def skip_to(self, watch: Watch, seq: int) -> None:
        """Send the events of a connection that are younger than the one with this number."""
        self._positions[watch] = watch.ring.index_after(seq)

    def advance(self) -> None:
        """Send what is new, for a part of this turn. More follows in a later one, or when the viewer has caught up."""
        if self._sink.is_full:
            return
        data = bytearray()
        timer = self._watcher.timer
        end = timer() + TURN_S
        while piece := self._next():
            data += piece
            if len(data) >= MAX_PIECE or timer() >= end:
                self._write(bytes(data))
                self._watcher.notify()
                return
        if data:
            self._write(bytes(data))
        if self._is_over():
            self._end()

    def _next(self) -> bytes:
        """Return the next event of all connections, in the order of their numbers; empty if there is none."""
        oldest: tuple[Watch, WatchedEvent] | None = None
        for watch, position in self._positions.items():
            ring = watch.ring
            if position < ring.first:
                self._positions[watch] = ring.first
                return lost_event(ring.first - position)
            if position < ring.count:
                event = ring.get(position)
                if oldest is None or event.seq < oldest[1].seq:
                    oldest = watch, event
        if oldest is None:
            return b""
        watch, event = oldest
        self._positions[watch] += 1
        return sse(event.kind, event.to_json(), event.seq)

    def _is_over(self) -> bool:
        """Whether nothing further can come, given that everything was sent."""
        return all(watch.is_complete for watch in self._positions)


class ConnectionStream(EventStream):
    """The events of one connection."""

    def __init__(self, watcher: Watcher, clock: Clock, watch: Watch, hello: Mapping[str, Any]) -> None:
        """Follow `watch`."""
        super().__init__(watcher, clock, hello)
        self._positions[watch] = 0


class HandshakeStream(EventStream, HandshakeFollower):
    """The events of the next connections, from their handshakes on."""

    def __init__(
        self, watcher: Watcher, clock: Clock, wanted: tuple[int, str | None], hello: Mapping[str, Any]
    ) -> None:
        """Follow the next handshakes: `wanted` says how many, and of which path."""
        super().__init__(watcher, clock, hello)
        self.wanted, self.path = wanted
        self.polls: list[Poll] = []
        """Ask the other workers of the node."""
        self._missed = 0
        self._remote: dict[str, bool] = {}
        # The connections of other workers, and whether nothing further comes of them.

    def take_over(self, seq: int) -> None:
        """Continue for a viewer that has lost its stream: it has the events up to the one with this number."""
        for watch in self._watcher.left(self.path):
            self.skip_to(watch, seq)

    def start(self, sink: Sink) -> None:
        """Begin."""
        self._watcher.await_handshakes(self)
        super().start(sink)
        for poll in self.polls:
            poll.ask()

    def begin(self, watch: Watch) -> None:
        """Follow one more connection."""
        self.wanted -= 1
        self._positions[watch] = 0

    def cancel(self) -> None:
        """The viewer left, or the node is stopping."""
        self._stop_waiting()
        super().cancel()

    def add_answer(self, answer: OutgoingResponse) -> None:
        """Send what another worker has recorded. Further handshakes than wanted are left out."""
        if answer.status != OK.status:
            return
        part = orjson.loads(answer.body)
        events = [event for event in part["events"] if self._is_wanted(event)]
        self._missed += part["lost"]
        if self._sink.is_full:
            self._missed += len(events)
            return
        lost, self._missed = self._missed, 0
        if data := (lost_event(lost) if lost else b"") + remote_events(events):
            self._write(data)
        self.advance()

    def _is_wanted(self, event: dict[str, Any]) -> bool:
        connection = event["connection"]
        if connection not in self._remote:
            if self.wanted <= 0:
                return False
            self.wanted -= 1
            self._remote[connection] = False
            if self.wanted <= 0:
                self._watcher.cancel_handshakes(self)
        self._remote[connection] = event["kind"] == "end"
        return True

    def _stop_waiting(self) -> None:
        self._watcher.cancel_handshakes(self)
        for poll in self.polls:
            poll.stop()

    def _end(self) -> None:
        self._stop_waiting()
        super()._end()

    def _is_over(self) -> bool:
        return self.wanted <= 0 and all(self._remote.values()) and super()._is_over()
