"""`ws_uri`, one connection: PUT sends, DELETE closes, GET describes it."""

from collections.abc import Callable, Mapping
from logging import DEBUG
from typing import Any, Final

import orjson

from wsaas import errors
from wsaas.api.message import check_memory, read_message, refuse_content_coding
from wsaas.api.route import Response
from wsaas.cluster.router import Peer, Router
from wsaas.errors import RETRY_AFTER, HTTPError
from wsaas.http import media_type, trace_context
from wsaas.http.request import Request, too_large
from wsaas.http.serialize import OK, OutgoingResponse
from wsaas.http.trace_context import TRACEPARENT
from wsaas.log import logger
from wsaas.log.throttle import throttle
from wsaas.log.wording import counted
from wsaas.reason import Reason
from wsaas.sessions.information import information
from wsaas.sessions.registry import Registry
from wsaas.sessions.session import Session
from wsaas.sessions.session_state import State
from wsaas.websocket.frames import MAX_REASON

MAX_CLOSE_BODY: Final = 4096
"""Maximum size of the body of a DELETE, in bytes."""

_ACCEPTS_PUSHES: Final = frozenset({State.CONNECTING, State.OPEN})
_NORMAL_CLOSURE: Final = 1000
_TOO_MANY_REQUESTS: Final = 429
_PRIVATE_CODES: Final = range(3000, 5000)
"""Close codes for libraries and applications (RFC 6455 section 7.4.2)."""

_RESULTS: Final[Mapping[type[HTTPError], str]] = {
    errors.Gone: "gone",
    errors.SlowClient: "slow",
    errors.TooManyRequests: "no_memory",
}
"""How pushes that were not sent are counted (`PUSH_RESULTS`). All others are "rejected"."""


class ConnectionResource:
    """One connection, by its id. A request for a connection of a peer is forwarded, and its response is deferred."""

    __slots__ = ("_find", "_max_message_size", "_registry", "_router")

    def __init__(self, router: Router, registry: Registry, max_message_size: int) -> None:
        """Find connections with `router`; accept pushes of at most `max_message_size` bytes."""
        self._find: Callable[[str], Session | None] = router.find
        self._router = router
        self._max_message_size = max_message_size
        self._registry = registry

    def body_limit(self, request: Request, connection_id: str) -> int:
        """Return how many bytes of the body are needed. Raises an `HTTPError` to refuse the request by its head."""
        if request.method == b"PUT":
            try:
                return self._body_limit(request, connection_id)
            except HTTPError as error:
                self._refused(error, request, connection_id)
                raise
        return self._body_limit(request, connection_id)

    def _body_limit(self, request: Request, connection_id: str) -> int:
        session = self._find(connection_id)
        if session is None:
            find_peer(self._router, request, connection_id)
        if request.method not in {b"PUT", b"DELETE"}:
            return 0
        refuse_content_coding(request)
        if request.method == b"DELETE":
            return MAX_CLOSE_BODY
        media_type.interpret(request.headers.get(b"content-type"))
        if session is not None and session.state not in _ACCEPTS_PUSHES:
            raise errors.Gone("This connection has ended.")
        services = self._registry.services
        if session is not None and session.buffered >= services.send_limit:
            raise errors.SlowClient("The client has not read what is already queued for it.", RETRY_AFTER)
        check_memory(request, services.memory, self._max_message_size)
        return self._max_message_size

    def put(self, request: Request, connection_id: str) -> Response:
        """Send the body as one message."""
        session = self._find(connection_id)
        if session is not None:
            return self.push(session, request)
        try:
            return self._forward(request, connection_id)
        except HTTPError as error:
            self._refused(error, request, connection_id)
            raise

    def push(self, session: Session, request: Request) -> OutgoingResponse:
        """Send the body of `request` to the client of `session`, as text or binary by its `Content-Type`.

        Raises `Gone`, `SlowClient`, `BadText`, `TooLarge` for text that is too long in UTF-8, `UnsupportedMediaType`.
        """
        try:
            opcode, data = read_message(request, self._max_message_size)
            session.send(opcode, data)
        except HTTPError as error:
            self._refused(error, request, session.id)
            raise
        return OK

    def delete(self, request: Request, connection_id: str) -> Response:
        """Close the connection with the code and reason in the body; the default code is 1000."""
        session = self._find(connection_id)
        if session is None:
            return self._forward(request, connection_id)
        refuse_content_coding(request)
        if session.state is State.CLOSING:
            raise errors.Gone("This connection is already closing.")
        if len(request.body) > MAX_CLOSE_BODY:
            raise too_large(MAX_CLOSE_BODY)
        code, reason = read_close(request.body)
        session.close(Reason.BACKEND_CLOSED, code, reason)
        self._registry.record_push(connection_id, "DELETE", OK.status, "OK")
        return OK

    def get(self, request: Request, connection_id: str) -> Response:
        """Describe the connection and its client."""
        session = self._find(connection_id)
        if session is None:
            return self._forward(request, connection_id)
        return OutgoingResponse(200, orjson.dumps({"code": "OK", **information(session, self._registry.services)}))

    def _refused(self, error: HTTPError, request: Request, connection_id: str) -> None:
        """Count a push that was not sent, and log it if the backend has to slow down or is being traced."""
        self._registry.record_push(connection_id, "PUT", error.status, error.code)
        self._registry.services.counters.refused_pushes[_RESULTS.get(type(error), "rejected")] += 1
        line = "%s/%s: a push was refused with %d: %s%s"
        values = self._registry.node, connection_id, error.status, error.message, _trace(request)
        if error.status == _TOO_MANY_REQUESTS:
            throttle.info(("push", type(error)), line, *values)
        elif TRACEPARENT in request.headers:
            logger.debug(line, *values)

    def _forward(self, request: Request, connection_id: str) -> Response:
        """Forward a request to the peer that has the connection."""
        return find_peer(self._router, request, connection_id).forward(request, connection_id)


