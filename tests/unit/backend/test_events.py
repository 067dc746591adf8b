import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.backend_requests import ID, SECRET, WS_URI, make_subject, replayed_request, sent_request
from tests.support.fakes import make_opened
from tests.support.strategies import examples
from wsaas import events as sent
from wsaas.backend.events import ClientRequest, Connect, Disconnect, InvalidEvent, Message, parse
from wsaas.backend.signature import verify
from wsaas.http.trace_context import TraceContext

AT = 1_769_860_800.123
TIME = datetime(2026, 1, 31, 12, 0, 0, 123_000, timezone.utc)
TRACE = TraceContext(f"00-{'a' * 32}-{'b' * 16}-01", "vendor=1")
OPENED = make_opened(AT, connection_id=ID, ws_uri=WS_URI)
MESSAGE = sent.Message(True, b"hi", AT, 7)
DISCONNECT = sent.Disconnect(WS_URI, 1001, "bye", 81_234, 12, 40, 1)
CLOSED = sent.Closed(AT, disconnect=DISCONNECT)


def received(event, subject=None):
    """Return what a backend reads from the request for `event`."""
    return parse(*sent_request(event, subject))


def complaint(event, headers=(), body=None, method=None):
    """Return why the request for `event` is refused when some of it is replaced; a header of None is removed."""
    request = sent_request(event)
    changed = {**{name.lower(): value for name, value in request.headers}, **dict(headers)}
    kept = {name: value for name, value in changed.items() if value is not None}
    with pytest.raises(InvalidEvent) as refused:
        parse(method or request.method, kept, request.body if body is None else body)
    return str(refused.value)


def changed_body(event, **members):
    return json.dumps({**json.loads(sent_request(event).body), **members}).encode()


def test_a_post_is_a_client_that_connects():
    opened = make_opened(
        AT,
        connection_id=ID,
        ws_uri=WS_URI,
        path="/rooms/a%20b",
        query="nick=ada",
        headers={"host": "localhost", "x": "ü"},
        subprotocols=["v2", "v1"],
    )
    assert received(opened, make_subject(b"Bearer \xe9")) == Connect(
        ws_uri=WS_URI,
        id=ID,
        event_id=f"{ID}:0",
        time=TIME,
        authorization="Bearer \xe9",
        timeout=timedelta(seconds=30),
        request=ClientRequest(
            path="/rooms/a%20b",
            query="nick=ada",
            headers={"host": "localhost", "x": "ü"},
            subprotocols=("v2", "v1"),
            remote_address="192.0.2.7",
        ),
    )


def test_a_put_is_a_message_with_the_context_of_its_client():
    found = received(MESSAGE, make_subject(context="user 7", trace=TRACE))
    assert isinstance(found, Message)
    assert (found.data, found.text, found.number, found.event_id) == ("hi", "hi", 7, f"{ID}:7")
    assert (found.ws_uri, found.id, found.time, found.context) == (WS_URI, ID, TIME, "user 7")
    assert found.traceparent
    assert TRACE.trace_id in found.traceparent
    assert found.tracestate == "vendor=1"
    assert found.authorization is None
    assert found.is_text
    assert not found.is_replay


def test_a_binary_message_is_bytes():
    found = received(sent.Message(False, b"\xff\x00", AT, 1))
    assert isinstance(found, Message)
    assert found.data == b"\xff\x00"
    assert not found.is_text
    with pytest.raises(InvalidEvent, match="the message is binary: expected text"):
        _ = found.text


@pytest.mark.parametrize(("label", "data"), [("application/json", "{}"), ("Application/Octet-Stream ;x=y", b"{}")])
def test_text_may_be_labelled_with_any_other_type(label, data):
    request = sent_request(sent.Message(True, b"{}", AT, 1))
    found = parse(request.method, {**dict(request.headers), "Content-Type": label}, request.body)
    assert isinstance(found, Message)
    assert found.data == data
    assert found.json() == {}


def test_a_message_that_is_no_json_is_refused_when_it_is_read_as_json():
    found = received(MESSAGE)
    assert isinstance(found, Message)
    with pytest.raises(InvalidEvent, match="the message is not JSON"):
        found.json()


def test_a_delete_is_a_client_that_has_disconnected():
    assert received(CLOSED, make_subject(context="user 7")) == Disconnect(
        ws_uri=WS_URI,
        id=ID,
        event_id=f"{ID}:end",
        time=TIME,
        context="user 7",
        code=1001,
        reason="bye",
        duration=timedelta(milliseconds=81_234),
        messages_in=12,
        messages_out=40,
        undelivered=1,
    )


def test_a_connection_that_ended_with_its_gateway_has_no_counts():
    found = received(sent.Closed(AT, disconnect=sent.Disconnect(WS_URI, 1006, "gateway lost", 5)))
    assert isinstance(found, Disconnect)
    assert (found.messages_in, found.messages_out, found.undelivered) == (None, None, None)


