"""The events of AWS API Gateway: their JSON, as handlers of Lambda functions read it."""

import json
from base64 import b64decode
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes import make_opened
from tests.support.strategies import examples
from wsaas.delivery.webhook import Subject
from wsaas.event_formats.aws_events import (
    UNKNOWN_CLIENT,
    Client,
    client_of,
    event_json,
    place_of,
    route_key_of,
    spelled,
)
from wsaas.events import Closed, Disconnect, Message

ID = "q3ZKx0aTdFz3SVRbrQqKHCtCWhRzoQ"
NODE = "ws.example.com/prod"
AT = 1_707_502_283.419
BROWSER = {
    "host": "ws.example.com",
    "connection": "Upgrade",
    "upgrade": "websocket",
    "origin": "https://example.com",
    "user-agent": "Mozilla/5.0",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-protocol": "chat, v2",
    "x-forwarded-for": "198.51.100.66",
    "x-api-key": "k",
    "dnt": "1",
}
CLIENT = Client("192.0.2.7", "Mozilla/5.0", 1_707_502_283_419)


def read(event, *, node=NODE, client=CLIENT, selection=("action",), **more):
    """Return the event of API Gateway, parsed by another JSON parser."""
    subject = Subject(ID, node, more.get("authorization"), more.get("context"))
    return json.loads(event_json(subject, event, f"{ID}:{event.number}", client, selection))


def opened(**values):
    return make_opened(AT, **{"connection_id": ID, "headers": BROWSER, **values})


def message(text, number=1, at=AT + 60):
    return Message(True, text.encode(), at, number)


def test_a_connect_is_written_as_api_gateway_writes_it():
    assert read(opened(query="token=a%20b&room=1&room=2&empty="), client=UNKNOWN_CLIENT) == {
        "headers": {
            "Host": "ws.example.com",
            "Origin": "https://example.com",
            "User-Agent": "Mozilla/5.0",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol": "chat, v2",
            "X-Forwarded-For": "192.0.2.7",
            "X-Forwarded-Port": "80",
            "X-Forwarded-Proto": "http",
            "X-Api-Key": "k",
            "DNT": "1",
        },
        "multiValueHeaders": {
            "Host": ["ws.example.com"],
            "Origin": ["https://example.com"],
            "User-Agent": ["Mozilla/5.0"],
            "Sec-WebSocket-Key": ["dGhlIHNhbXBsZSBub25jZQ=="],
            "Sec-WebSocket-Protocol": ["chat, v2"],
            "X-Forwarded-For": ["192.0.2.7"],
            "X-Forwarded-Port": ["80"],
            "X-Forwarded-Proto": ["http"],
            "X-Api-Key": ["k"],
            "DNT": ["1"],
        },
        "queryStringParameters": {"token": "a b", "room": "2", "empty": ""},
        "multiValueQueryStringParameters": {"token": ["a b"], "room": ["1", "2"], "empty": [""]},
        "requestContext": {
            "routeKey": "$connect",
            "eventType": "CONNECT",
            "extendedRequestId": f"{ID}:0",
            "requestTime": "09/Feb/2024:18:11:23 +0000",
            "messageDirection": "IN",
            "stage": "prod",
            "connectedAt": 1_707_502_283_419,
            "requestTimeEpoch": 1_707_502_283_419,
            "identity": {"sourceIp": "192.0.2.7", "userAgent": "Mozilla/5.0"},
            "requestId": f"{ID}:0",
            "domainName": "ws.example.com",
            "connectionId": ID,
            "apiId": "wsaas",
        },
        "isBase64Encoded": False,
    }


def test_a_connect_without_a_query_has_no_parameters_as_in_api_gateway():
    event = read(opened())
    assert "queryStringParameters" not in event
    assert "multiValueQueryStringParameters" not in event


def test_a_client_of_which_little_is_known_has_an_empty_address():
    event = read(opened(headers={"host": "a"}, remote_address=""))
    assert event["requestContext"]["identity"] == {"sourceIp": ""}
    assert event["headers"] == {"Host": "a", "X-Forwarded-Port": "80", "X-Forwarded-Proto": "http"}


def test_what_a_proxy_says_about_the_scheme_is_kept():
    given = {"x-forwarded-proto": "https", "x-forwarded-port": "443"}
    headers = read(opened(headers=given), node="localhost:8080")["headers"]
    assert (headers["X-Forwarded-Proto"], headers["X-Forwarded-Port"]) == ("https", "443")


@pytest.mark.parametrize(("sent", "expected"), [({}, "Bearer \xe9"), ({"authorization": "Basic a"}, "Basic a")])
def test_the_token_of_a_browser_is_among_the_headers(sent, expected):
    event = read(opened(headers=sent), authorization="Bearer \xe9".encode())
    assert event["headers"]["Authorization"] == expected
    assert event["multiValueHeaders"]["Authorization"] == [expected]


