import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.azure_tokens import KEY, OTHER_KEY, client_token, make_token
from tests.support.fake_delivery import FakeDelivery
from tests.support.fakes import FakeBreaker, FakeClock, FakePool, make_opened, make_settings, read_all
from tests.support.strategies import examples
from wsaas import webhooks
from wsaas.counters import Counters
from wsaas.delivery.message_answer import InvalidAnswer
from wsaas.delivery.pool import Failure
from wsaas.delivery.verdicts import DELIVERED, Accepted, Actions, Delivered, Rejected, Retry, Undeliverable, Verdict
from wsaas.delivery.webhook import Subject
from wsaas.delivery.webhook_wrapper import WebhookWrapper
from wsaas.event_formats.azure_answers import accepted, read_answer, read_connect
from wsaas.event_formats.azure_events import header_value
from wsaas.events import Closed, Disconnect, Message
from wsaas.grammar import is_group_name
from wsaas.http.request import Request, RequestParser
from wsaas.http.response import Response
from wsaas.http.trace_context import TraceContext
from wsaas.reason import Reason

AUDIENCE = {"aud": "http://localhost:8080/client/hubs/chat"}
ID = "c0ffee"
AT = 1769860800.125
CONNECT = make_opened(AT, connection_id=ID, path="/client/hubs/chat", query="a=1&a=2&b=", headers={"user-agent": "x"})
HELLO = Message(True, b"hello", AT, 1)
CLOSED = Closed(AT, 0.0, Disconnect("localhost:8080/c0ffee", 1000, "bye", 1))
TRACE = TraceContext("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
ALLOWED = Response(200, {b"webhook-allowed-origin": b"*"})


class Rig:
    """The webhook of one connection, whose backend allows events unless `preflight` is false."""

    def __init__(self, token: str | None = None, trace: TraceContext | None = None, *, preflight=True, **settings: str):
        self.pool = FakePool()
        self.clock = self.pool.clock = FakeClock()
        made = make_settings(event_format="azure", **settings)
        self.counters = Counters()
        self.webhook, _ = webhooks.build(made, self.pool, FakeBreaker(), self.clock.wall, self.counters)
        authorization = None if token is None else f"Bearer {token}".encode()
        self.subject = Subject(ID, "localhost:8080", authorization, None, trace)
        self.delivery = FakeDelivery(self.subject)
        self.connection = self.webhook.for_connection(self.subject)
        if preflight:
            self.call(CONNECT)
            self.pool.answer(ALLOWED)

    def call(self, event):
        self.connection.call(self.delivery, event, is_direct=True)

    def answer(self, status: int, body: bytes | str = b"", **headers: str) -> Verdict:
        """Answer the oldest request; return the verdict on it."""
        made = Response(status, {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()})
        made.body = body.encode() if isinstance(body, str) else body
        self.pool.answer(made)
        return self.delivery.verdicts.pop()

    def sent(self) -> Request:
        """Return the request that was sent last."""
        (request,) = read_all(RequestParser(1_000_000), self.pool.sent[-1].request)
        assert isinstance(request, Request)
        return request

    def accept(self, **headers: str) -> "Rig":
        assert isinstance(self.answer(204, **headers), Accepted)
        self.clock.advance(0.0)
        self.pool.sent.clear()
        return self

    def connect_body(self) -> Any:
        return json.loads(self.sent().body)


def test_a_connect_event_is_a_cloud_event():
    request = Rig(client_token("Chat", sub="ann"), api_uri="backend:8000/hook", control_azure_keys=KEY).sent()
    signature = hmac.new(KEY.encode(), ID.encode(), hashlib.sha256).hexdigest()
    headers = request.text_headers()
    assert (request.method, request.target) == (b"POST", b"/hook")
    assert headers.pop("user-agent").startswith("wsaas/")
    assert headers == {
        "host": "backend:8000",
        "accept-encoding": "identity",
        "webhook-request-origin": "localhost:8080",
        "ce-specversion": "1.0",
        "ce-awpsversion": "1.0",
        "ce-type": "azure.webpubsub.sys.connect",
        "ce-source": f"/hubs/chat/client/{ID}",
        "ce-id": f"{ID}:0",
        "ce-time": "2026-01-31T12:00:00.125Z",
        "ce-hub": "chat",
        "ce-connectionid": ID,
        "ce-eventname": "connect",
        "ce-userid": "ann",
        "ce-signature": f"sha256={signature}",
        "content-type": "application/json; charset=utf-8",
        "content-length": headers["content-length"],
    }
    assert json.loads(request.body) == {
        "claims": {"exp": ["4000000000"], "aud": ["http://localhost:8080/client/hubs/Chat"], "sub": ["ann"]},
        "query": {"a": ["1", "2"], "b": [""]},
        "headers": {"user-agent": ["x"]},
        "subprotocols": [],
        "clientCertificates": [],
    }


def test_all_claims_are_lists_of_texts():
    claims: dict[str, Any] = {"role": ["a", "b"], "admin": True, "level": 1, "more": {"x": None}}
    body = Rig(client_token(**claims), control_azure_keys=KEY).connect_body()
    found = {name: body["claims"][name] for name in claims}
    assert found == {"role": ["a", "b"], "admin": ["true"], "level": ["1"], "more": ['{"x":null}']}


def test_a_token_that_is_not_verified_says_nothing():
    rig = Rig(client_token(sub="ann"))
    assert rig.connect_body()["claims"] == {}
    assert {"ce-userid", "ce-signature"}.isdisjoint(rig.sent().text_headers())


def test_each_key_signs():
    headers = Rig(control_azure_keys=f"{KEY},{OTHER_KEY}").sent().text_headers()
    signatures = headers["ce-signature"].split(",")
    assert [each[:7] for each in signatures] == ["sha256=", "sha256="]
    assert len(set(signatures)) == 2


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("localhost:8080", "localhost:8080"),
        ("example.com", "example.com"),
        ("https://example.com/x", "example.com"),
        ("https://example.com:80", "example.com:80"),
        ("[::1]:8080", "[::1]:8080"),
    ],
)
def test_the_origin_is_the_host_of_the_gateway(name, origin):
    assert Rig(ws_hostname=name).sent().text_headers()["webhook-request-origin"] == origin


