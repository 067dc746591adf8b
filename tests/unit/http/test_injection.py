"""Nothing that one side says becomes a header or a message of its own on the other side, whatever it is.

h11, a strict reader of another making, takes apart what the gateway sends.
"""

import json

import h11
from hypothesis import event, given
from hypothesis import strategies as st

from tests.support.fakes import KEY, FakeBreaker, FakePool, make_closed, opened_by, read_all
from tests.support.strategies import examples, extra_headers, head, header_values, spoilt
from wsaas import __version__
from wsaas.clock import rfc3339
from wsaas.delivery.connect_answer import judge_opened
from wsaas.delivery.event_bodies import connect_body
from wsaas.delivery.verdicts import Rejected
from wsaas.delivery.webhook import Subject, Webhook
from wsaas.errors import HTTPError
from wsaas.events import Message
from wsaas.http.request import Request, RequestParser
from wsaas.http.response import BadResponse, ResponseParser
from wsaas.http.serialize import error_response, serialize
from wsaas.settings import load
from wsaas.websocket import handshake

AT = 1769860800.125
ID = "A" * 30
WS_URI = f"node:1/{ID}"

odd = st.sampled_from(
    [
        b"a\r\nX-Admin: yes", b"a\nX-Admin: yes", b"a\rX-Admin: yes", b"a\r\n\r\nDELETE / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"a\x00b", b"a\x0bb", b"a\x7fb",
    ]
)  # fmt: skip
tame = st.sampled_from(
    [
        b"Bearer x", b"Basic \xe9\xff", b"a\tb", b" a ", b"", b"a\x85b", "a\u2028b".encode(), b"\xc4\x8d\xc4\x8a",
        b"a, b", b'"\\"',
    ]
)  # fmt: skip
hostile = st.one_of(tame, tame, tame, header_values, header_values, odd, st.binary(max_size=8))
"""What somebody may try to say in a header."""


@st.composite
def handshakes(draw: st.DrawFn) -> bytes:
    """Draw the bytes of a handshake that wants more than to shake hands."""
    target = b"/" + draw(st.one_of(st.sampled_from([b"", b"room?a=b", b"%0d%0aX-Admin:%20yes"]), odd))
    headers = [
        (b"Host", b"x"),
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Version", b"13"),
        (b"Sec-WebSocket-Key", KEY),
        *draw(extra_headers),
    ]
    names = draw(st.sets(st.sampled_from([b"Authorization", b"Origin", b"Cookie", b"Ws-Context", b"X-A"])))
    headers += [(name, draw(hostile)) for name in names]
    if draw(st.booleans()):
        headers.append((b"Sec-WebSocket-Protocol", draw(st.one_of(st.sampled_from([b"v1", b"v2, v1"]), odd))))
    return head(b"GET " + target + b" HTTP/1.1", draw(st.permutations(headers)))


def requests_to_backend(data: bytes) -> list[tuple[str, list[tuple[bytes, bytes]], bytes]]:
    """Return method, headers and body of each request that h11 finds in `data`."""
    found = []
    while data:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=100_000)
        connection.receive_data(data)
        request, body = connection.next_event(), b""
        assert isinstance(request, h11.Request)
        while isinstance(part := connection.next_event(), h11.Data):
            body += part.data
        assert isinstance(part, h11.EndOfMessage)
        assert not part.headers
        data = connection.trailing_data[0]
        found.append((request.method.decode(), list(request.headers), body))
    return found


def shake(data: bytes) -> handshake.Handshake | None:
    """Return the handshake that `data` is, None where it is refused."""
    items = read_all(RequestParser(1000), data)
    if len(items) != 1 or not isinstance(items[0], Request) or not items[0].upgrade:
        return None
    try:
        return handshake.read(items[0])
    except HTTPError:
        return None


def expected(subject_headers, number, kind, content, body):
    return [
        (b"host", b"backend:8000"),
        (b"user-agent", b"wsaas/" + __version__.encode()),
        (b"accept-encoding", b"identity"),
        (b"ce-specversion", b"1.0"),
        (b"ce-type", b"wsaas." + kind),
        (b"ce-source", b"localhost:8080"),
        *subject_headers,
        (b"ce-id", b"%b:%b" % (ID.encode(), number)),
        (b"ce-time", rfc3339(AT).encode()),
        (b"content-type", content),
        (b"content-length", b"%d" % len(body)),
    ]


