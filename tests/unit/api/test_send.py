"""Tests of `POST /send`."""

import orjson
import pytest

from tests.support.api_rig import Rig
from tests.support.fakes import read_all
from wsaas import errors
from wsaas.http.request import RejectedRequest, RequestParser
from wsaas.websocket import frames

UNKNOWN = "a" * 30
NDJSON = "Content-Type: application/x-ndjson"


@pytest.fixture
def rig():
    return Rig()


def lines(*messages):
    return b"".join(orjson.dumps(message) + b"\n" for message in messages)


def texts(rig):
    return [frame[2:] for frame in rig.connection.written]


def test_one_message_is_sent_to_several_clients(rig):
    second = rig.admit()
    body = lines({"to": [rig.session.id, second.ws_uri, UNKNOWN], "text": "hi"})
    assert rig.ask("POST", "/send", body=body).json == {
        "code": "OK",
        "sent": 2,
        "gone": [UNKNOWN],
        "gone_count": 1,
        "slow": [],
        "slow_count": 0,
        "unreached": [],
        "unreached_count": 0,
    }
    assert texts(rig) == [b"hi"]
    assert rig.pending_client.connection.written == [frames.encode(frames.TEXT, b"hi")]


@pytest.mark.parametrize(
    "kind",
    ["application/x-ndjson", "Application/NDJSON", "application/jsonl; charset=utf-8", " application/x-ndjson ;"],
)
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n\r\n", b"\n  \n\n"])
def test_several_messages_are_sent_in_the_order_of_the_lines(rig, kind, end):
    messages = [{"to": [rig.session.id], "text": str(number)} for number in range(3)]
    body = end.join(b"\n" + orjson.dumps(message) for message in messages) + end
    assert rig.ask("POST", "/send", f"Content-Type: {kind}", body=body).json["sent"] == 3
    assert texts(rig) == [b"0", b"1", b"2"]


@pytest.mark.parametrize("headers", [(), ("Content-Type: application/json",), ("Content-Type: text/plain",)])
def test_another_type_has_one_message(rig, headers):
    message = {"to": [rig.session.id], "text": "1"}
    assert rig.ask("POST", "/send", *headers, body=orjson.dumps(message, option=orjson.OPT_INDENT_2)).status == 200
    assert rig.ask("POST", "/send", *headers, body=lines(message, message)).said == (400, "BAD_REQUEST")
    assert texts(rig) == [b"1"]


def test_a_request_with_an_error_names_its_line_and_sends_nothing(rig):
    body = lines({"to": [rig.session.id], "text": "1"}) + b"\nnonsense\n"
    answer = rig.ask("POST", "/send", NDJSON, body=body)
    assert answer.said == (400, "BAD_REQUEST")
    assert answer.json["message"].startswith('Message 3 is not JSON such as {"to"')
    assert texts(rig) == []


def test_a_request_without_messages_is_refused(rig):
    for headers in ((), (NDJSON,)):
        assert rig.ask("POST", "/send", *headers).said == (400, "BAD_REQUEST")


def test_a_message_over_max_message_size_is_refused():
    rig = Rig(max_message_size="10")
    assert rig.ask("POST", "/send", body=lines({"to": [], "text": "x" * 11})).said == (413, "TOO_LARGE")
    assert rig.ask("POST", "/send", body=lines({"to": [], "text": "x" * 10})).status == 200


def test_a_body_over_max_batch_size_is_refused_when_it_arrives_whole():
    rig = Rig(max_batch_size="50")
    assert rig.ask("POST", "/send", body=b"%-50b" % b'{"to": [], "text": ""}').status == 200
    answer = rig.ask("POST", "/send", body=b"%-51b" % b'{"to": [], "text": ""}')
    assert answer.said == (413, "TOO_LARGE")
    assert answer.json["message"] == "The body may have at most 50 bytes."


@pytest.mark.parametrize(
    ("header", "error"),
    [
        ("Content-Length: 51", errors.TooLarge),
        ("Content-Length: 9\r\nContent-Encoding: gzip", errors.UnsupportedMediaType),
    ],
)
def test_a_body_is_refused_before_it_arrives(header, error):
    rig = Rig(max_batch_size="50")
    reader = RequestParser(1000, rig.api.body_limit)
    (refused,) = read_all(reader, f"POST /send HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n".encode())
    assert isinstance(refused, RejectedRequest)
    assert isinstance(refused.error, error)


def test_a_compressed_body_that_arrives_whole_is_refused(rig):
    assert rig.ask("POST", "/send", "Content-Encoding: gzip", body=b"x").said == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_the_token_is_needed():
    rig = Rig(control_token="s3cret")
    body = lines({"to": [rig.session.id], "text": "1"})
    assert rig.ask("POST", "/send", body=body).said == (401, "UNAUTHORIZED")
    assert texts(rig) == []
    assert rig.ask("POST", "/send", "Authorization: Bearer s3cret", body=body).json["sent"] == 1


def test_a_large_request_is_answered_at_its_end():
    rig = Rig()
    rig.serve_per_slice(2)
    body = lines(*[{"to": [rig.session.id], "text": str(number)} for number in range(5)])
    _, answers = rig.defer("POST", "/send", NDJSON, body=body)
    assert texts(rig) == []
    while not answers:
        rig.clock.turn()
    assert answers[0].json["sent"] == 5
    assert texts(rig) == [b"0", b"1", b"2", b"3", b"4"]


def test_an_error_that_is_found_late_is_answered():
    rig = Rig()
    rig.serve_per_slice(2)
    body = lines(*[{"to": [rig.session.id], "text": str(number)} for number in range(5)]) + b"nonsense"
    _, answers = rig.defer("POST", "/send", NDJSON, body=body)
    while not answers:
        rig.clock.turn()
    assert answers[0].said == (400, "BAD_REQUEST")
    assert texts(rig) == []