def test_the_hub_is_that_of_the_path_or_the_usual_one():
    rig = Rig(azure_hub="main")
    assert rig.sent().text_headers()["ce-hub"] == "chat"
    rig.connection = rig.webhook.for_connection(rig.subject)
    rig.call(make_opened(AT, path="/"))
    assert rig.sent().text_headers()["ce-hub"] == "main"


def test_a_message_keeps_its_type():
    rig = Rig(client_token(sub="ann"), control_azure_keys=KEY).accept(ce_connectionState="c3RhdGU=")
    rig.subject.context = "c3RhdGU="
    rig.call(HELLO)
    headers = rig.sent().text_headers()
    assert headers["ce-type"] == "azure.webpubsub.user.message"
    assert headers["ce-eventname"] == "message"
    assert headers["ce-id"] == f"{ID}:1"
    assert headers["ce-userid"] == "ann"
    assert headers["ce-connectionstate"] == "c3RhdGU="
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert rig.sent().body == b"hello"
    rig.call(Message(False, b"\0\xff", AT, 2))
    assert rig.sent().text_headers()["content-type"] == "application/octet-stream"
    assert rig.sent().body == b"\0\xff"


def test_a_retry_has_the_same_bytes():
    rig = Rig().accept()
    rig.call(HELLO)
    rig.call(HELLO)
    assert rig.pool.sent[0].request == rig.pool.sent[1].request


def test_the_end_has_a_reason():
    rig = Rig().accept()
    rig.call(CLOSED)
    headers = rig.sent().text_headers()
    assert headers["ce-type"] == "azure.webpubsub.sys.disconnected"
    assert headers["ce-id"] == f"{ID}:end"
    assert json.loads(rig.sent().body) == {"reason": "bye"}


@pytest.mark.parametrize("status", [400, 405, 422])
def test_a_handler_that_does_not_know_the_end_is_not_sent_it_again(status, caplog):
    rig = Rig().accept()
    rig.call(CLOSED)
    assert rig.answer(status) == Delivered(failed=True)
    assert caplog.messages == [
        f"POST /hook: the backend answered {status} to a disconnected event; it is not sent again"
    ]


@pytest.mark.parametrize("status", [401, 403, 408, 425, 429, 500, 503])
def test_the_end_is_sent_again_if_it_may_succeed_then(status):
    rig = Rig().accept()
    rig.call(CLOSED)
    assert isinstance(rig.answer(status), Retry)


def test_an_end_without_an_answer_is_sent_again():
    rig = Rig().accept()
    rig.call(CLOSED)
    rig.pool.answer(Failure.TIMED_OUT)
    assert isinstance(rig.delivery.verdicts.pop(), Retry)


