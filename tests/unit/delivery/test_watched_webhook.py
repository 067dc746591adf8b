"""The webhook of watched connections, and that of requests that are sent again."""

import pytest

from tests.support.fake_delivery import FakeDelivery
from tests.support.fakes import FakeBreaker, FakeClock, FakePool, make_closed, make_opened, make_settings
from wsaas.delivery.pool import Failure
from wsaas.delivery.verdicts import DELIVERED
from wsaas.delivery.watched_webhook import Replayed, ReplayExchange, ReplayWebhook, WatchedWebhook
from wsaas.delivery.webhook import Subject, Webhook
from wsaas.delivery.webhook_wrapper import WebhookWrapper
from wsaas.events import Message
from wsaas.http.response import Response
from wsaas.http.trace_context import TraceContext

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"


class Recorded:
    """Records the reports about one connection."""

    def __init__(self):
        self.calls = []

    def requested(self, event, request, subject, webhook):
        assert webhook.content(subject, event, "")[1] == parts(request)[2]
        self.calls.append(("requested", event.number, request, subject.id))
        return 7

    def answered(self, event, attempt, outcome, answer):
        self.calls.append(("answered", event.number, attempt, outcome, answer.took, answer.detail))

    def judged(self, result, retry_due):
        self.calls.append(("judged", result, retry_due))


class Rig:
    def __init__(self, **values):
        settings, self.clock, self.pool = make_settings(**values), FakeClock(), FakePool()
        self.webhook = Webhook(settings, self.pool, FakeBreaker(), self.clock.wall)
        self.recorded = Recorded()
        self.watched = WatchedWebhook(self.webhook, self.recorded)
        self.replay = ReplayWebhook(self.pool)
        self.subject = Subject("id", "node", b"Bearer abc", "context")
        self.delivery = FakeDelivery(self.subject, retry_due=12.5)


def parts(request):
    """Return the start line, the headers and the body of a request."""
    head, _, body = request.partition(b"\r\n\r\n")
    start, *lines = head.decode().split("\r\n")
    return start, dict(line.split(": ", 1) for line in lines), body


@pytest.mark.parametrize(
    "values",
    [{}, {"api_secret": SECRET}, {"api_uri": "backend/{id}?a=b"}, {"text_content_type": "application/json"}],
)
def test_a_watched_connection_sends_the_same_requests(values):
    rig = Rig(**values)
    for event in (make_opened(), Message(text=True, data=b"hello", number=1), make_closed()):
        rig.watched.call(rig.delivery, event)
        rig.webhook.call(rig.delivery, event)
        watched, usual = rig.pool.sent
        assert watched.request == usual.request
        assert (watched.wait_timeout, watched.retried) == (usual.wait_timeout, usual.retried)
        rig.pool.sent.clear()


def test_requests_and_outcomes_are_reported():
    rig = Rig()
    recorded = rig.recorded
    message = Message(text=True, data=b"hello", number=1)
    rig.watched.call(rig.delivery, message, is_direct=True)
    rig.pool.answer(Response(200, {}), took=0.5)
    rig.watched.call(rig.delivery, message)
    exchange = rig.pool.sent[0]
    exchange.explain(" (why)", "advice")
    rig.pool.answer(Failure.BROKEN)
    kinds = [call[0] for call in recorded.calls]
    assert kinds == ["requested", "answered", "judged"] * 2
    assert recorded.calls[1][2] == 7
    assert recorded.calls[1][4:] == (0.5, "")
    # The usual answer takes the usual shortcut.
    assert rig.delivery.verdicts[0] is DELIVERED
    assert rig.webhook.counters.direct.count == 1
    assert recorded.calls[4][3:] == (Failure.BROKEN, 0.0, " (why)")
    assert [call for call in recorded.calls if call[0] == "judged"] == [
        ("judged", "ok", 12.5),
        ("judged", "broken", 12.5),
    ]


def test_a_webhook_that_is_watched_and_wrapped_sees_every_verdict():
    rig = Rig()
    judged: list[Message] = []

    class Wrapper(WebhookWrapper):
        def judge(self, event, outcome):
            judged.append(event)
            return super().judge(event, outcome)

    watched = WatchedWebhook(Wrapper(rig.webhook), rig.recorded)
    message = Message(text=True, data=b"hello", number=1)
    watched.call(rig.delivery, message, is_direct=True)
    rig.pool.answer(Response(200, {}))
    assert judged == [message]
    assert rig.recorded.calls[-1] == ("judged", "ok", 12.5)


@pytest.mark.parametrize(
    "values", [{}, {"api_secret": SECRET, "text_content_type": "application/json"}, {"api_uri": "backend/{id}?a=b"}]
)
def test_a_replayed_request_differs_only_in_its_mark_its_id_and_its_signature(values):
    rig = Rig(**values)
    bare = Subject("id", "node", None)
    traced = Subject("id", "node", None, trace=TraceContext(TRACEPARENT))
    for subject in (rig.subject, bare, traced):
        for event in (make_opened(), Message(text=True, data=b"a", number=1), make_closed()):
            exchange = ReplayExchange(lambda _outcome, _answer: None)
            rig.replay.replay(Replayed(event, subject, WebhookWrapper(rig.webhook), 3), exchange)
            assert rig.pool.sent.pop() is exchange
            assert exchange.wait_timeout == rig.webhook.timeout
            start, headers, body = parts(exchange.request)
            usual_start, usual_headers, usual_body = parts(rig.webhook.request(subject, event))
            assert (start, body) == (usual_start, usual_body)
            assert headers.pop("Ws-Replay") == "1"
            changed = {name for name in headers if headers[name] != usual_headers[name]}
            assert headers.keys() == usual_headers.keys()
            assert changed == {"ce-id", *(("webhook-id", "webhook-signature") if values.get("api_secret") else ())}
            assert headers["ce-id"] == f"id:{event.number}:replay-3"


def test_the_outcome_of_a_replay_is_reported():
    found = []
    exchange = ReplayExchange(lambda outcome, answer: found.append((outcome, answer.took, answer.detail)))
    exchange.took = 0.5
    exchange.explain(" (why)", "advice")
    exchange.answered(Failure.BROKEN)
    assert found == [(Failure.BROKEN, 0.5, " (why)")]
