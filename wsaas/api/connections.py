"""The resources `ws_uri` (PUT sends a message, DELETE closes, GET describes) and `/connections` (the list of all)."""

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from wsaas import errors
from wsaas.api.route import Response
from wsaas.clock import rfc3339
from wsaas.cluster.router import Peer, Router
from wsaas.errors import RETRY_AFTER
from wsaas.events import Reason
from wsaas.http import media_type
from wsaas.http.headers import content_coding
from wsaas.http.media_type import BINARY, EITHER, TEXT
from wsaas.http.request import Request, too_large
from wsaas.http.serialize import OK, OutgoingResponse
from wsaas.sessions.information import information
from wsaas.sessions.registry import Registry, page
from wsaas.sessions.session import Session
from wsaas.sessions.session_state import State
from wsaas.websocket.frames import MAX_REASON

MAX_CLOSE_BODY: Final = 4096
"""Maximum size of the body of a DELETE, in bytes."""

PAGE, LONGEST_PAGE = 100, 1000
"""Connections on a page: the default of `limit`, and its maximum."""

MAX_DIGITS: Final = 15
"""Maximum number of digits of a number in a query."""

_ACCEPTS_PUSHES = frozenset({State.CONNECTING, State.OPEN})
_NORMAL_CLOSURE: Final = 1000
_PRIVATE_CODES = range(3000, 5000)
"""Close codes for libraries and applications (RFC 6455 section 7.4.2)."""


class ConnectionResource:
    """One connection, by its id. A request for a connection of a peer is forwarded, and its response is deferred."""

    __slots__ = ("_find", "_find_peer", "_max_message_size", "_registry")

    def __init__(self, router: Router, registry: Registry, max_message_size: int) -> None:
        """Find connections with `router`; accept pushes of at most `max_message_size` bytes."""
        self._find: Callable[[str], Session | None] = router.find
        self._find_peer: Callable[[str], Peer | None] = router.find_peer
        self._max_message_size = max_message_size
        self._registry = registry

    def body_limit(self, request: Request, connection_id: str) -> int:
        """Return how many bytes of the body are needed. Raises an `HTTPError` to refuse the request by its head."""
        session = self._find(connection_id)
        if session is None and self._find_peer(connection_id) is None:
            raise errors.Gone("This connection has ended.")
        if request.method not in {b"PUT", b"DELETE"}:
            return 0
        _refuse_content_coding(request)
        if request.method == b"DELETE":
            return MAX_CLOSE_BODY
        media_type.interpret(request.headers.get(b"content-type"))
        if session is not None and session.state not in _ACCEPTS_PUSHES:
            raise errors.Gone("This connection has ended.")
        services = self._registry.services
        if session is not None and session.buffered >= services.send_limit:
            raise errors.SlowClient("The client has not read what is already queued for it.", RETRY_AFTER)
        if services.memory.allowance < min(self._max_message_size, _declared_size(request)):
            raise errors.TooManyRequests("This node is short of memory: push it again later.", RETRY_AFTER)
        return self._max_message_size

    def put(self, request: Request, connection_id: str) -> Response:
        """Send the body as one message."""
        session = self._find(connection_id)
        return self._forward(request, connection_id) if session is None else self.push(session, request)

    def push(self, session: Session, request: Request) -> OutgoingResponse:
        """Send the body of `request` to the client of `session`, as text or binary by its `Content-Type`.

        Raises `Gone`, `SlowClient`, `BadText`, `TooLarge` for text that is too long in UTF-8, `UnsupportedMediaType`.
        """
        headers = request.headers
        if b"content-encoding" in headers:
            _refuse_content_coding(request)
        kind = media_type.interpret(headers.get(b"content-type"))
        if kind is TEXT or kind is BINARY:
            session.send(text=kind is TEXT, data=request.body)
        elif kind is EITHER:
            try:
                session.send(text=True, data=request.body)
            except errors.BadText:
                session.send(text=False, data=request.body)
        else:
            data = media_type.to_utf8(request.body, kind, self._max_message_size)
            session.send(text=True, data=data)
        return OK

    def delete(self, request: Request, connection_id: str) -> Response:
        """Close the connection with the code and reason in the body; the default code is 1000."""
        session = self._find(connection_id)
        if session is None:
            return self._forward(request, connection_id)
        _refuse_content_coding(request)
        if session.state is State.CLOSING:
            raise errors.Gone("This connection is already closing.")
        if len(request.body) > MAX_CLOSE_BODY:
            raise too_large(MAX_CLOSE_BODY)
        code, reason = _read_close(request.body)
        session.close(Reason.BACKEND_CLOSED, code, reason)
        return OK

    def get(self, request: Request, connection_id: str) -> Response:
        """Describe the connection and its client."""
        session = self._find(connection_id)
        if session is None:
            return self._forward(request, connection_id)
        return OutgoingResponse(
            200, orjson.dumps({"code": "OK", **information(session, self._registry.services.clock)})
        )

    def _forward(self, request: Request, connection_id: str) -> Response:
        """Forward a request to the peer that has the connection. Raises `Gone` if no peer has it."""
        peer = self._find_peer(connection_id)
        if peer is None:
            raise errors.Gone("This connection has ended.")
        return peer.forward(request, connection_id)


