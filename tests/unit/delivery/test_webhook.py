import json
import time
from base64 import b64encode
from datetime import timezone
from email.utils import format_datetime, formatdate

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fake_delivery import FakeDelivery
from tests.support.fakes import (
    FakeBreaker,
    FakeClock,
    FakePool,
    make_closed,
    make_opened,
    make_settings,
    opened_by,
    read_all,
)
from tests.support.strategies import examples
from wsaas import __version__, errors
from wsaas.counters import FIRST_BOUND
from wsaas.delivery import webhook
from wsaas.delivery.connect_answer import USUAL
from wsaas.delivery.event_bodies import connect_body
from wsaas.delivery.event_delivery import NO_LISTENER, EventDelivery
from wsaas.delivery.journal import NoJournal
from wsaas.delivery.outbox_state import ABANDONED
from wsaas.delivery.pool import Failure
from wsaas.delivery.services import DeliveryServices
from wsaas.delivery.signature import Signer
from wsaas.delivery.verdicts import DELIVERED, Accepted, Actions, Delivered, Rejected, Retry, Undeliverable
from wsaas.delivery.webhook import Subject, Webhook
from wsaas.delivery.webhook_wrapper import WebhookWrapper
from wsaas.events import Closed, Message, Opened
from wsaas.http.request import Request, RequestParser
from wsaas.http.response import Response
from wsaas.http.trace_context import TraceContext
from wsaas.reason import Reason
from wsaas.settings import load
from wsaas.websocket.handshake import Handshake

NOW = 1769860800.0
AT = 1769860800.125
ID = "c0ffee"
WS_URI = f"localhost:8080/{ID}"
OPENED, MESSAGE, CLOSED = make_opened(AT), Message(True, b"hi", AT, 1), make_closed(b"{}", AT)
EVENTS = [OPENED, MESSAGE, CLOSED]
ANSWERS = [200, 201, 202, 204, 299]


def make(**settings: str) -> Webhook:
    flags = {"api_uri": "localhost:80/websocket"} | settings
    return Webhook(load(flags, {}), FakePool(), FakeBreaker(), lambda: NOW)


def subject(authorization: bytes | None = None) -> Subject:
    return Subject(ID, "localhost:8080", authorization)


def response(status: int, body: bytes = b"", **headers: bytes) -> Response:
    made = Response(status, {name.replace("_", "-").encode(): value for name, value in headers.items()})
    made.body = body
    return made


def read(data: bytes) -> Request:
    (request,) = read_all(RequestParser(1_000_000), data)
    assert isinstance(request, Request)
    return request


# Requests.


def test_a_post_is_these_bytes(monkeypatch):
    monkeypatch.setattr(webhook, "connect_body", lambda _: b'{"ws_uri":"x"}')
    data = make().request(subject(), make_opened(AT))
    assert data == (
        b"POST /websocket HTTP/1.1\r\n"
        b"Host: localhost\r\n"
        b"User-Agent: wsaas/" + __version__.encode() + b"\r\n"
        b"Accept-Encoding: identity\r\n"
        b"ce-specversion: 1.0\r\n"
        b"ce-type: wsaas.connect\r\n"
        b"ce-source: localhost:8080\r\n"
        b"Ws-Uri: localhost:8080/c0ffee\r\n"
        b"ce-subject: c0ffee\r\n"
        b"ce-id: c0ffee:0\r\n"
        b"ce-time: 2026-01-31T12:00:00.125Z\r\n"
        b"Content-Type: application/json\r\n"
        b"Content-Length: 14\r\n"
        b"\r\n"
        b'{"ws_uri":"x"}'
    )


def test_a_put_is_these_bytes():
    one = Subject(ID, "localhost:8080", b"Bearer \xe9\xff", "user=1; room 2")
    data = make(api_uri="https://backend:8443/a?b=c", ws_hostname="http://node/x").request(
        one, Message(True, "grüße".encode(), AT, 12)
    )
    assert data == (
        b"PUT /a?b=c HTTP/1.1\r\n"
        b"Host: backend:8443\r\n"
        b"User-Agent: wsaas/" + __version__.encode() + b"\r\n"
        b"Accept-Encoding: identity\r\n"
        b"ce-specversion: 1.0\r\n"
        b"ce-type: wsaas.message\r\n"
        b"ce-source: http://node/x\r\n"
        b"Authorization: Bearer \xe9\xff\r\n"
        b"Ws-Uri: localhost:8080/c0ffee\r\n"
        b"ce-subject: c0ffee\r\n"
        b"Ws-Context: user=1; room 2\r\n"
        b"ce-id: c0ffee:12\r\n"
        b"ce-time: 2026-01-31T12:00:00.125Z\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 7\r\n"
        b"\r\n"
        b"gr\xc3\xbc\xc3\x9fe"
    )


