"""Target: a client's handshake, its response, and the requests to the backend."""

import json
from base64 import b64decode
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

from tests.fuzz.http import head_of, joined, pairs
from tests.fuzz.requests import feed
from tests.support.fakes import body_of, make_closed, opened_by
from wsaas.access import Origins, Proxies, address_block
from wsaas.clock import NO_TIMER, Clock, Timer
from wsaas.delivery.circuit_breaker import CircuitBreaker
from wsaas.delivery.event_bodies import connect_body
from wsaas.delivery.pool import Limits, Pool
from wsaas.delivery.webhook import Subject, Webhook
from wsaas.errors import HTTPError
from wsaas.events import Event, Message
from wsaas.http.request import Request, RequestParser
from wsaas.http.response import ResponseParser
from wsaas.http.serialize import error_response, serialize
from wsaas.settings import load
from wsaas.websocket.handshake import Handshake, accept, is_handshake, read, select_subprotocol

AT = 1769860800.125
ID = "abcdefghijklmnopqrstuv"
WS_URI = f"localhost:8080/{ID}"
BEFORE = (
    b"GET /room?a=b HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
ORIGINS = [Origins(everyone=True), Origins(frozenset({"https://a.example"}), (("https", ".a.example"),))]
PROXIES = Proxies((ip_network("0.0.0.0/0"), ip_network("2001:db8::/32")), unix=True)


class StoppedLoop:
    """Nothing is sent, so no time passes and no timer is needed."""

    def time(self) -> float:
        """Return the same time always."""
        return AT

    def call_later(self, _delay: float, _callback: Callable[..., Any], *_args: Any) -> Timer:
        """Never call."""
        return NO_TIMER


CLOCK = Clock(StoppedLoop())
POOL = Pool(CLOCK, lambda _factory, _on_error: None, Limits(1, 1.0, 1.0, 1))
PLAIN, SIGNED = (
    Webhook(load({"api_uri": "backend:8000/hook", **more}, {}), POOL, CircuitBreaker(CLOCK, POOL), lambda: AT)
    for more in ({}, {"api_secret": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="})
)
EVERY_REQUEST = [
    b"host", b"user-agent", b"accept-encoding", b"ce-specversion", b"ce-type", b"ce-source", b"ws-uri", b"ce-subject",
    b"ce-id", b"ce-time", b"content-type", b"content-length",
]  # fmt: skip
SIGNATURE = [b"webhook-id", b"webhook-timestamp", b"webhook-signature"]


def check_answer(data: bytes, status: int, names: list[bytes]) -> None:
    """Check that `data` is one response with exactly these headers."""
    start, headers, body = head_of(data)
    assert start.startswith(b"HTTP/1.1 %d " % status)
    assert sorted(name for name, _ in headers) == sorted(names)
    if status != 101:
        response = ResponseParser(1 << 20).feed(data)
        assert response is not None
        assert (response.status, response.headers, response.body) == (status, joined(headers), body)
        assert set(json.loads(body)) == {"code", "message"}
    else:
        assert body == b""


def check_request(webhook: Webhook, subject: Subject, event: Event, own: dict[bytes, bytes]) -> None:
    """Check that the request for `event` is one request with the usual headers and the client's `own`."""
    data = webhook.request(subject, event)
    start, headers, body = head_of(data)
    assert start in {b"POST /hook HTTP/1.1", b"PUT /hook HTTP/1.1", b"DELETE /hook HTTP/1.1"}
    signature = SIGNATURE if webhook is SIGNED else []
    assert sorted(name for name, _ in headers) == sorted([*EVERY_REQUEST, *signature, *own])
    assert own.items() <= dict(headers).items()
    assert body == body_of(event)
    (request,) = feed(RequestParser(1 << 20), data)
    assert isinstance(request, Request)
    assert (pairs(request.headers), request.body, request.keep_alive) == (headers, body, True)


def check(request: Request, accepted: Handshake) -> None:
    """Check an accepted handshake, its responses and its requests."""
    assert len(b64decode(accepted.key, validate=True)) == 16
    assert request.version == "1.1"
    assert accepted.path.startswith("/")
    assert not {"#", "?"} & set(accepted.path)
    assert len(set(accepted.subprotocols)) == len(accepted.subprotocols)
    for subprotocol in [None, *accepted.subprotocols]:
        chosen = select_subprotocol(subprotocol, accepted.subprotocols, ["chat"])
        names = [b"upgrade", b"connection", b"sec-websocket-accept"]
        names += [b"sec-websocket-protocol"] * (chosen is not None)
        names += [b"sec-websocket-extensions"] * (accepted.agreement is not None)
        check_answer(accept(accepted, chosen), 101, names)
    opened = opened_by(accepted, at=AT, connection_id=ID, ws_uri=WS_URI)
    described = json.loads(connect_body(opened).decode())["request"]
    assert (described["path"], described["query"], described["headers"]) == (
        accepted.path,
        accepted.query,
        accepted.headers,
    )
    assert set(described["headers"]) == {name.decode() for name, _ in pairs(request.headers)}
    own = {} if accepted.authorization is None else {b"authorization": accepted.authorization}
    subject = Subject(ID, "localhost:8080", accepted.authorization)
    for webhook in (PLAIN, SIGNED):
        for event in (opened, Message(False, request.target, AT, 1), make_closed(b"{}", AT)):
            check_request(webhook, subject, event, own)


def check_refusal(error: HTTPError) -> None:
    """Check that a refused handshake gets one response."""
    assert 400 <= error.status <= 499
    names = [b"date", b"content-length", b"content-type", b"connection"]
    names += [b"sec-websocket-version", b"upgrade", b"connection"] * (error.status == 426)
    check_answer(serialize(error_response(error), 0.0), error.status, names)


def check_address(request: Request) -> None:
    """Check that any X-Forwarded-For gives a valid address."""
    forwarded = [entry.decode("latin-1") for entry in request.tokens(b"x-forwarded-for")]
    for peer in ("192.0.2.7", "2001:db8::1", "2001:db9::1", ""):
        address = PROXIES.client(peer, forwarded)
        assert address == peer or ip_address(address)
        assert address == "" or ip_address(address_block(address).partition("/")[0])


def handshakes(data: bytes) -> None:
    """A client's bytes, or its additional header lines, never become another request, response or header."""
    if not data:
        return
    chosen, sent = data[0], data[1:]
    stream = sent if chosen & 4 else BEFORE + sent + b"\r\n\r\n"
    for request in feed(RequestParser(1000), stream):
        if not isinstance(request, Request) or not is_handshake(request):
            continue
        check_address(request)
        try:
            accepted = read(request, ORIGINS[chosen & 1], compression=bool(chosen & 2))
        except HTTPError as error:
            check_refusal(error)
        else:
            check(request, accepted)
