"""The stream of one viewer, in the format of server-sent events (WHATWG HTML section 9.2)."""

from typing import Final

import orjson

from wsaas.api.bearer_tokens import BearerTokens
from wsaas.clock import Clock
from wsaas.http.streamed import Sink, StreamedResponse
from wsaas.watching.watcher import Follower, Watcher

KEEP_ALIVE_S: Final = 15.0
"""Seconds without an event after which a comment is sent, so that proxies do not close the stream."""

KEEP_ALIVE: Final = b": keep-alive\n\n"


def sse(kind: str, data: bytes, seq: int = 0) -> bytes:
    """Return one server-sent event. `seq`: its id, 0 for none."""
    start = b"id: %d\n" % seq if seq else b""
    return b"%bevent: %b\ndata: %b\n\n" % (start, kind.encode(), data)


def lost_event(count: int) -> bytes:
    """Return the event that tells a viewer how many it has missed."""
    return sse("lost", orjson.dumps({"kind": "lost", "count": count}))


class _NoSink(Sink):
    """Stands in before the start of a stream, and after its end."""

    __slots__ = ()
    is_full = True

    def write(self, data: bytes) -> None:
        """Never called."""

    def end(self) -> None:
        """Never called."""


NO_SINK: Final = _NoSink()


class ViewerStream(StreamedResponse, Follower):
    """The stream of one viewer. It never waits for a viewer: the events that a slow one misses are counted for it."""

    headers = (("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))

    def __init__(self, watcher: Watcher, clock: Clock) -> None:
        """Start without a sink. `watcher`: tells about news, through the methods of a `Follower`."""
        self._clock = clock
        self._generation = 0
        self._sink: Sink = NO_SINK
        self._tokens = BearerTokens(())
        self._watcher = watcher
        self._written_at = clock.now()

    def end_with(self, tokens: BearerTokens) -> None:
        """End when `tokens` are replaced. A viewer with a valid one comes back, and misses nothing."""
        self._generation, self._tokens = tokens.generation, tokens

    def resume(self) -> None:
        """The viewer reads again."""
        self.advance()

    def cancel(self) -> None:
        """The viewer left, or the node is stopping."""
        self._sink = NO_SINK
        self._watcher.leave(self)

    def check(self, now: float) -> None:
        """Send a comment if nothing was sent for a while."""
        if self._tokens.generation != self._generation:
            self._end()
        elif now - self._written_at >= KEEP_ALIVE_S:
            self._write(KEEP_ALIVE)

    def advance(self) -> None:
        """Send what is new."""

    def _write(self, data: bytes) -> None:
        if not self._sink.is_full:
            self._written_at = self._clock.now()
            self._sink.write(data)

    def _end(self) -> None:
        sink, self._sink = self._sink, NO_SINK
        self._watcher.leave(self)
        sink.end()