def test_text_messages_have_the_type_of_the_setting_and_only_these():
    kind, usual = b"\r\nContent-Type: application/json\r\n", make()
    hook = make(text_content_type="application/json")
    text, binary = Message(True, b"{}", AT, 1), Message(False, b"{}", AT, 1)
    assert kind not in usual.request(subject(), text)
    with_type = hook.request(subject(), text)
    assert with_type.replace(kind, b"\r\nContent-Type: text/plain; charset=utf-8\r\n") == usual.request(subject(), text)
    assert hook.request(subject(), binary) == usual.request(subject(), binary)


@pytest.mark.parametrize(
    "values",
    [{}, {"api_secret": "whsec_" + "A" * 32}, {"api_uri": "backend/{id}?a=b"}, {"text_content_type": "a/b"}],
)
def test_a_request_that_is_composed_is_the_usual_one(values):
    hook = make(**values)
    trace = TraceContext(f"00-{'a' * 32}-{'b' * 16}-01", "vendor=1")
    subjects = [
        Subject(ID, "localhost:8080", None),
        Subject(ID, "localhost:8080", b"Bearer \xe9", "user=1"),
        Subject(ID, "localhost:8080", b"", trace=trace),
    ]
    for one in subjects:
        for event in (*EVENTS, Message(False, b"\xff", AT, 7)):
            usual = hook.request(one, event)
            assert WebhookWrapper(hook).compose(one, event, f"{ID}:{event.number}") == usual
            content, body = WebhookWrapper(hook).content(one, event, f"{ID}:{event.number}")
            assert usual.endswith(f"{content}{len(body)}\r\n\r\n".encode() + body)
            assert read(hook.compose(one, event, "other", "Ws-Replay: 1\r\n")).header(b"ws-replay") == b"1"


def test_a_delete_is_these_bytes():
    data = make(api_uri="[::1]:8000").request(subject(b""), make_closed(b"{}", AT))
    assert data == (
        b"DELETE / HTTP/1.1\r\n"
        b"Host: [::1]:8000\r\n"
        b"User-Agent: wsaas/" + __version__.encode() + b"\r\n"
        b"Accept-Encoding: identity\r\n"
        b"ce-specversion: 1.0\r\n"
        b"ce-type: wsaas.disconnect\r\n"
        b"ce-source: localhost:8080\r\n"
        b"Authorization: \r\n"
        b"Ws-Uri: localhost:8080/c0ffee\r\n"
        b"ce-subject: c0ffee\r\n"
        b"ce-id: c0ffee:end\r\n"
        b"ce-time: 2026-01-31T12:00:00.125Z\r\n"
        b"Content-Type: application/json\r\n"
        b"Content-Length: 2\r\n"
        b"\r\n"
        b"{}"
    )


def test_a_binary_message_is_sent_as_it_is():
    request = read(make().request(subject(), Message(False, b"\x00\xff\r\n", AT, 1)))
    assert request.header(b"content-type") == b"application/octet-stream"
    assert request.body == b"\x00\xff\r\n"


@examples(100)
@given(st.booleans(), st.binary(max_size=200), st.integers(1, 10**9))
def test_any_message_can_be_read_back(text, data, number):
    request = read(make().request(subject(), Message(text, data, AT, number)))
    assert (request.method, request.target, request.body) == (b"PUT", b"/websocket", data)
    assert request.header(b"ce-id") == b"c0ffee:%d" % number
    assert request.keep_alive


@pytest.mark.parametrize("authorization", [None, b"", b"Bearer \xe9: x", b"Ws-Uri: y"])
def test_the_authorization_is_sent_unchanged(authorization):
    one = Subject("c0ffee", "node", authorization, "user=1")
    assert read(make().request(one, MESSAGE)).headers.get(b"authorization") == authorization


