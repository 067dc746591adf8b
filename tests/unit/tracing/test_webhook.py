import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.support.fakes import FakeClock, FakePool, make_closed, make_opened, make_services, make_settings
from wsaas.delivery.circuit_breaker import CircuitBreaker
from wsaas.delivery.event_delivery import OutboxListener
from wsaas.delivery.outbox import Outbox
from wsaas.delivery.pool import Failure
from wsaas.delivery.trace import HANDSHAKE, Trace
from wsaas.delivery.webhook import Subject, Webhook
from wsaas.delivery.webhook_wrapper import WebhookWrapper
from wsaas.events import Message
from wsaas.http.response import Response
from wsaas.http.trace_context import TraceContext
from wsaas.tracing.recorder import Recorder
from wsaas.tracing.webhook import RecordedWebhook, TracingWebhook

TRACE_ID, PARENT_ID = "a" * 32, "b" * 16
SAMPLED = TraceContext(f"00-{TRACE_ID}-{PARENT_ID}-01", "vendor=1")
AT = 1_700_000_000.5
OK = b'{"code":"OK"}'


def opened(**values):
    said = {"subprotocols": ("v1",), "headers": {"user-agent": "a browser"}, "remote_address": "192.0.2.7"}
    return make_opened(AT, **{**said, "path": "/room", **values})


def message(number=1, data=b"hello"):
    return Message(True, data, AT, number)


class Rig:
    """An outbox whose events are recorded, as far as their trace is sampled."""

    def __init__(self, context=SAMPLED, **settings):
        self.clock = FakeClock()
        self.exporter = InMemorySpanExporter()
        self.pool = FakePool()
        self.breaker = CircuitBreaker(self.clock, self.pool)
        self.recorder = Recorder(self.exporter)
        self.recorder.start()
        given = make_settings(**{"api_uri": "https://backend:8443/ws/{id}?key=s3cret", "traces": "on", **settings})
        self.plain = Webhook(given, self.pool, self.breaker, self.clock.wall)
        self.webhook = TracingWebhook(self.plain, self.recorder, given)
        self.services = make_services(given, self.clock, self.webhook)
        self.subject = Subject("c0ffee", "node", None, None, context)
        self.outbox = Outbox(self.services, self.subject, OutboxListener())

    def answer(self, outcome, body=b"", **headers):
        """Answer the oldest request."""
        named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
        if not isinstance(outcome, Failure):
            outcome = Response(outcome, named)
            outcome.body = body
        self.pool.answer(outcome)

    def spans(self):
        """Return what was exported."""
        self.recorder.close()
        return list(self.exporter.get_finished_spans())

    def span(self):
        (span,) = self.spans()
        return span

    @property
    def sent(self):
        """The `traceparent` of each request that is under way."""
        heads = [exchange.request.partition(b"\r\n\r\n")[0].decode() for exchange in self.pool.sent]
        return [head.partition("traceparent: ")[2].partition("\r\n")[0] for head in heads]


@pytest.fixture
def rig():
    made = Rig()
    yield made
    made.recorder.close()


def span_id(rig, number):
    return Trace(SAMPLED, rig.subject.id).span_id(number)


@pytest.mark.parametrize("context", [None, TraceContext(f"00-{TRACE_ID}-{PARENT_ID}-00")])
def test_a_connection_that_is_not_sampled_uses_the_plain_webhook(context):
    rig = Rig(context)
    assert rig.outbox._webhook in ({rig.webhook} if context is None else {rig.plain})
    assert rig.subject.trace is None or type(rig.subject.trace) is Trace
    rig.outbox.put(opened())
    rig.answer(200, OK)
    rig.outbox.put(message())
    rig.answer(204)
    assert rig.spans() == []


def test_a_webhook_without_a_trace_records_nothing(rig):
    plain = Subject("other", "node", None)
    assert rig.webhook.for_connection(plain) is rig.plain


def test_a_message_is_a_client_span_with_the_id_that_its_request_carries(rig):
    rig.outbox.put(message(7))
    assert rig.sent == [f"00-{TRACE_ID}-{span_id(rig, 7):016x}-01"]
    rig.answer(204)
    span = rig.span()
    assert span.name == "PUT /ws/{id}"
    assert span.kind is SpanKind.CLIENT
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert span.context.span_id == span_id(rig, 7)
    assert span.context.trace_state.to_header() == "vendor=1"
    assert span.parent.span_id == span_id(rig, HANDSHAKE)
    assert span.start_time == round(AT * 1e9)
    assert span.end_time > span.start_time
    assert span.status.status_code is StatusCode.UNSET
    assert span.events == ()
    assert dict(span.attributes) == {
        "http.request.method": "PUT",
        "http.request.body.size": 5,
        "http.response.status_code": 204,
        "url.full": "https://backend:8443/ws/c0ffee",
        "server.address": "backend",
        "server.port": 8443,
        "cloudevents.event_id": "c0ffee:7",
        "cloudevents.event_source": "localhost:8080",
    }