def test_after_a_crash_the_token_tells_hub_and_user():
    rig = Rig(client_token("lobby", sub="ann", exp=1), preflight=False, control_azure_keys=KEY)
    rig.call(Closed(AT, 0.0, b'{"reason":"gateway lost","code":1006}'))
    headers = rig.sent().text_headers()
    assert (headers["ce-hub"], headers["ce-userid"]) == ("lobby", "ann")
    assert headers["ce-source"] == f"/hubs/lobby/client/{ID}"
    assert json.loads(rig.sent().body) == {"reason": "gateway lost"}


def test_after_a_crash_without_a_token_the_usual_hub_is_assumed():
    rig = Rig(preflight=False, azure_hub="main")
    rig.call(CLOSED)
    assert rig.sent().text_headers()["ce-hub"] == "main"


def test_events_are_signed_and_traced_as_in_the_native_format():
    rig = Rig(trace=TRACE, api_secret="whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", api_uri="backend/{id}")
    headers = rig.sent().text_headers()
    assert rig.sent().target == f"/{ID}".encode()
    assert headers["webhook-id"] == headers["ce-id"] == f"{ID}:0"
    assert headers["webhook-signature"].startswith("v1,")
    assert headers["traceparent"] == TRACE.traceparent
    rig.answer(200)
    rig.clock.advance(0.0)
    connected = rig.sent().text_headers()["traceparent"]
    rig.call(CLOSED)
    assert len({connected, rig.sent().text_headers()["traceparent"], TRACE.traceparent}) == 3


# Answers to a connect event.


@pytest.mark.parametrize(("status", "body"), [(204, ""), (200, ""), (200, "{}"), (202, " ")])
def test_an_answer_without_content_lets_a_client_in(status, body):
    assert Rig().answer(status, body) == Accepted(None, None, ("chat:hub",))


def test_an_answer_names_user_groups_state_and_subprotocol():
    rig = Rig(make_token({**AUDIENCE, "sub": "ann", "webpubsub.group": ["first"]}), control_azure_keys=KEY)
    answer = {"userId": "bob", "groups": ["Room 1"], "subprotocol": "v1", "roles": ["webpubsub.sendToGroup"]}
    verdict = rig.answer(200, json.dumps(answer), ce_connectionstate="eyJhIjoxfQ==")
    groups = ("chat:hub", "chat:user:bob", "chat:group:first", "chat:group:Room!201")
    assert verdict == Accepted("v1", "eyJhIjoxfQ==", groups)
    rig.call(HELLO)
    assert rig.sent().text_headers()["ce-userid"] == "bob"


def test_a_subprotocol_is_named_in_later_events():
    rig = Rig(preflight=False, subprotocols="b,a")
    rig.call(make_opened(AT, subprotocols=["a", "b"]))
    rig.pool.answer(ALLOWED)
    assert rig.connect_body()["subprotocols"] == ["a", "b"]
    assert rig.answer(200, '{"subprotocol": "a"}') == Accepted("a", None, ("hub:hub",))
    rig.call(HELLO)
    assert rig.sent().text_headers()["ce-subprotocol"] == "a"


def test_without_a_choice_the_gateway_chooses_the_subprotocol():
    rig = Rig(preflight=False, subprotocols="b,a")
    rig.call(make_opened(AT, subprotocols=["a", "b"]))
    rig.pool.answer(ALLOWED)
    assert rig.answer(200, '{"subprotocol": ""}') == Accepted(None, None, ("hub:hub",))
    rig.call(HELLO)
    assert rig.sent().text_headers()["ce-subprotocol"] == "b"


def test_no_header_has_what_it_cannot_have():
    rig = Rig()
    rig.answer(200, json.dumps({"userId": ' ü\r\nx: y%"z '}))
    rig.call(HELLO)
    assert rig.sent().text_headers()["ce-userid"] == '%20%C3%BC%0D%0Ax: y%"z%20'


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, 401), (403, 403), (404, 404), (429, 429), (503, 503), (400, 502), (500, 502), (302, 502)],
)
def test_refusals_are_those_of_the_native_format(status, error):
    verdict = Rig().answer(status)
    assert isinstance(verdict, Rejected)
    assert (verdict.error.status, verdict.disconnect_owed) == (error, False)