def test_the_requests_of_a_connection_with_a_trace_carry_it():
    context = TraceContext(f"00-{'a' * 32}-{'b' * 16}-01", "vendor=1")
    hook, one = make(), Subject(ID, "localhost:8080", None, trace=context)
    sent = [read(hook.request(one, event)).headers for event in EVENTS]
    assert sent[0][b"traceparent"].decode() == context.traceparent
    seen = {each[b"traceparent"] for each in sent}
    assert len(seen) == 3
    assert {each[:36] for each in seen} == {b"00-" + b"a" * 32 + b"-"}
    assert {each[b"tracestate"] for each in sent} == {b"vendor=1"}
    # Each attempt has the same bytes.
    assert [hook.request(one, event) for event in EVENTS] == [hook.request(one, event) for event in EVENTS]
    assert (one.trace_id, one.trace_context) == ("a" * 32, context)


def test_the_requests_of_a_connection_without_a_trace_carry_none():
    for event in EVENTS:
        assert b"trace" not in make().request(subject(), event)
    assert (subject().trace_id, subject().trace_context) == (None, None)


def test_a_webhook_that_records_nothing_is_used_for_every_trace():
    hook, one = make(), Subject(ID, "localhost:8080", None, trace=TraceContext(f"00-{'a' * 32}-{'b' * 16}-01"))
    assert hook.for_connection(one) is hook
    hook.given_up(one, MESSAGE, "it was too late")
    hook.abandoned()


class PerConnection(WebhookWrapper):
    """Gives each connection a wrapper of its own."""

    def __init__(self, inner):
        super().__init__(inner)
        self.is_per_connection = True

    def for_connection(self, _subject):
        return WebhookWrapper(self.inner)


@pytest.mark.parametrize("trace", [None, TraceContext(f"00-{'a' * 32}-{'b' * 16}-01")])
def test_each_connection_has_a_webhook_of_its_own_if_the_webhook_asks_for_it(trace):
    plain = make()
    services = DeliveryServices(make_settings(), FakeClock(), PerConnection(plain), NoJournal())
    one, other = (EventDelivery(services, Subject(ID, "node", None, trace=trace), NO_LISTENER) for _ in range(2))
    assert one.webhook is not other.webhook
    assert isinstance(one.webhook, WebhookWrapper)
    assert one.webhook.inner is plain
    assert not one.webhook.is_per_connection


def test_a_context_that_is_replaced_is_sent_with_the_next_request():
    hook, one = make(), Subject(ID, "localhost:8080", b"Basic x", "page=1")
    before = hook.request(one, MESSAGE)
    one.context = "page=2"
    assert hook.request(one, MESSAGE) == before.replace(b"Ws-Context: page=1\r\n", b"Ws-Context: page=2\r\n") != before
    one.context = None
    assert hook.request(one, MESSAGE) == before.replace(b"Ws-Context: page=1\r\n", b"")


@pytest.mark.parametrize("event", EVENTS)
def test_the_path_may_contain_the_id(event):
    hook = make(api_uri="localhost/ws/{id}?i={id}&j=1")
    assert read(hook.request(subject(), event)).target == b"/ws/c0ffee?i=c0ffee&j=1"
    assert read(hook.request(Subject("other", "x", None), event)).target == b"/ws/other?i=other&j=1"


@pytest.mark.parametrize("event", EVENTS)
def test_a_request_is_the_same_for_each_attempt(event):
    hook, one = make(), subject(b"Basic x")
    assert hook.request(one, event) == hook.request(one, event)


@pytest.mark.parametrize("event", EVENTS)
def test_a_signed_request_has_its_signature_and_the_time_of_the_attempt(event):
    keys = [bytes(32), bytes(range(24))]
    text = ",".join("whsec_" + b64encode(key).decode() for key in keys)
    now = [NOW]
    settings = load({"api_uri": "a", "api_secret": text}, {})
    hook = Webhook(settings, FakePool(), FakeBreaker(), lambda: now[0])
    request = read(hook.request(subject(), event))
    signed = Signer(keys).lines(request.headers[b"ce-id"], NOW, request.body)
    assert [line for line in signed.split(b"\r\n") if line] == [
        name + b": " + value for name, value in request.headers.items() if name.startswith(b"webhook-")
    ]
    now[0] += 5
    again = read(hook.request(subject(), event))
    assert again.header(b"webhook-timestamp") == b"%d" % (NOW + 5)
    assert again.header(b"webhook-signature") != request.header(b"webhook-signature")
    assert again.header(b"webhook-id") == request.header(b"webhook-id")