def test_a_request_need_not_be_signed():
    request = sent_request(MESSAGE)
    unsigned = [(name, value) for name, value in request.headers if not name.startswith("webhook-")]
    assert len(unsigned) == len(request.headers) - 3
    assert parse("PUT", unsigned, request.body) == received(MESSAGE)


@pytest.mark.parametrize("event", [OPENED, MESSAGE, CLOSED])
def test_a_request_that_somebody_replays_is_marked(event):
    request = replayed_request(event, 2)
    verify(request.headers, request.body, SECRET, now=0)
    expected = replace(received(event), event_id=f"{ID}:{event.number}:replay-2", is_replay=True)
    assert parse(*request) == expected


def test_the_kinds_of_events_are_told_apart_by_a_match():
    event = received(MESSAGE)
    match event:
        case Message(data=str(text)):
            assert text == "hi"
        case _:
            raise AssertionError


def test_secrets_of_clients_are_not_in_the_representation():
    opened = make_opened(connection_id=ID, ws_uri=WS_URI, query="token=1", headers={"cookie": "2"})
    shown = repr(received(opened, make_subject(b"3")))
    assert "token" not in shown
    assert "cookie" not in shown
    assert "authorization" not in shown
    assert "secret" not in repr(received(sent.Message(True, b"secret", AT, 1)))


@pytest.mark.parametrize("event", [OPENED, MESSAGE, CLOSED])
@pytest.mark.parametrize("name", ["ce-type", "ce-id", "ce-subject", "ce-time", "ws-uri"])
def test_a_missing_header_is_named_with_what_was_expected(event, name):
    assert complaint(event, {name: None}).startswith(f"{name} is missing: expected ")


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"ce-type": "wsaas.connect"}, "ce-type is 'wsaas.connect': expected wsaas.message"),
        ({"ce-id": "id.1"}, "ce-id is 'id.1': expected <id>:1 or a higher number"),
        ({"ce-id": f"{ID}:end"}, f"ce-id is '{ID}:end': expected <id>:1 or a higher number"),
        ({"ce-id": f"{ID}:0"}, f"ce-id is '{ID}:0': expected <id>:1 or a higher number"),
        ({"ce-subject": "other"}, f"ce-subject is 'other': expected {ID}"),
        ({"ws-uri": "evil.example/x"}, f"ws-uri is 'evil.example/x': expected an address that ends with /{ID}"),
        ({"webhook-id": f"{ID}:8"}, f"webhook-id is '{ID}:8': expected {ID}:7"),
        ({"ce-time": "now"}, "ce-time is 'now': expected a time such as 2026-01-31T12:00:00.123Z"),
        ({"ce-time": "2026-01-31T12:00:00"}, "ce-time is '2026-01-31T12:00:00': expected a time such as"),
        ({"content-type": None}, "content-type is missing: expected a type of text, or application/octet-stream"),
    ],
)
def test_an_unexpected_header_is_named_with_what_was_expected(headers, said):
    assert complaint(MESSAGE, headers).startswith(said)


def test_an_error_quotes_only_the_beginning_of_a_long_value():
    assert len(complaint(MESSAGE, {"ce-type": "x" * 10_000})) < 120


def test_text_has_to_be_utf_8():
    said = complaint(MESSAGE, body=b"\xff")
    assert said == "content-type is 'text/plain; charset=utf-8': expected a body in UTF-8"


def test_other_methods_are_not_those_of_a_gateway():
    assert complaint(MESSAGE, method="PATCH") == "the method is 'PATCH': expected POST, PUT or DELETE"
    assert complaint(MESSAGE, method="POST") == "ce-type is 'wsaas.message': expected wsaas.connect"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_the_body_of_a_post_or_delete_is_json(body):
    for event in (OPENED, CLOSED):
        assert complaint(event, body=body) == "the body is not JSON"


@pytest.mark.parametrize("number", ["0", "2"])
def test_a_post_and_a_delete_have_a_fixed_number(number):
    assert complaint(CLOSED, {"ce-id": f"{ID}:{number}"}).endswith("expected <id>:end")
    assert complaint(OPENED, {"ce-id": f"{ID}:end"}).endswith("expected <id>:0")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"ws_uri": f"evil.example/{ID}"}, "ws_uri in the body differs from the headers: expected"),
        ({"id": "other"}, "id in the body differs from the headers: expected"),
        ({"id": 7}, "id in the body is 7: expected a string"),
        ({"timeout": "30"}, "timeout in the body is '30': expected a whole number"),
        ({"timeout": True}, "timeout in the body is True: expected a whole number"),
        ({"timeout": -1}, "timeout in the body is -1: expected a whole number"),
        ({"timeout": 10**30}, "timeout in the body is 1000"),
        ({"request": None}, "request is not as expected: a JSON object"),
    ],
)
def test_an_unexpected_member_of_a_post_is_named(members, said):
    assert complaint(OPENED, body=changed_body(OPENED, **members)).startswith(said)