def test_a_message_is_written_as_api_gateway_writes_it():
    event = read(message('{"action":"sendmessage","data":"hi"}', 7))
    assert event == {
        "requestContext": {
            "routeKey": "sendmessage",
            "messageId": f"{ID}:7",
            "eventType": "MESSAGE",
            "extendedRequestId": f"{ID}:7",
            "requestTime": "09/Feb/2024:18:12:23 +0000",
            "messageDirection": "IN",
            "stage": "prod",
            "connectedAt": 1_707_502_283_419,
            "requestTimeEpoch": 1_707_502_343_419,
            "identity": {"sourceIp": "192.0.2.7", "userAgent": "Mozilla/5.0"},
            "requestId": f"{ID}:7",
            "domainName": "ws.example.com",
            "connectionId": ID,
            "apiId": "wsaas",
        },
        "body": '{"action":"sendmessage","data":"hi"}',
        "isBase64Encoded": False,
    }


def test_a_binary_message_is_base64():
    event = read(Message(False, b"\xff\x00", AT, 1))
    assert (event["body"], event["isBase64Encoded"]) == ("/wA=", True)
    assert event["requestContext"]["routeKey"] == "$default"


@pytest.mark.parametrize(
    ("text", "selection", "expected"),
    [
        ('{"action":"join"}', ["action"], "join"),
        (' \n{"a":{"b":"join"}}', ["a", "b"], "join"),
        ('{"action":"join","action":"leave"}', ["action"], "leave"),
        ('{"type":"join"}', ["action"], "$default"),
        ('{"action":""}', ["action"], "$default"),
        ('{"action":7}', ["action"], "$default"),
        ('{"action":null}', ["action"], "$default"),
        ('{"action":{"b":1}}', ["action"], "$default"),
        ('{"a":"join"}', ["a", "b"], "$default"),
        ('{"action":"$connect"}', ["action"], "$default"),
        ('{"action":"$disconnect"}', ["action"], "$default"),
        ('{"action":"join"', ["action"], "$default"),
        ('["action"]', ["action"], "$default"),
        ('"action"', ["action"], "$default"),
        ("hello", ["action"], "$default"),
        ("", ["action"], "$default"),
        ("[" * 5000, ["action"], "$default"),
        ('{"action":' * 5000, ["action"], "$default"),
    ],
)
def test_the_route_key_of_a_message_is_the_text_that_is_selected(text, selection, expected):
    assert route_key_of(message(text), selection) == expected
    assert read(message(text), selection=selection)["requestContext"]["routeKey"] == expected


@pytest.mark.parametrize(
    ("code", "reason", "shown"),
    [
        (1001, "", ""),
        (4000, "bye", "bye"),
        (1005, "", "Client-side close frame status not set"),
    ],
)
def test_a_disconnect_is_written_as_api_gateway_writes_it(code, reason, shown):
    event = read(Closed(AT + 60, disconnect=Disconnect("x", code, reason, 60_500, 3, 4, 0)))
    names = {"Host": "ws.example.com", "x-api-key": "", "X-Forwarded-For": "", "x-restapi": ""}
    assert event == {
        "headers": names,
        "multiValueHeaders": {name: [value] for name, value in names.items()},
        "requestContext": {
            "routeKey": "$disconnect",
            "disconnectStatusCode": code,
            "eventType": "DISCONNECT",
            "extendedRequestId": f"{ID}:end",
            "requestTime": "09/Feb/2024:18:12:23 +0000",
            "messageDirection": "IN",
            "disconnectReason": shown,
            "stage": "prod",
            "connectedAt": 1_707_502_283_419,
            "requestTimeEpoch": 1_707_502_343_419,
            "identity": {"sourceIp": "192.0.2.7", "userAgent": "Mozilla/5.0"},
            "requestId": f"{ID}:end",
            "domainName": "ws.example.com",
            "connectionId": ID,
            "apiId": "wsaas",
        },
        "isBase64Encoded": False,
    }


@pytest.mark.parametrize(
    "disconnect",
    [
        Disconnect("x", 1006, "gateway lost", 60_500),
        b'{"ws_uri":"x","code":1006,"reason":"gateway lost","duration":60500,"messages_in":null,"undelivered":null}',
    ],
)
def test_what_an_earlier_process_has_left_is_sent_with_what_is_known(disconnect):
    context = read(Closed(AT, disconnect=disconnect), client=UNKNOWN_CLIENT)["requestContext"]
    assert context["disconnectStatusCode"] == 1006
    assert context["disconnectReason"] == "gateway lost"
    assert context["connectedAt"] == 1_707_502_283_419 - 60_500
    assert context["identity"] == {"sourceIp": ""}


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ('{"userId":"7","scope":"a b"}', {"userId": "7", "scope": "a b"}),
        ("user-7", {"principalId": "user-7"}),
        ('"user-7"', {"principalId": '"user-7"'}),
        ('{"a":' + 300 * "[" + 300 * "]" + "}", {"a": json.loads(300 * "[" + 300 * "]")}),
    ],
)
def test_the_context_of_a_connection_is_that_of_an_authorizer(context, expected):
    closed = Closed(AT, disconnect=Disconnect("x", 1000, "", 1))
    for event in (message("a"), closed):
        assert read(event, context=context)["requestContext"]["authorizer"] == expected
        assert "authorizer" not in read(event)["requestContext"]