@pytest.mark.parametrize(
    ("event", "wait_timeout"),
    [(OPENED, 2.5), (MESSAGE, 2.5 + 4.0), (CLOSED, 2.5 + 40.0)],
    ids=["post", "put", "delete"],
)
def test_a_call_hands_the_request_to_the_pool(event, wait_timeout):
    pool, breaker = FakePool(), FakeBreaker()
    settings = load({"api_uri": "a", "api_timeout": "2500", "api_retry": "4000"}, {})
    hook = Webhook(settings, pool, breaker, lambda: NOW)
    delivery = FakeDelivery(subject(b"Basic x"))
    hook.call(delivery, event)
    (exchange,) = pool.sent
    assert exchange.request == hook.request(delivery.subject, event)
    assert exchange.wait_timeout == wait_timeout
    assert exchange.retried is not isinstance(event, Opened)
    assert not exchange.fresh
    assert delivery.verdicts == []
    exchange.answered(Failure.BROKEN)
    assert delivery.verdicts == [hook.judge(event, Failure.BROKEN)]
    assert breaker.observed == [(delivery, Failure.BROKEN)]


def counted(event, outcome, *, is_direct=False, took=0.2, waited=False, wall=NOW):
    """Return the counters after a request for `event` had this outcome."""
    pool = FakePool()
    hook = Webhook(load({"api_uri": "a"}, {}), pool, FakeBreaker(), lambda: wall)
    delivery = FakeDelivery(subject())
    hook.call(delivery, event, is_direct)
    pool.sent[0].deadline = 1.0 if waited else 0.0
    pool.answer(outcome, took)
    assert len(delivery.verdicts) == 1
    return hook.counters


@pytest.mark.parametrize(
    ("event", "outcome", "result"),
    [
        (OPENED, response(200, b'{"code": "OK"}'), "ok"),
        (OPENED, response(200, b'{"code": "NO"}'), "refused"),
        (OPENED, response(401), "refused"),
        (OPENED, response(500), "error"),
        (OPENED, response(502), "error"),
        (OPENED, response(200, b"It works!"), "error"),
        (MESSAGE, response(204), "ok"),
        (MESSAGE, response(400), "refused"),
        (MESSAGE, response(503), "error"),
        (MESSAGE, response(200, ws_reply=b"json"), "error"),
        (CLOSED, response(404), "ok"),
        (CLOSED, response(403), "error"),
        *((MESSAGE, failure, name) for failure, name in webhook.FAILURE_RESULTS.items()),
    ],
)
def test_the_outcome_of_a_request_is_counted(event, outcome, result):
    requests = counted(event, outcome).requests[type(event)]
    assert {name: number for name, number in requests.results.items() if number} == {result: 1}
    # A request that was not sent has no duration.
    sent = outcome not in (Failure.UNREACHABLE, Failure.POOL_TIMEOUT)
    assert (requests.durations.count, requests.durations.sum) == ((1, 0.2) if sent else (0, 0))


@pytest.mark.parametrize("took", [0.0, FIRST_BOUND, 0.2])
def test_a_message_that_did_not_wait_is_counted_once_for_both_histograms(took):
    counters = counted(MESSAGE, response(204), is_direct=True, took=took)
    assert (counters.direct.count, counters.direct.sum) == (1, took)
    assert (counters.direct.first, sum(counters.direct.counts)) == ((1, 0) if took <= FIRST_BOUND else (0, 1))
    assert counters.delayed.count == 0
    assert counters.requests[Message].durations.count == 0


@pytest.mark.parametrize(
    ("outcome", "options"),
    [
        (response(204), {"is_direct": False}),
        (response(204), {"is_direct": True, "waited": True}),
        (response(200, b"reply", ws_reply=b"text"), {"is_direct": True}),
    ],
    ids=["queued", "pool", "actions"],
)
def test_a_message_that_waited_or_is_answered_with_actions_is_counted_in_two_histograms(outcome, options):
    counters = counted(MESSAGE, outcome, wall=AT + 3.0, **options)
    assert (counters.delayed.count, counters.delayed.sum) == (1, 3.0)
    assert counters.requests[Message].results["ok"] == counters.requests[Message].durations.count == 1
    assert counters.direct.count == 0


def test_a_clock_that_was_set_back_makes_no_negative_time():
    assert counted(MESSAGE, response(204), wall=AT - 100.0).delayed.sum == 0


def test_a_failed_message_is_not_delivered():
    counters = counted(MESSAGE, response(500), is_direct=True)
    assert counters.direct.count == counters.delayed.count == 0


