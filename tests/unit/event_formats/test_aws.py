"""The webhook of `EVENT_FORMAT=aws`: its requests, and what the answers of a function mean."""

import json

import pytest

from tests.support.fakes import FakeClock, FakePool, make_opened, make_services, make_settings
from wsaas import webhooks
from wsaas.counters import Counters
from wsaas.delivery.circuit_breaker import CircuitBreaker
from wsaas.delivery.event_delivery import OutboxListener
from wsaas.delivery.outbox import Outbox
from wsaas.delivery.pool import Failure
from wsaas.delivery.signature import Signer
from wsaas.delivery.verdicts import Accepted, Rejected
from wsaas.delivery.watched_webhook import Replayed
from wsaas.delivery.webhook import Subject
from wsaas.events import Closed, Disconnect, Message
from wsaas.http.response import Response
from wsaas.http.trace_context import TraceContext

ID = "q3ZKx0aTdFz3SVRbrQqKHCtCWhRzoQ"
NODE = "localhost:8080"
PATH = "/2015-03-31/functions/function/invocations"
SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
TRACE = TraceContext(f"00-{'a' * 32}-{'b' * 16}-01")
HEADERS = {"host": "a", "user-agent": "a browser"}


class Listener(OutboxListener):
    """Records what the answers mean."""

    def __init__(self):
        self.verdict = None
        self.actions = []
        self.undelivered_for = []
        self.disconnected = False

    def decided(self, verdict):
        self.verdict = verdict

    def requested(self, actions):
        self.actions.append(actions)

    def undelivered(self, reason, why):
        self.undelivered_for.append((reason, why))

    def disconnecting(self, closed):
        closed.disconnect = Disconnect(f"{NODE}/{ID}", 1001, "", 5)

    def disconnect_delivered(self):
        self.disconnected = True


class Rig:
    """The outbox of a connection, whose requests a test answers."""

    def __init__(self, *, authorization=b"Bearer abc", trace=None, **values):
        settings = make_settings(**{"api_uri": f"backend{PATH}", "event_format": "aws", **values})
        self.clock, self.pool, self.counters = FakeClock(), FakePool(), Counters()
        breaker = CircuitBreaker(self.clock, self.pool)
        self.webhook, _ = webhooks.build(settings, self.pool, breaker, self.clock.wall, self.counters)
        self.listener = Listener()
        self.subject = Subject(ID, NODE, authorization, None, trace)
        self.outbox = Outbox(make_services(settings, self.clock, self.webhook), self.subject, self.listener)

    def take(self):
        """Return the start line, the headers and the event of the oldest request."""
        head, _, body = self.pool.sent[0].request.partition(b"\r\n\r\n")
        start, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        assert headers["Content-Length"] == str(len(body))
        return start, headers, json.loads(body)

    def answer(self, body, status=200, **headers):
        """Answer the oldest request."""
        if not isinstance(body, Failure):
            named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
            response = Response(status, named)
            response.body = body if isinstance(body, bytes) else json.dumps(body).encode()
            body = response
        self.pool.answer(body)

    def connect(self, answer=None):
        self.outbox.put(make_opened(self.clock.wall(), connection_id=ID, headers=HEADERS))
        self.answer({"statusCode": 200} if answer is None else answer)
        return self.listener.verdict

    def send(self, data=b"hello", number=1):
        self.outbox.put(Message(True, data, self.clock.wall(), number))

    def results(self, kind):
        return {name: count for name, count in self.counters.requests[kind].results.items() if count}