@pytest.mark.parametrize(
    ("body", "headers", "what"),
    [
        ("[]", {}, "a body that is not a JSON object"),
        ("{", {}, "a body that is not a JSON object"),
        ("{}", {"content_encoding": "gzip"}, "a body in Content-Encoding gzip"),
        ('{"userId": 1}', {}, "a subprotocol or a userId that is not a string"),
        ('{"subprotocol": ["a"]}', {}, "a subprotocol or a userId that is not a string"),
        ('{"groups": "a"}', {}, "groups that are not a list of strings"),
        ('{"groups": [1]}', {}, "groups that are not a list of strings"),
        ('{"groups": [""]}', {}, "a group whose name is empty or too long"),
        (json.dumps({"userId": "a" * 128}), {}, "a userId that is too long"),
        (
            "{}",
            {"ce_connectionstate": "ü"},
            "ce-connectionState is not at most 4096 printable ASCII characters",
        ),
    ],
)
def test_an_unusable_answer_refuses_the_client(body, headers, what):
    verdict = Rig().answer(200, body, **headers)
    assert isinstance(verdict, Rejected)
    assert (verdict.error.status, verdict.disconnect_owed, verdict.unusable) == (502, True, what)


def test_a_backend_that_does_not_answer_refuses_the_client():
    rig = Rig()
    rig.pool.answer(Failure.TIMED_OUT)
    (verdict,) = rig.delivery.verdicts
    assert isinstance(verdict, Rejected)
    assert (verdict.error.status, verdict.disconnect_owed) == (504, True)


# Answers to a message, and to the end.


@pytest.mark.parametrize(
    ("content_type", "body", "reply"),
    [
        ("text/plain", b"hi", Message(True, b"hi")),
        ("application/json; charset=utf-8", b'{"a":1}', Message(True, b'{"a":1}')),
        ("text/html", b"hi", Message(True, b"hi")),
        ("application/octet-stream", b"hi", Message(False, b"hi")),
        ("application/octet-stream", b"\xff", Message(False, b"\xff")),
        (None, b"hi", Message(True, b"hi")),
        (None, b"\xff", Message(False, b"\xff")),
        ("text/plain; charset=iso-8859-1", b"\xfc", Message(True, "ü".encode())),
    ],
)
def test_the_body_of_an_answer_goes_to_the_client(content_type, body, reply):
    rig = Rig().accept()
    rig.call(HELLO)
    headers = {} if content_type is None else {"content_type": content_type}
    assert rig.answer(200, body, **headers) == Delivered(Actions(reply=reply))


@pytest.mark.parametrize("status", [200, 204])
def test_an_answer_without_a_body_sends_nothing(status):
    rig = Rig().accept()
    rig.call(HELLO)
    assert rig.answer(status, content_type="application/octet-stream") is DELIVERED


def test_an_answer_sets_the_state():
    rig = Rig().accept()
    rig.call(HELLO)
    assert rig.answer(204, ce_connectionstate="YQ==") == Delivered(Actions(context="YQ=="))


@pytest.mark.parametrize(
    ("body", "headers", "why"),
    [
        (b"\xff", {"content_type": "text/plain"}, "the backend's text reply is not UTF-8"),
        (b"a", {"content_encoding": "gzip"}, "the backend's reply is in Content-Encoding gzip"),
        (
            b"a",
            {"content_type": "text/plain; charset=nonsense"},
            "the backend's reply cannot be read: The charset nonsense is not supported: send text in UTF-8.",
        ),
        (
            b"",
            {"ce_connectionstate": "a" * 4097},
            "the backend's ce-connectionState is not at most 4096 printable ASCII characters",
        ),
    ],
)
def test_an_answer_that_cannot_be_carried_out_closes_the_client(body, headers, why):
    rig = Rig().accept()
    rig.call(HELLO)
    assert rig.answer(200, body, **headers) == Undeliverable(why, Reason.UNDELIVERED)


def test_a_reply_that_is_too_large_closes_the_client():
    rig = Rig().accept()
    rig.call(HELLO)
    response = Response(200, {})
    response.is_too_large = True
    rig.pool.answer(response)
    assert rig.delivery.verdicts == [Undeliverable("the backend's reply is over MAX_MESSAGE_SIZE", Reason.UNDELIVERED)]


def test_a_failed_message_is_retried_or_closes_the_client_as_in_the_native_format():
    rig = Rig().accept()
    for status, kind in ((500, Retry), (429, Retry), (400, Undeliverable)):
        rig.call(HELLO)
        assert isinstance(rig.answer(status), kind)
    rig.call(HELLO)
    rig.pool.answer(Failure.BROKEN)
    assert isinstance(rig.delivery.verdicts.pop(), Retry)