def test_the_outcome_of_an_abandoned_event_reaches_only_the_circuit_breaker(caplog):
    pool, breaker = FakePool(), FakeBreaker()
    hook = Webhook(load({"api_uri": "a"}, {}), pool, breaker, lambda: NOW)
    delivery = FakeDelivery(subject())
    hook.call(delivery, MESSAGE)
    delivery.state = ABANDONED
    answer = response(500)
    pool.answer(answer)
    assert breaker.observed == [(delivery, answer)]
    assert delivery.verdicts == []
    assert caplog.messages == []


def test_the_circuit_breaker_learns_of_an_outcome_before_the_delivery_acts_on_it():
    pool, breaker = FakePool(), FakeBreaker()
    seen: list[int] = []
    hook = Webhook(load({"api_uri": "a"}, {}), pool, breaker, lambda: NOW)
    delivery = FakeDelivery(subject())
    delivery.on_verdict = lambda: seen.append(len(breaker.observed))
    hook.call(delivery, MESSAGE)
    pool.answer(response(204))
    assert delivery.verdicts == [DELIVERED]
    assert seen == [1]


def test_a_delete_is_retried_ten_times_as_long_as_a_put_and_a_post_not_at_all():
    assert make(api_retry="1500").windows == {Opened: 0.0, Message: 1.5, Closed: 15.0}


def test_the_body_of_a_post_describes_the_client():
    shaken = Handshake(b"key", "/chat", "a=b", {"host": "x", "x-a": "é"}, ["v1", "v2"], b"secret")
    opened = opened_by(shaken, connection_id=ID, ws_uri=WS_URI, remote_address="10.0.0.1")
    assert json.loads(connect_body(opened)) == {
        "ws_uri": WS_URI,
        "id": ID,
        "timeout": 30_000,
        "request": {
            "path": "/chat",
            "query": "a=b",
            "headers": {"host": "x", "x-a": "é"},
            "subprotocols": ["v1", "v2"],
            "remote_address": "10.0.0.1",
        },
    }


# Verdicts on responses to POST.


def judge_post(outcome):
    return make().judge(OPENED, outcome)


def denial(outcome) -> tuple[int, tuple[tuple[str, str], ...], bool]:
    verdict = judge_post(outcome)
    assert isinstance(verdict, Rejected)
    assert verdict.error.message.endswith(".")
    return verdict.error.status, verdict.error.headers, verdict.disconnect_owed


@pytest.mark.parametrize("status", ANSWERS)
def test_ok_lets_the_client_in(status):
    for usual in USUAL:
        # A shortcut. The same with a space in front is parsed.
        assert judge_post(response(status, usual)) == judge_post(response(status, b" " + usual)) == Accepted(None, None)
    assert judge_post(response(status, b' {"x": [1], "code": "OK", "context": null}\n')) == Accepted(None, None)


def test_a_byte_order_mark_before_the_answer_does_not_matter():
    assert judge_post(response(200, b'\xef\xbb\xbf{"code":"OK"}')) == Accepted(None, None)
    assert denial(response(200, b'\xef\xbb\xbf{"code":"NO"}')) == (403, (), False)
    assert denial(response(200, b'\xef\xbb\xbf\xef\xbb\xbf{"code":"OK"}')) == (502, (), True)
    assert denial(response(200, b"\xef\xbb\xbf")) == (502, (), True)


def test_ok_may_bring_groups():
    body = b'{"code":"OK","groups":["lobby","user:7","lobby"]}'
    assert judge_post(response(200, body)) == Accepted(None, None, ("lobby", "user:7", "lobby"))
    for empty in (b"null", b"[]"):
        assert judge_post(response(200, b'{"code":"OK","groups":' + empty + b"}")) == Accepted(None, None)


def test_ok_may_bring_a_subprotocol_and_a_context():
    body = b'{"code":"OK","subprotocol":"v1","context":"user 7"}'
    assert judge_post(response(200, body)) == Accepted("v1", "user 7")


