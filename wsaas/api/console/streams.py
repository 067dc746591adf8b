"""The streams of events, as server-sent events: of one connection, and of the next handshakes."""

import re
from functools import partial
from secrets import token_urlsafe
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from wsaas.api.bearer_tokens import BearerTokens
from wsaas.api.connections import find_peer
from wsaas.api.console.connections import ConsoleConnections
from wsaas.api.console.event_stream import ConnectionStream, EventStream, HandshakeStream
from wsaas.api.console.handshake_ring import RemoteHandshakes
from wsaas.api.console.remote_stream import Poll, RemoteConnectionStream, ring_request
from wsaas.api.console.viewer_stream import ViewerStream
from wsaas.api.query import number, read_query
from wsaas.api.route import Response
from wsaas.cluster.router import Router
from wsaas.errors import BadRequest
from wsaas.http.request import Request
from wsaas.http.serialize import OutgoingResponse
from wsaas.sessions.registry import Registry
from wsaas.watching.events import MAX_BODY
from wsaas.watching.ring import MAX_EVENTS
from wsaas.watching.watcher import Watch, Watcher

MAX_HANDSHAKES: Final = 20
"""Handshakes that one stream follows, at most."""

MAX_RING_BYTES: Final = 256 * 1024
"""Bytes of events in one answer to another process, about."""

LIMITS: Final = {"events": MAX_EVENTS, "body_bytes": MAX_BODY}

KEY_BYTES: Final = 12
"""Random bytes of the name that a stream has at other workers."""

_KEY: Final = re.compile(r"[A-Za-z0-9_-]{16}")
_SEQ: Final = re.compile(rb"[0-9]{1,15}")


class StreamResource:
    """Streams events to viewers, and hands them to other processes of the node or cluster."""

    __slots__ = ("_connections", "_registry", "_remote", "_router", "_tokens", "_watcher")

    def __init__(
        self,
        registry: Registry,
        watcher: Watcher,
        connections: ConsoleConnections,
        router: Router,
        tokens: BearerTokens,
    ) -> None:
        """Stream what `watcher` records. `connections`: describes a connection. `tokens`: those of the viewers."""
        self._connections = connections
        self._registry = registry
        self._remote: dict[str, RemoteHandshakes] = {}
        self._router = router
        self._tokens = tokens
        self._watcher = watcher

    def connection(self, request: Request, connection_id: str) -> Response:
        """Stream the events of one connection: those that are kept, then each when it happens.

        Raises `Gone`, `TooManyViewers`.
        """
        watcher, clock = self._watcher, self._registry.services.clock
        watch = watcher.find(connection_id)
        stream: ViewerStream
        if watch is None:
            peer = find_peer(self._router, request, connection_id)
            watcher.check_room()
            ask = ring_request(peer, request, connection_id)
            stream = RemoteConnectionStream(watcher, clock, ask, last_event_id(request))
        else:
            watcher.check_room()
            hello = {"connection": self._connections.entry(watch.recorder.session), "limits": LIMITS}
            stream = own = ConnectionStream(watcher, clock, watch, hello)
            own.skip_to(watch, last_event_id(request))
        stream.end_with(self._tokens)
        return _without_body(request) or stream

    def handshakes(self, request: Request) -> Response:
        """Stream the events of the next handshakes, and of their connections. Raises `BadRequest`, `TooManyViewers`."""
        query = read_query(request)
        count = number(query, "count", MAX_HANDSHAKES)
        if not 0 < count <= MAX_HANDSHAKES:
            raise BadRequest(f"count must be a number from 1 to {MAX_HANDSHAKES}.")
        self._watcher.check_room()
        hello: dict[str, Any] = {"count": count, "limits": LIMITS}
        stream = HandshakeStream(self._watcher, self._registry.services.clock, (count, query.get("path")), hello)
        stream.end_with(self._tokens)
        self._ask_workers(request, stream)
        seq = last_event_id(request)
        if seq and request.method != b"HEAD":
            stream.take_over(seq)
        return _without_body(request) or stream

    def handshake_ring(self, request: Request) -> Response:
        """Answer another process that streams the events of the next handshakes: those since its last request.

        Raises `BadRequest`, `TooManyViewers`.
        """
        query = read_query(request)
        key, count = query.get("key", ""), number(query, "count", MAX_HANDSHAKES)
        if not _KEY.fullmatch(key) or not 0 < count <= MAX_HANDSHAKES:
            raise BadRequest("This path is for the other processes of the node.")
        self._remote = {each: remote for each, remote in self._remote.items() if not remote.is_gone}
        remote = self._remote.get(key)
        if remote is None:
            remote = RemoteHandshakes(self._watcher, self._registry.services.clock, (count, query.get("path")))
            self._remote[key] = remote
        return OutgoingResponse(200, orjson.dumps(remote.take()))

    def _ask_workers(self, request: Request, stream: HandshakeStream) -> None:
        """Let the other workers of the node record their next handshakes for `stream`."""
        query = {"key": token_urlsafe(KEY_BYTES), "count": stream.wanted}
        if stream.path is not None:
            query["path"] = stream.path
        target = b"/console/api/connects/ring?" + urlencode(query).encode()
        for peer in self._router.within_node.processes.values():
            ask = partial(peer.get, request, target)
            stream.polls.append(Poll(self._registry.services.clock, ask, stream.add_answer))

    def ring(self, request: Request, connection_id: str) -> Response:
        """Answer another process that streams the events of a connection: those from the index `after` on.

        Nobody need follow the connection here: it is watched for a while after each request.
        """
        query = read_query(request)
        watch = self._watcher.find(connection_id)
        if watch is None:
            return find_peer(self._router, request, connection_id).forward(request, connection_id)
        self._watcher.linger(watch)
        at = number(query, "after", 0) if "after" in query else watch.ring.index_after(number(query, "seq", 0))
        return OutgoingResponse(200, self._ring_part(watch, at))

    def _ring_part(self, watch: Watch, at: int) -> bytes:
        watch.recorder.look()
        ring = watch.ring
        start = max(at, ring.first)
        events: list[bytes] = []
        size, stop = 0, start
        while stop < ring.count and size < MAX_RING_BYTES:
            events.append(ring.get(stop).to_json())
            size += len(events[-1])
            stop += 1
        content = {
            "code": "OK",
            "connection": self._connections.entry(watch.recorder.session),
            "limits": LIMITS,
            "events": [orjson.Fragment(each) for each in events],
            "lost": start - at,
            "next": stop,
            "complete": watch.is_complete and stop == ring.count,
        }
        return orjson.dumps(content)


def last_event_id(request: Request) -> int:
    """Return the number of the last event that a viewer has, 0 if it is new."""
    value = request.headers.get(b"last-event-id", b"")
    return int(value) if _SEQ.fullmatch(value) else 0


def _without_body(request: Request) -> Response | None:
    """Return the response to a HEAD."""
    if request.method != b"HEAD":
        return None
    return OutgoingResponse(200, b"", (("Content-Type", EventStream.content_type),))