def test_each_event_is_a_post_with_the_headers_of_the_native_format():
    rig = Rig(trace=TRACE, api_secret=SECRET)
    rig.outbox.put(make_opened(rig.clock.wall(), connection_id=ID, headers=HEADERS))
    seen = [rig.take()]
    rig.answer({"statusCode": 200})
    rig.send()
    seen.append(rig.take())
    rig.answer({"statusCode": 200})
    rig.outbox.put(Closed(rig.clock.wall()))
    seen.append(rig.take())
    rig.answer({"statusCode": 200})
    assert rig.listener.disconnected
    for (start, headers, event), number, kind in zip(
        seen, ("0", "1", "end"), ("connect", "message", "disconnect"), strict=True
    ):
        assert start == f"POST {PATH} HTTP/1.1"
        assert event["requestContext"]["requestId"] == headers["ce-id"] == f"{ID}:{number}"
        assert event["requestContext"]["eventType"] == kind.upper()
        assert headers["ce-type"] == f"wsaas.{kind}"
        assert headers["Content-Type"] == "application/json"
        assert (headers["Authorization"], headers["Ws-Uri"]) == ("Bearer abc", f"{NODE}/{ID}")
        assert headers["traceparent"].startswith(f"00-{'a' * 32}-")
        assert headers["webhook-id"] == headers["ce-id"]
    # What the handshake told is in all events.
    assert [event["requestContext"]["identity"] for _, _, event in seen] == [
        {"sourceIp": "192.0.2.7", "userAgent": "a browser"}
    ] * 3
    assert len({event["requestContext"]["connectedAt"] for _, _, event in seen}) == 1


def test_the_signature_is_that_of_the_event():
    rig = Rig(api_secret=SECRET)
    rig.send()
    head, _, body = rig.pool.sent[0].request.partition(b"\r\n\r\n")
    signer = Signer(make_settings(api_secret=SECRET).api_secret)
    assert signer.lines(f"{ID}:1".encode(), rig.clock.wall(), body) in head + b"\r\n"


def test_connections_do_not_share_what_is_known_of_their_clients():
    rig = Rig()
    rig.connect()
    other = Outbox(
        make_services(make_settings(event_format="aws"), rig.clock, rig.webhook),
        Subject("other", NODE, None),
        Listener(),
    )
    other.put(Message(True, b"", 0.0, 1))
    context = rig.take()[2]["requestContext"]
    assert context["identity"] == {"sourceIp": ""}
    assert "connectedAt" not in context


def test_a_replayed_request_has_another_request_id_and_the_same_client():
    rig = Rig()
    rig.connect()
    event = Message(True, b"hello", rig.clock.wall(), 3)
    request = Replayed(event, rig.subject, rig.outbox.webhook, 1).request()
    head, _, body = request.partition(b"\r\n\r\n")
    context = json.loads(body)["requestContext"]
    assert context["requestId"] == f"{ID}:3:replay-1"
    assert context["identity"]["userAgent"] == "a browser"
    assert b"\r\nWs-Replay: 1\r\n" in head


def test_a_replacement_of_the_path_is_made_in_this_format_too():
    rig = Rig(api_uri="backend/{id}?a=b")
    rig.send()
    assert rig.take()[0] == f"POST /{ID}?a=b HTTP/1.1"


# CONNECT.


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"statusCode": 200}, Accepted(None, None)),
        ({"statusCode": 204, "headers": {"sec-websocket-protocol": "v1"}}, Accepted("v1", None)),
        ({"statusCode": 200, "headers": {"Ws-Context": '{"user":"7"}'}}, Accepted(None, '{"user":"7"}')),
    ],
)
def test_a_function_that_answers_2xx_lets_a_client_in(answer, expected):
    rig = Rig()
    assert rig.connect(answer) == expected
    assert rig.results(type(make_opened())) == {"ok": 1}


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, 400), (401, 401), (403, 403), (404, 404), (429, 429), (503, 503), (402, 502), (500, 502), (302, 502)],
)
def test_a_function_refuses_a_client_by_its_status(status, expected, caplog):
    caplog.set_level("INFO")
    rig = Rig()
    verdict = rig.connect({"statusCode": status})
    assert isinstance(verdict, Rejected)
    assert (verdict.error.status, verdict.disconnect_owed) == (expected, False)
    assert caplog.messages == [
        f"POST {PATH}: the function answered with the statusCode {status}; a client was refused with {expected}"
    ]
    assert caplog.records[0].levelname == ("INFO" if expected != 502 else "WARNING")


def test_some_headers_of_a_refusal_are_passed_on():
    headers = {"WWW-Authenticate": "Bearer", "Retry-After": 5, "X-Other": "1"}
    verdict = Rig().connect({"statusCode": 401, "headers": headers})
    assert isinstance(verdict, Rejected)
    assert verdict.error.headers == (("Www-Authenticate", "Bearer"), ("Retry-After", "5"))