@pytest.mark.parametrize("code", ["ok", "NO", "", "OK ", "KO", "ÖK"])
@pytest.mark.parametrize("status", ANSWERS)
def test_any_other_code_is_a_refusal(status, code):
    assert denial(response(status, orjson.dumps({"code": code}))) == (403, (), False)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"OK",
        b'"OK"',
        b"[]",
        b'["code"]',
        b"null",
        b"{}",
        b'{"code":1}',
        b'{"code":null}',
        b'{"code":["OK"]}',
        b'{"code":true}',
        b'{"Code":"OK"}',
        b'{"code":"OK"',
        b'{"code":"OK"} x',
        b'{"code":"\xff"}',
        b"<html>",
        b"[" * 100_000,
        b'{"code":"OK","subprotocol":1}',
        b'{"code":"OK","subprotocol":["v1"]}',
        b'{"code":"OK","context":1}',
        b'{"code":"OK","context":{}}',
        b'{"code":"OK","context":"a\\r\\nX: y"}',
        b'{"code":"OK","context":"a\\u0000"}',
        b'{"code":"OK","context":"\\u007f"}',
        b'{"code":"OK","context":"a\\tb"}',
        b'{"code":"OK","context":"\xc3\xa9"}',
        b'{"code":"OK","context":" a"}',
        b'{"code":"OK","context":"a "}',
        b'{"code":"OK","groups":"lobby"}',
        b'{"code":"OK","groups":{}}',
        b'{"code":"OK","groups":[7]}',
        b'{"code":"OK","groups":["lobby",null]}',
        b'{"code":"OK","groups":["a b"]}',
        b'{"code":"OK","groups":[""]}',
    ],
)
def test_without_a_readable_answer_the_backend_may_count_the_client_as_connected(body):
    assert denial(response(200, body)) == (502, (), True)


@pytest.mark.parametrize(("size", "accepted"), [(4096, True), (4097, False)])
def test_a_context_has_at_most_four_kibibytes(size, accepted):
    context = "x" * size
    verdict = judge_post(response(200, orjson.dumps({"code": "OK", "context": context})))
    assert (verdict == Accepted(None, context)) is accepted
    assert isinstance(verdict, Rejected) is not accepted


@examples(300)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
def test_a_context_that_is_accepted_survives_in_a_header(context):
    verdict = judge_post(response(200, orjson.dumps({"code": "OK", "context": context})))
    if isinstance(verdict, Accepted):
        one = subject()
        assert verdict.context is not None
        one.context = verdict.context
        assert read(make().request(one, MESSAGE)).header(b"ws-context") == context.encode()
    else:
        assert verdict.disconnect_owed
        assert not context.isascii() or not context.isprintable() or context != context.strip()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.Unauthorized),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (429, errors.TooManyRequests),
        (503, errors.Unavailable),
    ],
)
def test_some_refusals_are_passed_on_as_they_are(status, kind):
    verdict = judge_post(response(status, b'{"code":"OK"}'))
    assert type(verdict.error) is kind
    assert denial(response(status)) == (status, (), False)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 503])
def test_a_refusal_keeps_www_authenticate_and_retry_after(status):
    refused = response(status, www_authenticate=b'Basic realm="\xe9"', retry_after=b"7", set_cookie=b"a=b")
    assert denial(refused) == (status, (("Www-Authenticate", 'Basic realm="é"'), ("Retry-After", "7")), False)
    assert denial(response(status, retry_after=b"8")) == (status, (("Retry-After", "8"),), False)


@pytest.mark.parametrize("status", [300, 301, 304, 307, 400, 402, 405, 408, 409, 410, 413, 418, 500, 501, 505, 599])
def test_any_other_answer_is_a_bad_gateway(status):
    assert denial(response(status, b'{"code":"OK"}', retry_after=b"7")) == (502, (), False)


@pytest.mark.parametrize("status", [502, 504])
def test_after_the_answer_of_a_proxy_the_backend_may_count_the_client_as_connected(status):
    assert denial(response(status)) == (502, (), True)


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (Failure.UNREACHABLE, (503, (("Retry-After", "1"),), False)),
        (Failure.POOL_TIMEOUT, (503, (("Retry-After", "1"),), False)),
        (Failure.BROKEN, (502, (), True)),
        (Failure.INVALID_RESPONSE, (502, (), True)),
        (Failure.TIMED_OUT, (504, (), True)),
    ],
)
def test_only_an_unsent_post_needs_no_delete(failure, expected):
    assert denial(failure) == expected


CODED = [b"gzip", b"GZIP", b"br", b"identity, deflate", b"\xff" * 100]
PLAIN = [b"", b"identity", b"Identity", b"identity , ,identity"]