@pytest.mark.parametrize(
    ("member", "value", "said"),
    [
        ("path", None, "path in the body is None: expected a string"),
        ("headers", [], "headers is not as expected: a JSON object"),
        ("headers", {"x": 1}, "x in the body is 1: expected a string"),
        ("subprotocols", "v1", "subprotocols in the body is 'v1': expected a list of strings"),
        ("subprotocols", [1], "subprotocols in the body is [1]: expected a list of strings"),
    ],
)
def test_an_unexpected_member_of_a_handshake_is_named(member, value, said):
    request = {**json.loads(sent_request(OPENED).body)["request"], member: value}
    assert complaint(OPENED, body=changed_body(OPENED, request=request)) == said


def test_members_and_headers_of_later_versions_are_ignored():
    request = sent_request(OPENED)
    body = changed_body(OPENED, new=[1])
    assert parse("POST", [*request.headers, ("Ws-New", "1")], body) == received(OPENED)
    assert (
        complaint(CLOSED, body=changed_body(CLOSED, code=None)) == "code in the body is None: expected a whole number"
    )


def test_a_body_that_was_decoded_is_an_error_of_the_program():
    with pytest.raises(TypeError, match="raw bytes of the request, not str"):
        parse("PUT", {}, "text")  # type: ignore[arg-type]  # this is the mistake


texts = st.text(st.characters(codec="utf-8"), max_size=20)
header_texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30).map(str.strip)
times = st.integers(0, 4_000_000_000_000).map(lambda milliseconds: milliseconds / 1000)
counts = st.one_of(st.none(), st.integers(0, 2**53))
opened_events = st.builds(
    make_opened,
    times,
    connection_id=st.just(ID),
    ws_uri=st.just(WS_URI),
    timeout_ms=st.integers(0, 2**40),
    path=texts,
    query=texts,
    headers=st.dictionaries(texts, texts, max_size=4),
    subprotocols=st.lists(texts, max_size=3),
)
text_messages = st.builds(sent.Message, st.just(True), texts.map(str.encode), times, st.integers(1, 2**53))
binary_messages = st.builds(sent.Message, st.just(False), st.binary(max_size=30), times, st.integers(1, 2**53))
disconnects = st.builds(
    sent.Disconnect, st.just(WS_URI), st.integers(1000, 4999), texts, st.integers(0, 2**53), counts, counts, counts
)
closed_events = st.builds(lambda at, disconnect: sent.Closed(at, disconnect=disconnect), times, disconnects)
all_events = st.one_of(opened_events, text_messages, binary_messages, closed_events)


@examples(500)
@given(all_events, header_texts.filter(bool), header_texts)
def test_every_request_of_the_gateway_is_read_as_it_was_meant(event, authorization, context):
    found = received(event, make_subject(authorization.encode(), context))
    assert (found.id, found.ws_uri, found.authorization, found.context) == (ID, WS_URI, authorization, context)
    assert abs(found.time.timestamp() - event.at) < 0.0011
    assert found.event_id == f"{ID}:{event.number}"
    if isinstance(event, sent.Opened):
        assert isinstance(found, Connect)
        for name in ("path", "query", "headers", "remote_address"):
            assert getattr(found.request, name) == getattr(event, name)
        assert found.request.subprotocols == tuple(event.subprotocols)
        assert found.timeout == timedelta(milliseconds=event.timeout_ms)
    elif isinstance(event, sent.Message):
        assert isinstance(found, Message)
        assert found.data == (event.data.decode() if event.text else event.data)
        assert found.number == event.number
    else:
        assert isinstance(found, Disconnect)
        assert isinstance(event.disconnect, sent.Disconnect)
        assert found.duration == timedelta(milliseconds=event.disconnect.duration_ms)
        for name in ("code", "reason", "messages_in", "messages_out", "undelivered"):
            assert getattr(found, name) == getattr(event.disconnect, name)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts), lambda each: st.lists(each, max_size=2)
)


@examples(500)
@given(
    st.sampled_from([OPENED, MESSAGE, CLOSED]),
    st.dictionaries(st.sampled_from(["ce-id", "ce-type", "ce-subject", "ce-time", "ws-uri", "content-type"]), texts),
    st.one_of(
        st.binary(max_size=20),
        json_values,
        st.dictionaries(st.sampled_from(["ws_uri", "id", "timeout", "request", "code", "duration"]), json_values),
    ),
    st.sampled_from(["POST", "PUT", "DELETE", "GET"]),
)
def test_anything_else_is_refused_by_one_kind_of_error(event, headers, content, method):
    request = sent_request(event)
    given_headers = {**{name.lower(): value for name, value in request.headers}, **headers}
    if isinstance(content, bytes):
        body = content
    else:
        usual = json.loads(request.body) if event is not MESSAGE else {}
        body = json.dumps({**usual, **content} if isinstance(content, dict) else content).encode()
    try:
        parse(method, given_headers, body)
    except InvalidEvent as error:
        said = str(error)
    else:
        said = ""
    assert len(said) < 300