@pytest.mark.parametrize("value", ["a\r\nb: c", "é", " a"])
def test_a_header_of_a_refusal_that_would_be_another_is_not_passed_on(value):
    verdict = Rig().connect({"statusCode": 401, "headers": {"WWW-Authenticate": value}})
    assert isinstance(verdict, Rejected)
    assert (verdict.error.status, verdict.error.headers) == (502, ())


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"errorMessage": "boom", "errorType": "ValueError"}, "failed with ValueError: 'boom'"),
        (None, 'answered without a "statusCode" that is a status of HTTP'),
        (
            {"statusCode": 200, "headers": {"Ws-Context": "é"}},
            "answered with a Ws-Context that is not at most 4096 printable ASCII characters",
        ),
    ],
)
def test_a_function_that_fails_does_not_let_a_client_in_and_learns_of_its_end(answer, why, caplog):
    rig = Rig()
    verdict = rig.connect({} if answer is None else answer)
    assert isinstance(verdict, Rejected)
    assert (verdict.error.status, verdict.disconnect_owed) == (502, True)
    assert verdict.unusable == f"a function that {why}"
    assert caplog.messages == [f"POST {PATH}: the function {why}; a client was refused with 502"]
    assert rig.results(type(make_opened())) == {"error": 1}


def test_a_client_is_refused_as_usual_if_the_request_fails(caplog):
    rig = Rig()
    rig.outbox.put(make_opened(0.0, connection_id=ID))
    rig.answer(b"", 403)
    assert isinstance(rig.listener.verdict, Rejected)
    assert rig.listener.verdict.error.status == 403
    said = (
        "the backend answered 403; a client was refused with 403; if the backend checks CSRF tokens, exempt this path; "
        "the Host may be one that it does not allow"
    )
    assert caplog.messages == [f"POST {PATH}: {said}"]


# MESSAGE.


def test_a_message_that_the_function_took_is_delivered_and_its_body_is_not_sent():
    rig = Rig()
    rig.send()
    rig.send(number=2)
    rig.answer({"statusCode": 200, "body": "hello back"})
    # Not judged by its status alone, which would also be the usual way.
    assert rig.listener.actions == []
    assert rig.take()[1]["ce-id"] == f"{ID}:2"
    rig.answer({"statusCode": 400})
    assert rig.listener.actions == []
    assert rig.results(Message) == {"ok": 2}
    assert rig.listener.undelivered_for == []


@pytest.mark.parametrize(("answer", "sent"), [("hi", [Message(True, b"hi")]), ("", []), (None, [])])
def test_with_route_responses_the_body_is_sent_to_the_client(answer, sent):
    rig = Rig(aws_route_responses="on")
    rig.send()
    rig.answer({"statusCode": 200, "body": answer})
    assert [actions.reply for actions in rig.listener.actions] == sent


@pytest.mark.parametrize("responses", ["on", "off"])
def test_a_function_that_says_that_it_failed_is_counted_and_logged(responses, caplog):
    rig = Rig(aws_route_responses=responses)
    rig.send()
    rig.answer({"statusCode": 500, "body": "sorry"})
    # API Gateway sends the body of such an answer, too.
    assert [each.reply for each in rig.listener.actions] == ([Message(True, b"sorry")] if responses == "on" else [])
    assert rig.results(Message) == {"error": 1}
    assert caplog.messages == [
        f"POST {PATH}: the function answered with the statusCode 500; the event is not sent again"
    ]


@pytest.mark.parametrize("answer", [{"errorMessage": "boom"}, {"statusCode": 200, "body": 7}, []])
def test_the_client_learns_that_the_function_failed_and_the_message_is_not_sent_again(answer, caplog):
    rig = Rig()
    rig.send(number=4)
    rig.answer(answer)
    (actions,) = rig.listener.actions
    assert actions.reply.text
    assert json.loads(actions.reply.data) == {
        "message": "Internal server error",
        "connectionId": ID,
        "requestId": f"{ID}:4",
    }
    assert not rig.pool.sent
    assert rig.results(Message) == {"error": 1}
    assert caplog.messages[0].endswith("; the client was sent an error")