@pytest.mark.parametrize(
    ("node", "expected", "port"),
    [
        ("localhost:8080", ("http", "localhost:8080", "localhost:8080", "local"), "8080"),
        ("https://ws.example.com", ("https", "ws.example.com", "ws.example.com", "local"), "443"),
        ("http://10.0.0.5:8081/prod", ("http", "10.0.0.5:8081", "10.0.0.5:8081", "prod"), "8081"),
        ("a/b/c/prod", ("http", "a", "a/b/c", "prod"), "80"),
        ("[::1]:8080", ("http", "[::1]:8080", "[::1]:8080", "local"), "8080"),
    ],
)
def test_the_domain_and_the_stage_lead_to_the_rest_api(node, expected, port):
    place = place_of(node)
    assert (place.scheme, place.host, place.domain, place.stage) == expected
    assert place.port == port
    context = read(message("a"), node=node)["requestContext"]
    assert (context["domainName"], context["stage"]) == expected[2:]


@pytest.mark.parametrize("month", range(12))
def test_the_time_of_a_request_has_english_months(month):
    names = "JanFebMarAprMayJunJulAugSepOctNovDec"
    context = read(message("a", at=1_704_067_200.0 + (month * 30.5 + 10) * 86_400))["requestContext"]
    assert context["requestTime"][3:6] == names[3 * month : 3 * month + 3]


def test_the_names_of_headers_are_those_that_browsers_send():
    names = ["Sec-WebSocket-Extensions", "Accept-Language", "DNT", "Sec-GPC", "X-Amzn-Trace-Id", "Cookie", "X--Y"]
    assert [spelled(name.lower()) for name in names] == names


def test_each_attempt_has_the_same_bytes():
    subject, one = Subject(ID, NODE, None), opened()
    made = {event_json(subject, one, f"{ID}:0", client_of(one), ["action"]) for _ in range(3)}
    assert len(made) == 1


# Any text, any bytes.

texts = st.text(max_size=40)
visible = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x2FF), max_size=20)


@given(texts)
@examples(300)
def test_any_text_is_the_body_of_its_event(text):
    event = read(message(text))
    assert (event["body"], event["isBase64Encoded"]) == (text, False)


@given(st.binary(max_size=40))
@examples(200)
def test_any_bytes_are_the_body_of_their_event(data):
    event = read(Message(False, data, AT, 1))
    assert (b64decode(event["body"], validate=True), event["isBase64Encoded"]) == (data, True)


@given(
    st.dictionaries(texts, st.recursive(st.none() | st.integers() | texts, lambda each: st.dictionaries(texts, each)))
)
@examples(200)
def test_the_route_key_of_any_object_is_its_action_or_the_default(members):
    key = route_key_of(message(json.dumps(members, ensure_ascii=False)), ["action"])
    action = members.get("action")
    assert key == (action if isinstance(action, str) and action and not action.startswith("$") else "$default")


@given(texts)
@examples(200)
def test_no_text_selects_a_predefined_route_but_the_default(text):
    for sent in (text, json.dumps({"action": text}), json.dumps({"action": f"${text}"})):
        assert route_key_of(message(sent), ["action"]) in {text, "$default"} - {"$connect", "$disconnect"}


@given(st.lists(st.tuples(texts, texts), max_size=6))
@examples(200)
def test_any_query_of_a_form_is_read(pairs):
    event = read(opened(query=urlencode(pairs)))
    expected: dict[str, list[str]] = {}
    for name, value in pairs:
        expected.setdefault(name, []).append(value)
    assert event.get("multiValueQueryStringParameters", {}) == expected
    assert event.get("queryStringParameters", {}) == {name: values[-1] for name, values in expected.items()}


@given(st.dictionaries(st.text("abcxyz-", min_size=1, max_size=8), visible, max_size=6), visible)
@examples(200)
def test_any_headers_are_in_both_forms(headers, reason):
    event = read(opened(headers=headers))
    assert event["multiValueHeaders"] == {name: [value] for name, value in event["headers"].items()}
    assert set(headers.values()) <= {*event["headers"].values()} | {headers.get("connection"), headers.get("upgrade")}
    closed = read(Closed(AT, disconnect=Disconnect("x", 4000, reason, 1)))
    assert closed["requestContext"]["disconnectReason"] == reason