@pytest.mark.parametrize(("status", "kind"), [(200, Delivered), (404, Delivered), (500, Retry)])
def test_the_answer_to_the_end(status, kind):
    rig = Rig().accept()
    rig.call(CLOSED)
    assert isinstance(rig.answer(status), kind)


def test_answers_are_counted():
    rig = Rig().accept()
    rig.call(HELLO)
    rig.answer(200, b"hi")
    assert rig.counters.requests[Message].results["ok"] == 1


# The connected event.


def test_a_client_that_is_let_in_is_connected():
    rig = Rig()
    rig.answer(200, '{"userId": "ann"}')
    assert not rig.pool.sent
    rig.subject.context = "state"
    rig.clock.advance(0.0)
    (exchange,) = rig.pool.sent
    headers = rig.sent().text_headers()
    assert headers["ce-type"] == "azure.webpubsub.sys.connected"
    assert headers["ce-id"] == f"{ID}:connected"
    assert (headers["ce-userid"], headers["ce-connectionstate"]) == ("ann", "state")
    assert rig.sent().body == b"{}"
    assert not exchange.retried
    assert not exchange.refuses_client


def test_a_client_that_has_gone_already_is_not_connected():
    rig = Rig()
    rig.answer(200)
    rig.call(CLOSED)
    rig.clock.advance(0.0)
    assert [b"sys.disconnected" in each.request for each in rig.pool.sent] == [True]


def test_a_client_that_is_refused_is_not_connected():
    rig = Rig()
    rig.answer(401)
    rig.clock.advance(0.0)
    assert not rig.pool.sent


@pytest.mark.parametrize(
    ("outcome", "lines"),
    [
        (Response(200, {}), []),
        (Failure.TIMED_OUT, []),
        (
            Response(500, {}),
            ["POST /hook (connected): the backend answered 500; it is not sent again, and the client stays"],
        ),
    ],
)
def test_a_connected_event_that_failed_is_logged(outcome, lines, caplog):
    rig = Rig()
    rig.answer(200)
    rig.clock.advance(0.0)
    assert rig.pool.sent[0].loss == "it is not sent again, and the client stays"
    rig.pool.answer(outcome)
    assert [record.getMessage() for record in caplog.records] == lines


def test_a_webhook_around_it_changes_nothing():
    rig = Rig(preflight=False)
    wrapper = WebhookWrapper(rig.connection)
    wrapper.call(rig.delivery, CONNECT)
    assert [each.request.split()[0] for each in rig.pool.sent] == [b"OPTIONS"]
    rig.pool.answer(ALLOWED)
    rig.accept()
    wrapper.call(rig.delivery, HELLO)
    assert rig.answer(200, b"hi") == Delivered(Actions(reply=Message(True, b"hi")))


def test_what_is_shown_or_sent_again_is_in_the_same_format():
    rig = Rig(client_token(sub="ann"), control_azure_keys=KEY).accept()
    hidden = Subject(ID, "localhost:8080", b"(hidden)")
    assert json.loads(rig.connection.content(hidden, CONNECT, "")[1])["claims"] == {}
    (request,) = read_all(RequestParser(1000), rig.connection.compose(rig.subject, HELLO, "x", "Ws-Replay: 1\r\n"))
    headers = request.text_headers()
    assert (headers["ce-id"], headers["ws-replay"], headers["ce-userid"]) == ("x", "1", "ann")


# The preflight.


def test_the_backend_is_asked_before_the_first_client():
    rig = Rig(preflight=False, api_uri="backend/hook?key=1&id={id}")
    rig.call(CONNECT)
    request = rig.sent()
    headers = request.text_headers()
    assert (request.method, request.target) == (b"OPTIONS", b"/hook?key=1&id=validate")
    assert (headers["webhook-request-origin"], headers["ce-awpsversion"]) == ("localhost:8080", "1.0")
    assert rig.pool.sent[0].refuses_client


def test_clients_wait_for_the_same_answer():
    rig = Rig(preflight=False)
    others = [rig.webhook.for_connection(rig.subject) for _ in range(3)]
    rig.call(CONNECT)
    for other in others:
        other.call(rig.delivery, CONNECT)
    assert len(rig.pool.sent) == 1
    rig.pool.answer(ALLOWED)
    assert [each.request.startswith(b"POST ") for each in rig.pool.sent] == [True] * 4
    rig.webhook.for_connection(rig.subject).call(rig.delivery, CONNECT)
    assert len(rig.pool.sent) == 5