@examples(600)
@given(st.one_of(handshakes(), handshakes(), spoilt(handshakes())), st.binary(max_size=30), st.text(max_size=30))
def test_whatever_a_client_says_the_backend_gets_one_request_with_the_headers_it_expects(data, message, reason):
    shaken = shake(data)
    event("refused" if shaken is None else "taken")
    if shaken is None:
        return
    hook = Webhook(load({"api_uri": "backend:8000/hook"}, {}), FakePool(), FakeBreaker(), lambda: AT)
    subject = Subject(ID, "node:1", shaken.authorization)
    asked = opened_by(shaken, at=AT, connection_id=ID, ws_uri=WS_URI, timeout_ms=1000, remote_address="192.0.2.1")
    opened = connect_body(asked)
    closed = json.dumps({"ws_uri": WS_URI, "reason": reason}).encode()
    stream = b"".join(
        hook.request(subject, event) for event in (asked, Message(False, message, AT, 1), make_closed(closed, AT))
    )
    lines = [(b"ws-uri", WS_URI.encode()), (b"ce-subject", ID.encode())]
    if shaken.authorization is not None:
        lines.insert(0, (b"authorization", shaken.authorization))
    assert requests_to_backend(stream) == [
        ("POST", expected(lines, b"0", b"connect", b"application/json", opened), opened),
        ("PUT", expected(lines, b"1", b"message", b"application/octet-stream", message), message),
        ("DELETE", expected(lines, b"end", b"disconnect", b"application/json", closed), closed),
    ]
    sent = json.loads(opened)["request"]
    assert (sent["path"], sent["query"], sent["headers"]) == (shaken.path, shaken.query, shaken.headers)


SHAKEN = handshake.Handshake(KEY, "/", "", {"host": "x"}, ["v1", "v2"], None)
odd_text = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["v1", "v2", "v1\r\nX-Admin: yes", "a\r\n\r\nHTTP/1.1 200 OK", "\x85", "\u2028", "é", "a\tb", " a", ""]
    ),
)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Draw what a backend may answer that wants more than to answer."""
    status = draw(st.sampled_from([200, 200, 200, 201, 401, 403, 404, 429, 500]))
    names = st.sampled_from([b"WWW-Authenticate", b"Retry-After", b"Www-Authenticate", b"Set-Cookie", b"X-A"])
    headers = [(draw(names), draw(hostile)) for _ in range(draw(st.integers(0, 4)))]
    said = {"code": "OK"}
    for name in draw(st.sets(st.sampled_from(["subprotocol", "context"]))):
        said[name] = draw(odd_text)
    body = json.dumps(said).encode()
    return head(b"HTTP/1.1 %d %b" % (status, draw(tame)), [*headers, (b"Content-Length", b"%d" % len(body))]) + body


def responses_to_client(data: bytes) -> h11.Response | h11.InformationalResponse:
    """Return the head of the one response that h11 finds in `data`."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=100_000)
    wanted = [("Host", "x"), ("Upgrade", "websocket"), ("Connection", "Upgrade")]
    connection.send(h11.Request(method="GET", target="/", headers=wanted))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    found = connection.next_event()
    if isinstance(found, h11.Response):
        while isinstance(part := connection.next_event(), h11.Data):
            pass
        assert isinstance(part, h11.EndOfMessage)
    assert connection.trailing_data[0] == b""
    assert isinstance(found, h11.Response | h11.InformationalResponse)
    return found


@examples(600)
@given(st.one_of(answers(), answers(), spoilt(answers())))
def test_whatever_the_backend_says_a_client_gets_one_answer_with_the_headers_it_expects(data):
    try:
        response = ResponseParser(1000).feed(data)
    except BadResponse:
        response = None
    event("no response" if response is None else str(response.status // 100))
    if response is None:
        return
    verdict = judge_opened(response)
    if isinstance(verdict, Rejected):
        found = responses_to_client(serialize(error_response(verdict.error), AT))
        assert found.status_code == verdict.error.status
        passed_on = [(name.lower().encode(), value.encode("latin-1")) for name, value in verdict.error.headers]
        assert [name for name, _ in found.headers] == [
            b"date",
            b"content-length",
            b"content-type",
            *(name for name, _ in passed_on),
            b"connection",
        ]
        assert set(passed_on) <= set(found.headers)
        for name, value in passed_on:
            assert name in {b"www-authenticate", b"retry-after"}
            assert response.headers[name] == value
        return
    try:
        chosen = handshake.select_subprotocol(verdict.subprotocol, SHAKEN.subprotocols, [])
    except ValueError:
        return
    found = responses_to_client(handshake.accept(SHAKEN, chosen))
    assert found.status_code == 101
    names = [b"upgrade", b"connection", b"sec-websocket-accept", *([b"sec-websocket-protocol"] if chosen else [])]
    assert [name for name, _ in found.headers] == names
    if verdict.context is not None:
        hook = Webhook(load({"api_uri": "backend:8000/hook"}, {}), FakePool(), FakeBreaker(), lambda: AT)
        subject = Subject(ID, "node:1", None)
        subject.context = verdict.context
        lines = [(b"ws-uri", WS_URI.encode()), (b"ce-subject", ID.encode()), (b"ws-context", verdict.context.encode())]
        assert requests_to_backend(hook.request(subject, Message(False, b"x", AT, 1))) == [
            ("PUT", expected(lines, b"1", b"message", b"application/octet-stream", b"x"), b"x")
        ]