def test_a_reply_that_is_too_long_is_an_error():
    rig = Rig(aws_route_responses="on", max_message_size="3")
    rig.send()
    rig.answer({"statusCode": 200, "body": "1234"})
    assert b"Internal server error" in rig.listener.actions[0].reply.data


@pytest.mark.parametrize("outcome", [(b"", 500), (b"", 429), (Failure.BROKEN,)])
def test_a_message_that_did_not_reach_the_function_is_sent_again_with_the_same_bytes(outcome):
    rig = Rig()
    rig.send()
    before = rig.pool.sent[0].request
    rig.answer(*outcome)
    rig.clock.advance(30.0)
    assert rig.pool.sent[0].request == before
    assert rig.listener.actions == []


def test_a_refusal_of_what_carries_the_events_closes_the_client_as_usual():
    rig = Rig()
    rig.send()
    rig.answer(b"", 404)
    assert len(rig.listener.undelivered_for) == 1


# DISCONNECT.


@pytest.mark.parametrize(
    ("answer", "result", "said"),
    [
        ({"statusCode": 200}, "ok", []),
        ({"statusCode": 500}, "error", ["answered with the statusCode 500"]),
        ({"errorMessage": "boom"}, "error", ["failed with an error: 'boom'"]),
    ],
)
def test_a_disconnect_is_sent_once_whatever_the_function_does(answer, result, said, caplog):
    rig = Rig()
    rig.outbox.put(Closed(rig.clock.wall()))
    rig.answer(answer)
    assert rig.listener.disconnected
    assert rig.results(Closed) == {result: 1}
    assert caplog.messages == [f"POST {PATH}: the function {why}; the event is not sent again" for why in said]


def test_a_disconnect_that_did_not_reach_the_function_is_sent_again():
    rig = Rig()
    rig.outbox.put(Closed(rig.clock.wall()))
    rig.answer(b"", 502)
    assert not rig.listener.disconnected
    rig.clock.advance(300.0)
    rig.answer({"statusCode": 200})
    assert rig.listener.disconnected


# The parts of a node that know the format.


def test_a_trace_is_recorded_around_this_format():
    rig = Rig(trace=TRACE, traces="on")
    rig.outbox.put(make_opened(rig.clock.wall(), connection_id=ID, headers=HEADERS))
    start, _, event = rig.take()
    assert (start.split()[0], event["requestContext"]["eventType"]) == ("POST", "CONNECT")
    rig.answer({"statusCode": 200})
    assert rig.listener.verdict == Accepted(None, None)
    content, body = rig.outbox.webhook.content(rig.subject, Message(True, b"hi", 0.0, 1), "x")
    assert "application/json" in content
    assert json.loads(body)["body"] == "hi"


@pytest.mark.parametrize("answer", [Failure.UNREACHABLE, Failure.POOL_TIMEOUT])
def test_a_failed_message_that_is_not_retried_is_no_refused_client(answer):
    rig = Rig(api_retry="0")
    rig.send()
    assert not rig.pool.sent[0].refuses_client
    rig.answer(answer)
    rig.outbox.put(make_opened(0.0, connection_id=ID))
    assert rig.pool.sent[0].refuses_client


def test_an_answer_may_be_as_long_as_a_message_in_json():
    assert webhooks.max_answer_size(make_settings(max_message_size="100")) == 100
    size = webhooks.max_answer_size(make_settings(max_message_size="100", event_format="aws"))
    assert size >= len(json.dumps({"statusCode": 200, "body": "\0" * 100}))


@pytest.mark.parametrize(
    ("hostname", "endpoint"),
    [("localhost:8080", "http://localhost:8080/local"), ("https://a.example/x/prod", "https://a.example/x/prod")],
)
def test_the_endpoint_of_sdks_leads_to_the_node(hostname, endpoint):
    assert webhooks.aws_endpoint(make_settings(ws_hostname=hostname).ws_hostname) == endpoint