def list_connections(registry: Registry, request: Request) -> OutgoingResponse:
    """Return a page of connections, so that a backend can compare its records.

    Parameters of the query: `limit`, `after` (the `next` of the previous page), `connected_before` (RFC 3339) and
    `state=ending`. By default, the page lists live connections, oldest first; with `state=ending`, it lists ended
    connections whose DELETE is owed, in the order in which they ended. Raises `BadRequest`.
    """
    query = dict(parse_qsl(request.target.partition(b"?")[2].decode("latin-1")))
    limit = _number(query, "limit", PAGE)
    if not 0 < limit <= LONGEST_PAGE:
        raise errors.BadRequest(f"limit must be a number from 1 to {LONGEST_PAGE}.")
    before = _time(query["connected_before"]) if "connected_before" in query else math.inf
    if query.get("state", "ending") != "ending":
        raise errors.BadRequest("state must be ending, or absent for live connections.")
    sessions = registry.ending() if "state" in query else registry.live()
    found, has_more = page(sessions, _number(query, "after", 0), limit, before)
    content = {
        "code": "OK",
        "node": registry.node,
        "started_at": rfc3339(registry.started_at),
        "total": len(sessions),
        "connections": [information(session, registry.services.clock) for session in found],
        "next": found[-1].info.order if has_more else None,
    }
    return OutgoingResponse(200, orjson.dumps(content))


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    """Return the number `name` of a query. Raises `BadRequest`."""
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise errors.BadRequest(f"{name} must be a whole number.")
    return int(text)


def _time(text: str) -> float:
    """Return the seconds since the epoch of an RFC 3339 time. Raises `BadRequest`."""
    try:
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise errors.BadRequest("connected_before must be a time such as 2026-01-31T12:00:00.123Z.")
    return time.timestamp()


def _declared_size(request: Request) -> float:
    """Return the size of the body that the head of `request` declares, infinity for a chunked body."""
    headers = request.headers
    return math.inf if b"transfer-encoding" in headers else int(headers.get(b"content-length", b"0"))


def _refuse_content_coding(request: Request) -> None:
    """Raise `UnsupportedMediaType` for a body in a content coding (RFC 9110 section 15.5.16)."""
    if coding := content_coding(request.headers):
        raise errors.UnsupportedMediaType(
            f"The body has Content-Encoding {coding}: send it uncompressed.", ("Accept-Encoding", "identity")
        )


def _read_close(body: bytes) -> tuple[int, str]:
    """Parse the body of a DELETE into close code and reason. Raises `BadClose`."""
    try:
        order: Any = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError:
        order = None
    if not isinstance(order, dict):
        raise errors.BadClose('The body must be JSON such as {"code": 4000, "reason": "bye"}, or empty.')
    code, reason = order.get("code", _NORMAL_CLOSURE), order.get("reason", "")
    # Not `isinstance`: a bool is an int too.
    if type(code) is not int or (code != _NORMAL_CLOSURE and code not in _PRIVATE_CODES):
        raise errors.BadClose("The code must be 1000, or a number from 3000 to 4999.")
    if not isinstance(reason, str) or len(reason.encode()) > MAX_REASON:
        raise errors.BadClose(f"The reason must be a string of at most {MAX_REASON} bytes.")
    return code, reason
