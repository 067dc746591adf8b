"""The stream of a connection that another process holds: this process asks it for news again and again."""

from collections.abc import Callable
from functools import partial
from typing import Final

import orjson

from wsaas.api.console.viewer_stream import ViewerStream, lost_event, sse
from wsaas.clock import NO_TIMER, Clock
from wsaas.cluster.router import Peer
from wsaas.errors import Forbidden, Gone, HTTPError, NotFound, Unauthorized
from wsaas.http.deferred import PENDING, DeferredResponse
from wsaas.http.headers import Head
from wsaas.http.request import Request
from wsaas.http.serialize import OK, OutgoingResponse, error_response
from wsaas.http.streamed import Sink
from wsaas.watching.watcher import Watcher

POLL_S: Final = 0.1
"""Seconds between an answer and the next request. The peer answers at once, so nothing waits behind it on the link."""

_FINAL: Final = {each.status for each in (Forbidden, Gone, NotFound, Unauthorized)}
"""Answers after which it is of no use to ask again: the viewer is not allowed, or that process has no console."""


class Poll:
    """Asks a peer for news until it is stopped.

    `request`: makes a request. `on_answer`: called with each answer.
    """

    __slots__ = ("_clock", "_deferred", "_is_stopped", "_on_answer", "_request", "_timer")

    def __init__(
        self, clock: Clock, request: Callable[[], DeferredResponse], on_answer: Callable[[OutgoingResponse], None]
    ) -> None:
        """Ask nothing yet."""
        self._clock = clock
        self._deferred: DeferredResponse | None = None
        self._is_stopped = False
        self._on_answer = on_answer
        self._request = request
        self._timer = NO_TIMER

    def ask(self) -> None:
        """Ask now, and again after each answer."""
        try:
            self._deferred = self._request()
        except HTTPError as error:
            self._answered(error_response(error))
        else:
            self._deferred.on_response(self._answered)

    def stop(self) -> None:
        """Ask nothing any more."""
        self._is_stopped = True
        self._timer.cancel()
        if self._deferred is not None and self._deferred.state is PENDING:
            self._deferred.cancel()

    def _answered(self, answer: OutgoingResponse) -> None:
        self._deferred = None
        self._on_answer(answer)
        if not self._is_stopped:
            self._timer = self._clock.call_later(POLL_S, self.ask)


class RemoteConnectionStream(ViewerStream):
    """Reads the ring of a connection at the peer that holds it."""

    def __init__(self, watcher: Watcher, clock: Clock, forward: Callable[[bytes], DeferredResponse], seq: int) -> None:
        """`forward` sends a GET with a query to the ring. `seq`: of the last event that the viewer has."""
        super().__init__(watcher, clock)
        self._forward = forward
        self._is_new = True
        self._poll = Poll(clock, self._request, self._answered)
        self._query = b"seq=%d" % seq

    def start(self, sink: Sink) -> None:
        """Begin."""
        self._sink = sink
        self._watcher.add(self)
        self._poll.ask()

    def cancel(self) -> None:
        """The viewer left, or the node is stopping."""
        self._poll.stop()
        super().cancel()

    def _request(self) -> DeferredResponse:
        return self._forward(self._query)

    def _answered(self, answer: OutgoingResponse) -> None:
        if answer.status == OK.status:
            if not self._sink.is_full:
                self._pass_on(orjson.loads(answer.body))
        elif answer.status in _FINAL:
            self._end()

    def _end(self) -> None:
        self._poll.stop()
        super()._end()

    def _pass_on(self, part: dict[str, object]) -> None:
        """Send what a peer has answered. While the viewer is slow, it is asked for the same part again."""
        data = bytearray()
        if self._is_new:
            self._is_new = False
            hello = {"kind": "hello", "connection": part["connection"], "limits": part["limits"]}
            data += sse("hello", orjson.dumps(hello))
        if lost := int(str(part["lost"])):
            data += lost_event(lost)
        data += remote_events(part["events"])
        self._query = b"after=%d" % int(str(part["next"]))
        if data:
            self._write(bytes(data))
        if part["complete"]:
            self._end()


def remote_events(events: object) -> bytes:
    """Return the `events` in the answer of a peer as server-sent events."""
    found = events if isinstance(events, list) else []
    return b"".join(sse(event["kind"], orjson.dumps(event), event["seq"]) for event in found)


def ring_request(peer: Peer, request: Request, connection_id: str) -> Callable[[bytes], DeferredResponse]:
    """Return a function that asks `peer`, with a query, for the ring of a connection on behalf of a caller."""
    return partial(_forward, peer, request, connection_id)


def _forward(peer: Peer, request: Request, connection_id: str, query: bytes) -> DeferredResponse:
    target = b"/console/api/connections/%b/ring?%b" % (connection_id.encode(), query)
    asked = Request(request.method, target, Head(request.version, request.headers, frozenset()))
    return peer.forward(asked, connection_id)