@pytest.mark.parametrize("coding", CODED)
def test_a_coded_answer_to_a_post_cannot_be_used(coding):
    answered = response(200, b'{"code":"OK"}', content_encoding=coding)
    assert denial(answered) == (502, (), True)
    message = judge_post(answered).error.message
    assert message.startswith("The backend answered with a body in Content-Encoding ")
    assert len(message) < 120


@pytest.mark.parametrize("coding", PLAIN)
def test_an_answer_to_a_post_may_say_that_it_is_not_coded(coding):
    assert judge_post(response(200, b'{"code":"OK"}', content_encoding=coding)) == Accepted(None, None)


@pytest.mark.parametrize("status", [401, 404, 503])
def test_the_coding_of_an_answer_whose_body_is_not_read_does_not_matter(status):
    assert denial(response(status, b"\x1f\x8b", content_encoding=b"gzip")) == (status, (), False)


# Verdicts on responses to PUT.


def replied(text, data):
    """Return the verdict on a message that the backend answered with one for the client."""
    return Delivered(Actions(reply=Message(text, data)))


def judge_put(outcome):
    return make().judge(MESSAGE, outcome)


@pytest.mark.parametrize("status", ANSWERS)
def test_any_2xx_acknowledges_a_message(status):
    assert judge_put(response(status, b"whatever", content_type=b"text/plain")) == Delivered(None)


@pytest.mark.parametrize("kind", [b"text", b"Text", b"TEXT"])
def test_a_reply_may_be_text(kind):
    assert judge_put(response(200, "grüße".encode(), ws_reply=kind)) == Delivered(
        Actions(reply=Message(True, "grüße".encode()))
    )
    assert judge_put(response(204, ws_reply=kind)) == replied(True, b"")


@pytest.mark.parametrize("kind", [b"binary", b"Binary"])
def test_a_reply_may_be_binary(kind):
    assert judge_put(response(201, b"\xff\x00", ws_reply=kind)) == replied(False, b"\xff\x00")


@pytest.mark.parametrize("kind", [b"", b"json", b"text, binary", b"text/plain"])
def test_a_reply_is_text_or_binary(kind):
    verdict = judge_put(response(200, b"x", ws_reply=kind))
    shown = kind.decode()
    assert verdict == Undeliverable(f"the backend's Ws-Reply is '{shown}', neither text nor binary", Reason.UNDELIVERED)


def test_a_text_reply_is_utf8():
    verdict = judge_put(response(200, b"\xff", ws_reply=b"text"))
    assert verdict == Undeliverable("the backend's text reply is not UTF-8", Reason.UNDELIVERED)


@pytest.mark.parametrize("kind", [b"text", b"binary"])
def test_a_reply_that_was_too_large_to_keep_is_not_sent_empty(kind):
    answered = response(200, ws_reply=kind)
    answered.is_too_large = True
    assert judge_put(answered) == Undeliverable("the backend's reply is over MAX_MESSAGE_SIZE", Reason.UNDELIVERED)


@pytest.mark.parametrize("kind", [b"text", b"binary"])
@pytest.mark.parametrize("coding", CODED)
def test_a_coded_reply_is_not_sent_to_the_client(kind, coding):
    verdict = judge_put(response(200, b"x", ws_reply=kind, content_encoding=coding))
    shown = coding[:40].decode("latin-1")
    assert verdict == Undeliverable(f"the backend's reply is in Content-Encoding {shown}", Reason.UNDELIVERED)


@pytest.mark.parametrize("coding", PLAIN)
def test_a_reply_may_say_that_it_is_not_coded(coding):
    assert judge_put(response(200, b"x", ws_reply=b"text", content_encoding=coding)) == Delivered(
        Actions(reply=Message(True, b"x"))
    )


@pytest.mark.parametrize("coding", CODED)
def test_a_coded_answer_that_is_no_reply_does_not_matter(coding):
    assert judge_put(response(200, b"x", content_encoding=coding)) == Delivered(None)
    assert make().judge(CLOSED, response(200, b"x", content_encoding=coding)) == Delivered(None)


def test_a_large_answer_that_is_no_reply_does_not_matter():
    answered = response(200)
    answered.is_too_large = True
    assert judge_put(answered) == Delivered(None)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 501, 502, 503, 504, 505, 599])
def test_a_message_is_retried_when_the_backend_may_accept_it_later(status):
    assert judge_put(response(status, ws_reply=b"text")) == Retry(f"the backend answered {status}", 0.0)
    assert judge_put(response(status, retry_after=b"3")) == Retry(f"the backend answered {status}", 3.0)


