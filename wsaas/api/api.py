"""The REST surface: a request to its answer. Everything here is decided at once; nothing waits."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast
from urllib.parse import parse_qsl, unquote_to_bytes

import orjson

from wsaas import errors
from wsaas.access import HostCheck, from_web_page
from wsaas.api.bearer_tokens import BearerTokens
from wsaas.clock import rfc3339
from wsaas.errors import RETRY_AFTER
from wsaas.events import Reason
from wsaas.http import media_type
from wsaas.http.headers import content_coding
from wsaas.http.media_type import BINARY, EITHER, TEXT
from wsaas.http.request import Request, too_large
from wsaas.http.serialize import answer, fault_answer, without_body
from wsaas.sessions.information import information
from wsaas.sessions.registry import ID_FORM, Registry, page
from wsaas.sessions.session import Session
from wsaas.sessions.session_state import State
from wsaas.settings import Settings, control_address
from wsaas.websocket.frames import MAX_REASON

OK = orjson.dumps({"code": "OK"})
DONE = answer(200, OK)
HEALTH = frozenset({b"/healthz", b"/readyz"})
"""Open to everybody: a load balancer has no token, and learns nothing from them."""

LIST = b"/connections"
"""The live connections, for a backend to compare its books with."""

PAGE, LONGEST_PAGE = 100, 1000
"""Connections on a page, unless `limit` asks for another number, and at most."""

_TAKES_MESSAGES = frozenset({State.CONNECTING, State.OPEN})
MAX_CLOSE_ORDER = 4096
"""Bytes that the body of a DELETE may have."""

_READ_ONLY = HEALTH | {LIST}
_WITH_BODY = frozenset({b"PUT", b"DELETE"})
_CLIENT_METHODS = "PUT, DELETE, GET, HEAD"
_NORMAL = 1000
MAX_DIGITS = 16
_OWN_CODES = range(3000, 5000)


class Api:
    """Answers requests about the clients of `registry`."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        """Ask for `CONTROL_TOKEN` where there is one.

        Without it, and without `CONTROL_TLS_CA`, nothing proves who makes a request: then those that a web page may
        have made a browser send are refused. A browser reaches no Unix socket, so there any `Host` will do.
        """
        address = control_address(settings)
        names = settings.ws_hostname.host, address.host
        self._has_proof = bool(settings.control_token or settings.control_tls_ca)
        self._hosts = HostCheck(names, any_host=bool(address.path))
        # Only `_authorize` fills it.
        self._known_hosts = self._hosts.known
        self._max_message_size = settings.max_message_size
        self._registry = registry
        self._prefix = settings.ws_hostname.prefix.encode() + b"/"
        self._needs_token = bool(settings.control_token)
        self.tokens = BearerTokens(settings.control_token)

    def answer(self, request: Request) -> bytes:
        """Return the whole response to `request`."""
        keep_alive = request.keep_alive
        try:
            content = self._route(request)
        except errors.HTTPError as fault:
            return refuse(request, fault)
        if content is OK and keep_alive and request.method != b"HEAD":
            return DONE
        response = answer(200, content, keep_alive=keep_alive)
        return without_body(response) if request.method == b"HEAD" else response

    def body_limit(self, request: Request) -> int:
        """Return how many bytes of its body are needed to answer `request`, whose head is all that is known yet.

        Raises the `HTTPError` that refuses it: what a request may do is decided before any of its body is kept.
        """
        connection_id = self._find(request)
        if connection_id is None:
            return 0
        method = request.method
        session = self._session(method, connection_id)
        if method not in _WITH_BODY:
            return 0
        _refuse_coded(request)
        if method == b"DELETE":
            return MAX_CLOSE_ORDER
        media_type.interpret(request.headers.get(b"content-type"))
        if session.state not in _TAKES_MESSAGES:
            raise errors.Gone("This connection ended.")
        services = self._registry.services
        if session.buffered >= services.send_limit:
            raise errors.SlowClient("The client has not read what is already queued for it.", RETRY_AFTER)
        if services.memory.allowance < min(self._max_message_size, _announced(request)):
            raise errors.TooManyRequests("This node has little memory left: push it again later.", RETRY_AFTER)
        return self._max_message_size

    def authorizes(self, request: Request) -> bool:
        """Return whether `request` comes from whom the REST surface is for, whatever it asks. Health says nothing."""
        if _path(request.target) in HEALTH:
            return False
        try:
            self._authorize(request)
        except errors.HTTPError:
            return False
        return True

    def _route(self, request: Request) -> bytes:
        target = request.target
        if request.method == b"PUT" and target.startswith(self._prefix):
            # Nearly all are of this kind: an id needs no decoding, and what is not one finds nobody.
            session = self._registry.find(target[len(self._prefix) :].decode("latin-1"))
            if session is not None:
                headers = request.headers
                if (
                    headers.get(b"host") not in self._known_hosts
                    or b"origin" in headers
                    or b"sec-fetch-site" in headers
                ):
                    self._authorize(request)
                return self._push(session, request)
        connection_id = self._find(request)
        if connection_id is not None:
            return self._client(request, connection_id)
        path = _path(target)
        if path == b"/readyz" and not self._registry.is_open:
            raise errors.Unavailable("This node is about to stop.")
        return _page(self._registry, target) if path == LIST else OK

    def _find(self, request: Request) -> str | None:
        """Return the connection that `request` is about, None where it is about something else that is here.

        Raises the `HTTPError` of a request that is not authorized, or whose path or method is not served.
        """
        path = _path(request.target)
        if path not in HEALTH:
            self._authorize(request)
        start = len(self._prefix) if path.startswith(self._prefix) else 1
        name = path[start:].decode("latin-1")
        if ID_FORM.fullmatch(name):
            return name
        if path not in _READ_ONLY:
            raise errors.NotFound("There is nothing at this path.")
        if request.method not in {b"GET", b"HEAD"}:
            raise errors.MethodNotAllowed("This path is only for reading.", ("Allow", "GET, HEAD"))
        return None

    def _authorize(self, request: Request) -> None:
        """Raise `Unauthorized`, or `Forbidden` where nothing proves that no web page made the request."""
        if self._needs_token:
            if not self.tokens.accept(request.headers.get(b"authorization")):
                raise errors.Unauthorized(
                    "This needs the header Authorization: Bearer <CONTROL_TOKEN>.", ("WWW-Authenticate", "Bearer")
                )
        elif not self._has_proof:
            headers = request.headers
            if from_web_page(headers):
                raise errors.Forbidden(
                    "Web pages may not use the REST surface: set CONTROL_TOKEN, and send it as a bearer token."
                )
            if not self._hosts.allow(headers.get(b"host")):
                raise errors.Forbidden(
                    "The REST surface does not answer to this Host: set CONTROL_TOKEN, or let WS_HOSTNAME name it."
                )

    def _client(self, request: Request, connection_id: str) -> bytes:
        method = request.method
        session = self._session(method, connection_id)
        if method == b"PUT":
            return self._push(session, request)
        if method == b"DELETE":
            _refuse_coded(request)
            _close(session, request.body)
            return OK
        return orjson.dumps({"code": "OK", **information(session, self._registry.services.clock)})

    def _push(self, session: Session, request: Request) -> bytes:
        headers = request.headers
        if b"content-encoding" in headers:
            _refuse_coded(request)
        kind = media_type.interpret(headers.get(b"content-type"))
        if kind is TEXT or kind is BINARY:
            session.send(text=kind is TEXT, data=request.body)
        elif kind is EITHER:
            try:
                session.send(text=True, data=request.body)
            except errors.BadText:
                session.send(text=False, data=request.body)
        else:
            data = media_type.to_utf8(request.body, cast(str, kind), self._max_message_size)
            session.send(text=True, data=data)
        return OK

    def _session(self, method: bytes, connection_id: str) -> Session:
        """Return the session that `method` is asked of. Raises `MethodNotAllowed`, `Gone`."""
        if method not in {b"PUT", b"DELETE", b"GET", b"HEAD"}:
            raise errors.MethodNotAllowed(f"A connection supports only {_CLIENT_METHODS}.", ("Allow", _CLIENT_METHODS))
        session = self._registry.find(connection_id)
        if session is None:
            raise errors.Gone("This connection ended.")
        return session


def refuse(request: Request, fault: errors.HTTPError) -> bytes:
    """Return the whole response that refuses `request` with `fault`."""
    response = fault_answer(fault, keep_alive=request.keep_alive)
    return without_body(response) if request.method == b"HEAD" else response


def _announced(request: Request) -> float:
    """Return how many bytes the body of `request` has, infinity for one in chunks."""
    headers = request.headers
    return math.inf if b"transfer-encoding" in headers else int(headers.get(b"content-length", b"0"))


def _refuse_coded(request: Request) -> None:
    """Raise `UnsupportedMediaType` for a body in a content coding (RFC 9110 section 15.5.16)."""
    if coding := content_coding(request.headers):
        raise errors.UnsupportedMediaType(
            f"The body has Content-Encoding {coding}: send it uncompressed.", ("Accept-Encoding", "identity")
        )


def _path(target: bytes) -> bytes:
    """Return the path of a target in origin form, decoded. A slash that is encoded separates nothing: it stays so."""
    path = target.partition(b"?")[0]
    return unquote_to_bytes(path) if b"%" in path and b"%2f" not in path.lower() else path


def _page(registry: Registry, target: bytes) -> bytes:
    """Return a page of connections: at most `limit`, those `after` a page's `next`.

    They are the live ones, oldest first, or with `state=ending` those whose DELETE is owed, in the order of their ends.
    """
    query = dict(parse_qsl(target.partition(b"?")[2].decode("latin-1")))
    limit = _whole(query, "limit", PAGE)
    if not 0 < limit <= LONGEST_PAGE:
        raise errors.BadRequest(f"limit has to be a number from 1 to {LONGEST_PAGE}.")
    before = _moment(query["connected_before"]) if "connected_before" in query else math.inf
    if query.get("state", "ending") != "ending":
        raise errors.BadRequest("state has to be ending, or left out for live connections.")
    sessions = registry.ending() if "state" in query else registry.live()
    found, more = page(sessions, _whole(query, "after", 0), limit, before)
    return orjson.dumps(
        {
            "code": "OK",
            "node": registry.node,
            "started_at": rfc3339(registry.started_at),
            "total": len(sessions),
            "connections": [information(session, registry.services.clock) for session in found],
            "next": found[-1].info.order if more else None,
        }
    )


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < MAX_DIGITS):
        raise errors.BadRequest(f"{name} has to be a whole number.")
    return int(text)


def _moment(text: str) -> float:
    """Return the seconds since the epoch of an RFC 3339 time."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise errors.BadRequest("connected_before has to be a time such as 2026-01-31T12:00:00.123Z.")
    return moment.timestamp()


def _close(session: Session, body: bytes) -> None:
    if session.state is State.CLOSING:
        raise errors.Gone("This connection is being closed already.")
    if len(body) > MAX_CLOSE_ORDER:
        raise too_large(MAX_CLOSE_ORDER)
    code, reason = _close_order(body)
    session.close(Reason.BACKEND_CLOSED, code, reason)


def _close_order(body: bytes) -> tuple[int, str]:
    """Return the code and reason that the body of a DELETE asks for. Raises `BadClose`."""
    try:
        order: Any = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError:
        order = None
    if not isinstance(order, dict):
        raise errors.BadClose('The body has to be JSON such as {"code": 4000, "reason": "bye"}, or empty.')
    code, reason = order.get("code", _NORMAL), order.get("reason", "")
    if type(code) is not int or (code != _NORMAL and code not in _OWN_CODES):
        raise errors.BadClose("The code has to be 1000 or a number from 3000 to 4999.")
    if not isinstance(reason, str) or len(reason.encode()) > MAX_REASON:
        raise errors.BadClose(f"The reason has to be a text of at most {MAX_REASON} bytes.")
    return code, reason