def test_a_backend_on_a_unix_socket_has_no_port():
    rig = Rig(api_uri="unix:/run/app.sock:/ws/{id}?key=s3cret")
    rig.outbox.put(message(7))
    rig.answer(204)
    attributes = dict(rig.span().attributes)
    assert attributes["url.full"] == "http://localhost/ws/c0ffee"
    assert attributes["server.address"] == "/run/app.sock"
    assert attributes["network.transport"] == "unix"
    assert "server.port" not in attributes


def test_a_connect_is_a_server_span_and_a_client_span_below_it(rig):
    rig.outbox.put(opened())
    assert rig.sent == [f"00-{TRACE_ID}-{span_id(rig, 0):016x}-01"]
    rig.answer(200, OK)
    post, handshake = rig.spans()
    assert (handshake.name, handshake.kind) == ("GET", SpanKind.SERVER)
    assert f"{handshake.parent.span_id:016x}" == PARENT_ID
    assert handshake.parent.is_remote
    assert handshake.context.span_id == span_id(rig, HANDSHAKE)
    assert handshake.start_time == round(AT * 1e9)
    assert dict(handshake.attributes) == {
        "http.request.method": "GET",
        "http.response.status_code": 101,
        "url.path": "/room",
        "url.scheme": "http",
        "client.address": "192.0.2.7",
        "user_agent.original": "a browser",
    }
    assert (post.name, post.kind) == ("POST /ws/{id}", SpanKind.CLIENT)
    assert post.parent.span_id == handshake.context.span_id
    assert post.attributes["cloudevents.event_id"] == "c0ffee:0"
    assert post.attributes["http.response.status_code"] == 200


def test_what_is_not_known_of_a_client_is_left_out():
    rig = Rig()
    rig.outbox.put(opened(headers={}, remote_address=""))
    rig.answer(200, OK)
    _, handshake = rig.spans()
    assert {"client.address", "user_agent.original"}.isdisjoint(handshake.attributes)


def test_the_scheme_is_that_of_the_listener(tmp_path):
    for name in ("cert", "key"):
        (tmp_path / name).write_text("-----BEGIN")
    rig = Rig(tls_cert=str(tmp_path / "cert"), tls_key=str(tmp_path / "key"))
    rig.outbox.put(opened())
    rig.answer(200, OK)
    _, handshake = rig.spans()
    assert handshake.attributes["url.scheme"] == "https"


@pytest.mark.parametrize(
    ("answer", "client", "error", "why"),
    [
        ((200, b'{"code":"NO"}'), 403, None, None),
        ((200, b'{"code":"NO","close":{"code":4401}}'), 403, None, None),
        ((200, b'{"code":"NO","close":{"code":4401},"subprotocol":"v2"}'), 502, None, None),
        ((403,), 403, "403", ""),
        ((500,), 502, "500", ""),
        ((200, b"what?"), 502, None, "the backend answered with "),
        ((200, b'{"code":"OK","subprotocol":"v2"}'), 502, None, None),
        ((200, b'{"code":"OK","subprotocol":"v1"}'), 101, None, None),
        ((Failure.TIMED_OUT,), 504, "timeout", "the backend did not answer in time"),
        ((Failure.UNREACHABLE,), 503, "unreachable", "the backend cannot be reached"),
    ],
)
def test_a_handshake_has_the_status_that_the_client_gets(rig, answer, client, error, why):
    rig.outbox.put(opened())
    rig.answer(*answer)
    post, handshake = rig.spans()
    assert handshake.attributes["http.response.status_code"] == client
    assert handshake.status.status_code is (StatusCode.ERROR if client >= 500 else StatusCode.UNSET)
    assert handshake.attributes.get("error.type") == (str(client) if client >= 500 else None)
    assert post.attributes.get("error.type") == error
    assert post.attributes.get("http.response.status_code") == (None if isinstance(answer[0], Failure) else answer[0])
    assert post.status.status_code is (StatusCode.UNSET if why is None else StatusCode.ERROR)
    assert (post.status.description or "").startswith(why or "")


def test_a_retry_is_an_event_of_the_span_and_has_the_same_bytes(rig):
    rig.outbox.put(message())
    (first,) = rig.pool.sent
    rig.answer(503)
    rig.clock.advance(5.0)
    (second,) = rig.pool.sent
    assert second.request == first.request
    rig.answer(Failure.BROKEN)
    rig.clock.advance(5.0)
    rig.answer(200)
    span = rig.span()
    assert [(event.name, dict(event.attributes)) for event in span.events] == [
        ("attempt failed", {"http.response.status_code": 503, "error.type": "503"}),
        ("retry", {"http.request.resend_count": 1}),
        ("attempt failed", {"error.type": "broken"}),
        ("retry", {"http.request.resend_count": 2}),
    ]
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["http.request.resend_count"] == 2
    assert span.status.status_code is StatusCode.UNSET