def test_an_event_of_a_lost_connection_does_not_wait():
    rig = Rig(preflight=False)
    rig.call(CONNECT)
    rig.webhook.for_connection(rig.subject).call(rig.delivery, CLOSED)
    assert [each.request.split()[0] for each in rig.pool.sent] == [b"OPTIONS", b"POST"]


@pytest.mark.parametrize("allowed", ["*", "localhost:8080", "a.example, LocalHost:8080", "localhost"])
def test_an_origin_may_be_allowed_by_name(allowed):
    rig = Rig(preflight=False)
    rig.call(CONNECT)
    rig.pool.answer(Response(204, {b"webhook-allowed-origin": allowed.encode()}))
    assert [each.request.split()[0] for each in rig.pool.sent] == [b"POST"]


@pytest.mark.parametrize(
    ("status", "headers", "why"),
    [
        (404, {}, "404 with no WebHook-Allowed-Origin"),
        (500, {b"webhook-allowed-origin": b"*"}, "500 with WebHook-Allowed-Origin: *"),
        (200, {b"webhook-allowed-origin": b"localhost:80"}, "200 with WebHook-Allowed-Origin: localhost:80"),
    ],
)
def test_without_permission_clients_are_refused_and_the_next_one_asks_again(status, headers, why, caplog):
    rig = Rig(preflight=False)
    rig.call(CONNECT)
    rig.call(CONNECT)
    rig.pool.answer(Response(status, headers))
    for verdict in rig.delivery.verdicts:
        assert isinstance(verdict, Rejected)
        assert (verdict.error.status, verdict.disconnect_owed) == (502, False)
        assert verdict.error.message == "The backend does not allow events of this gateway."
    assert len(rig.delivery.verdicts) == 2
    line = (
        f"OPTIONS /hook: the backend answered {why}; clients are refused with 502; it has to answer OPTIONS with "
        "WebHook-Allowed-Origin: * or localhost:8080, as the middleware of Azure's SDK does: check the path in API_URI"
    )
    assert [record.getMessage() for record in caplog.records] == [line]
    rig.call(CONNECT)
    assert [each.request.split()[0] for each in rig.pool.sent] == [b"OPTIONS"]


@pytest.mark.parametrize(
    ("failure", "status"), [(Failure.UNREACHABLE, 503), (Failure.TIMED_OUT, 504), (Failure.BROKEN, 502)]
)
def test_without_an_answer_clients_are_refused_and_nothing_is_owed(failure, status):
    rig = Rig(preflight=False)
    rig.call(CONNECT)
    rig.pool.answer(failure)
    (verdict,) = rig.delivery.verdicts
    assert isinstance(verdict, Rejected)
    assert (verdict.error.status, verdict.disconnect_owed) == (status, False)


# Any input.

json_texts = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab ü\n", max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["userId", "groups", "subprotocol", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
).map(json.dumps)


@given(st.text(max_size=30))
@examples(300)
def test_any_text_becomes_a_header_of_its_own(text):
    value = header_value(text)
    assert value.isascii()
    assert value.isprintable()
    assert value == value.strip()


@given(json_texts.map(str.encode) | st.binary(max_size=50), st.binary(max_size=20))
@examples(300)
def test_any_answer_to_a_connect_event_lets_a_client_in_or_refuses_it(body, state):
    response = Response(200, {b"ce-connectionstate": state})
    response.body = body
    found = read_connect(response)
    verdict = found if isinstance(found, Rejected) else accepted(found, "chat", found.user_id, found.groups)
    if isinstance(verdict, Accepted):
        assert all(map(is_group_name, verdict.groups))
    else:
        assert verdict.error.status == 502


def reply_to(response: Response) -> Message | str | None:
    try:
        actions = read_answer(response)
    except InvalidAnswer as error:
        return str(error)
    return None if actions is None else actions.reply


@given(
    st.sampled_from(["text/plain", "application/octet-stream", "text/a;charset=utf-16", "x"]), st.binary(max_size=50)
)
@examples(300)
def test_any_answer_to_a_message_is_a_message_or_invalid(content_type, body):
    response = Response(200, {b"content-type": content_type.encode()})
    response.body = body
    reply = reply_to(response)
    assert (reply is None) == (not body)
    if isinstance(reply, str):
        assert reply.startswith("the backend's ")