class LoggingConnectionResource(ConnectionResource):
    """Also logs the pushes that were sent and belong to a trace. Used if the log level is `DEBUG`."""

    __slots__ = ()

    def push(self, session: Session, request: Request) -> OutgoingResponse:
        """Send the body of `request` to the client of `session`, and log it."""
        response = super().push(session, request)
        if TRACEPARENT in request.headers:
            size = counted(len(request.body), "byte")
            logger.debug("%s: a push of %s was sent%s", session.ws_uri, size, _trace(request))
        return response


def connection_resource(router: Router, registry: Registry, max_message_size: int) -> ConnectionResource:
    """Return the resource of one connection."""
    kind = LoggingConnectionResource if logger.isEnabledFor(DEBUG) else ConnectionResource
    return kind(router, registry, max_message_size)


def _trace(request: Request) -> str:
    """Return the trace that a request belongs to, for the log; empty if there is none."""
    found = trace_context.read(request.headers)
    return "" if found is None else f" (trace {found.trace_id})"


def find_peer(router: Router, request: Request, connection_id: str) -> Peer:
    """Return the peer that has a connection. Raises `Gone` if none has it, and what `Router` raises."""
    peer = router.for_request(request).find_peer(connection_id)
    if peer is None:
        raise errors.Gone("This connection has ended.")
    return peer


def read_close(body: bytes) -> tuple[int, str]:
    """Return the close code and reason in the body of a DELETE. Raises `BadClose`."""
    try:
        content: Any = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError:
        content = None
    if not isinstance(content, dict):
        raise errors.BadClose('The body must be JSON such as {"code": 4000, "reason": "bye"}, or empty.')
    code, reason = content.get("code", _NORMAL_CLOSURE), content.get("reason", "")
    if isinstance(code, float) and code.is_integer():
        # JSON has one type of number, and some languages write 4000 as 4000.0.
        code = int(code)
    # Not `isinstance`: a bool is an int too.
    if type(code) is not int or (code != _NORMAL_CLOSURE and code not in _PRIVATE_CODES):
        raise errors.BadClose("The code must be 1000, or a number from 3000 to 4999.")
    if not isinstance(reason, str) or len(reason.encode()) > MAX_REASON:
        raise errors.BadClose(f"The reason must be a string of at most {MAX_REASON} bytes.")
    return code, reason