def test_a_message_that_the_backend_refuses_is_an_error(rig):
    rig.outbox.put(message())
    rig.answer(400)
    span = rig.span()
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "the backend answered 400"
    assert span.attributes["error.type"] == "400"


def test_a_message_that_is_given_up_after_retries_is_an_error(rig):
    rig.outbox.put(message())
    rig.answer(503)
    rig.clock.advance(3600.0)
    rig.answer(503)
    span = rig.span()
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "the backend answered 503, 2 times"


def test_a_message_that_was_never_sent_is_an_error():
    rig = Rig(api_retry="1000")
    other = Outbox(rig.services, Subject("other", "node", None), OutboxListener())
    rig.breaker.observe(other, Failure.UNREACHABLE)
    # The only probe, which is never answered.
    other.put(message())
    rig.clock.advance(0.5)
    rig.outbox.put(message())
    rig.clock.advance(2.0)
    rig.breaker.sweep(rig.clock.now())
    span = rig.span()
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "the backend cannot be reached"
    assert "http.response.status_code" not in span.attributes


@pytest.mark.parametrize("status", [200, 404, 410])
def test_a_delete_is_a_client_span(rig, status):
    rig.outbox.put(make_closed(b"{}", AT))
    assert rig.sent == [f"00-{TRACE_ID}-{span_id(rig, 'end'):016x}-01"]
    rig.answer(status)
    span = rig.span()
    assert span.name == "DELETE /ws/{id}"
    assert span.attributes["http.response.status_code"] == status
    assert span.attributes["cloudevents.event_id"] == "c0ffee:end"
    assert "error.type" not in span.attributes
    assert span.status.status_code is StatusCode.UNSET


def test_each_event_has_a_span_of_its_own(rig):
    rig.outbox.put(opened())
    rig.outbox.put(message(1))
    rig.outbox.put(message(2))
    rig.outbox.put(make_closed(b"{}", AT))
    rig.answer(200, OK)
    for _ in range(3):
        rig.answer(200)
    names = [span.name.partition(" ")[0] for span in rig.spans()]
    assert names == ["POST", "GET", "PUT", "PUT", "DELETE"]


def test_an_outbox_that_is_abandoned_ends_its_spans(rig):
    rig.outbox.put(opened())
    rig.outbox.abandon()
    post, handshake = rig.spans()
    assert (post.status.status_code, post.status.description) == (StatusCode.ERROR, "abandoned")
    assert handshake.status.status_code is StatusCode.UNSET
    assert "http.response.status_code" not in handshake.attributes


def test_an_outbox_that_is_abandoned_between_two_events_records_nothing(rig):
    rig.outbox.abandon()
    assert rig.spans() == []


def test_the_usual_answer_is_counted_once(rig):
    rig.outbox.put(message())
    rig.answer(200)
    counters = rig.webhook.counters
    assert counters.requests[Message].results["ok"] == 1
    assert counters.direct.first == 0
    assert counters is rig.plain.counters


class Watched(WebhookWrapper):
    """Sees every verdict, as a viewer of a connection does."""

    def __init__(self, inner):
        super().__init__(inner)
        self.seen = []

    def call(self, delivery, event, is_direct=False):  # noqa: ARG002 - it has to see the usual answers, too
        super().call(delivery, event)

    def request(self, subject, event):
        self.seen.append("request")
        return super().request(subject, event)

    def judge(self, event, outcome):
        verdict = super().judge(event, outcome)
        self.seen.append(outcome.status)
        return verdict


def test_another_wrapper_around_it_sees_what_it_records(rig):
    watched = rig.outbox._webhook = Watched(rig.outbox._webhook)
    assert isinstance(watched.inner, RecordedWebhook)
    rig.outbox.put(message(1))
    rig.answer(200)
    rig.outbox.put(message(2))
    rig.answer(503)
    rig.outbox.abandon()
    assert watched.seen == ["request", 200, "request", 503]
    first, second = rig.spans()
    assert first.status.status_code is StatusCode.UNSET
    assert [event.name for event in second.events] == ["attempt failed"]
    assert second.status.description == "abandoned"


def test_a_wrapper_changes_nothing_by_itself(rig):
    outbox = Outbox(rig.services, Subject("other", "node", None), OutboxListener())
    wrapper = outbox._webhook = WebhookWrapper(rig.plain)
    assert wrapper.for_connection(rig.subject) is rig.plain
    outbox.put(message())
    rig.answer(503)
    rig.clock.advance(3600.0)
    rig.answer(503)
    wrapper.explain("detail", "advice")
    assert wrapper.user_agent() == rig.plain.user_agent() == ""
    outbox.abandon()
    assert rig.spans() == []


def test_an_event_without_a_span_is_judged(rig):
    # A wrapper around it may have been made while a request was under way.
    webhook = rig.outbox._webhook
    assert webhook.judge(message(), Response(200, {})) is not None
    assert webhook.judge(opened(), Response(200, {})) is not None
    assert rig.spans() == []