@pytest.mark.parametrize("status", [300, 301, 304, 308, 400, 401, 403, 404, 405, 409, 422, 424, 426, 499])
def test_a_message_that_the_backend_refuses_closes_the_client(status):
    verdict = judge_put(response(status, retry_after=b"3"))
    assert verdict == Undeliverable(f"the backend answered {status}", Reason.UNDELIVERED)


def test_a_410_closes_the_client_normally():
    assert judge_put(response(410)) == Undeliverable("the backend answered 410", Reason.BACKEND_GONE)


def test_a_message_that_is_too_large_for_the_backend_is_too_large_for_the_client():
    assert judge_put(response(413, retry_after=b"3")) == Undeliverable("the backend answered 413", Reason.TOO_LARGE)


# Verdicts on responses to DELETE.


def judge_delete(outcome):
    return make().judge(CLOSED, outcome)


@pytest.mark.parametrize("status", [*ANSWERS, 404, 410])
def test_a_delete_is_done_when_the_backend_has_no_such_client(status):
    assert judge_delete(response(status, ws_reply=b"nonsense")) == Delivered(None)


@pytest.mark.parametrize("status", [301, 304, 400, 401, 403, 405, 408, 409, 425, 429, 500, 502, 503, 504])
def test_a_delete_is_retried_after_any_other_answer(status):
    assert judge_delete(response(status)) == Retry(f"the backend answered {status}", 0.0)
    assert judge_delete(response(status, retry_after=b"4")) == Retry(f"the backend answered {status}", 4.0)


@pytest.mark.parametrize("failure", Failure)
@pytest.mark.parametrize("event", [MESSAGE, CLOSED])
def test_a_request_without_an_answer_is_retried(event, failure):
    sent = failure not in (Failure.UNREACHABLE, Failure.POOL_TIMEOUT)
    assert make().judge(event, failure) == Retry(f"the backend {failure.value}", 0.0, sent)


# Retry-After


@pytest.fixture
def far_east(monkeypatch):
    """Set a local time zone that is nine hours ahead of UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()


def wait(value: bytes) -> float:
    verdict = judge_put(response(503, retry_after=value))
    assert isinstance(verdict, Retry)
    assert verdict == make().judge(CLOSED, response(503, retry_after=value))
    return verdict.after


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0.0),
        (b"1", 1.0),
        (b"120", 120.0),
        (b"9" * 5000, 999_999_999.0),
        (formatdate(NOW + 90, usegmt=True).encode(), 90.0),
        (b"Sat, 31 Jan 2026 12:00:05 GMT", 5.0),
        (b"Saturday, 31-Jan-26 12:00:06 GMT", 6.0),
        (b"Sat Jan 31 12:00:07 2026", 7.0),
        (b"Sat, 31 Jan 2026 14:00:08 +0200", 8.0),
        (b"Sat, 31 Jan 2026 11:59:59 GMT", 0.0),
        (b"Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        (b"Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
    ],
)
@pytest.mark.usefixtures("far_east")
def test_retry_after_is_seconds_or_a_date(value, seconds):
    assert wait(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"soon",
        b"-1",
        b"+1",
        b"1.5",
        b"\xb2",
        b"\xff",
        b"1e3",
        b"Sat, 31 Jan 2026",
        b"Sat, 32 Jan 2026 12:00:05 GMT",
        b"Sat, 31 Jan 2026 25:00:05 GMT",
        b"Sat, 31 Jan 99999 12:00:05 GMT",
        b"Fri, 31 Dec 9999 23:59:59 -9999",
    ],
)
def test_an_invalid_retry_after_is_ignored(value):
    assert wait(value) == 0.0


_dates = st.datetimes(timezones=st.just(timezone.utc)).map(lambda moment: format_datetime(moment, usegmt=True))
_words = st.lists(
    st.sampled_from(
        ["Fri,", "31", "Dec", "9999", "1", "0001", "23:59:59", "GMT", "-0000", "+9999", "24:61:61", ",", "-", "²"]
    ),
    max_size=7,
).map(" ".join)


@examples(300)
@given(st.one_of(_dates, _words, st.text(st.characters(max_codepoint=255), max_size=12)))
def test_any_retry_after_gives_a_finite_number_of_seconds(value):
    assert 0.0 <= wait(value.encode("latin-1")) < 300_000_000_000
