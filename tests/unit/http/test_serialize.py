import pytest

from wsaas import errors
from wsaas.http.request import Request, RequestParser
from wsaas.http.response import ResponseParser
from wsaas.http.serialize import OK, OutgoingResponse, error_response, serialize, serialize_ok

AT = 784111777.0
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"


def request(method: bytes = b"GET", version: bytes = b"1.1", *lines: bytes) -> Request:
    parser = RequestParser(100)
    parser.receive(b"\r\n".join([method + b" / HTTP/" + version, b"Host: a", *lines, b"", b""]))
    made = parser.next()
    assert isinstance(made, Request)
    return made


REQUESTS = {
    "a GET": request(),
    "a PUT": request(b"PUT"),
    "a HEAD": request(b"HEAD"),
    "a last one": request(b"GET", b"1.1", b"Connection: close"),
    "a HEAD that is the last one": request(b"HEAD", b"1.1", b"Connection: close"),
    "one of HTTP/1.0": request(b"GET", b"1.0"),
    "one of HTTP/1.0 that stays": request(b"GET", b"1.0", b"Connection: keep-alive"),
    "a HEAD of HTTP/1.0 that stays": request(b"HEAD", b"1.0", b"Connection: keep-alive"),
    "none": None,
}


def parse(data: bytes):
    return ResponseParser(100_000).feed(data)


def test_a_response_can_be_parsed():
    data = serialize(OutgoingResponse(200, b'{"code":"OK"}', (("Allow", "GET, HEAD"),)), AT, request())
    response = parse(data)
    assert (response.status, response.body, response.keep_alive) == (200, b'{"code":"OK"}', True)
    assert response.headers == {
        b"date": DATE,
        b"content-length": b"13",
        b"content-type": b"application/json",
        b"allow": b"GET, HEAD",
    }
    assert data.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_response_without_a_body_has_no_type():
    data = serialize(OutgoingResponse(200), AT)
    assert data == b"HTTP/1.1 200 OK\r\nDate: " + DATE + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def test_a_204_has_no_length():
    # RFC 9110 section 8.6
    assert serialize(OutgoingResponse(204), AT, request()) == b"HTTP/1.1 204 No Content\r\nDate: " + DATE + b"\r\n\r\n"


def test_an_error_becomes_a_response_with_its_headers():
    made = error_response(errors.SlowClient('"Wait".', ("Retry-After", "1")))
    response = parse(serialize(made, AT))
    assert (response.status, response.keep_alive) == (429, False)
    assert response.headers[b"retry-after"] == b"1"
    assert response.body == b'{"code":"SLOW_CLIENT","message":"\\"Wait\\"."}'
    assert parse(serialize(error_response(errors.Gone("It ended.")), AT, request())).keep_alive


def test_every_error_becomes_a_response():
    for kind in errors.HTTPError.__subclasses__():
        response = parse(serialize(error_response(kind("Why.")), AT))
        assert response.status == kind.status


@pytest.mark.parametrize("name", REQUESTS)
def test_a_304_has_the_headers_of_the_200_without_its_body(name):
    usual, unchanged = (serialize(OutgoingResponse(status, b"{}"), AT, REQUESTS[name]) for status in (200, 304))
    assert unchanged == usual.partition(b"\r\n\r\n")[0].replace(b"200 OK", b"304 Not Modified") + b"\r\n\r\n"


@pytest.mark.parametrize("body", [b"{}", b"\r\n\r\n", OK.body])
def test_the_response_to_a_head_is_that_to_a_get_without_its_body(body):
    made = OK if body is OK.body else OutgoingResponse(200, body)
    assert serialize(made, AT, request(b"HEAD")) + body == serialize(made, AT, request(b"GET"))


@pytest.mark.parametrize(
    ("at", "date"),
    [
        (784111777.0, b"Sun, 06 Nov 1994 08:49:37 GMT"),
        (784111777.999, b"Sun, 06 Nov 1994 08:49:37 GMT"),
        (784111778.0, b"Sun, 06 Nov 1994 08:49:38 GMT"),
        (0.5, b"Thu, 01 Jan 1970 00:00:00 GMT"),
        (784111777.1, b"Sun, 06 Nov 1994 08:49:37 GMT"),
    ],
)
@pytest.mark.parametrize(
    "made", [OK, OutgoingResponse(200, b"a\r\nb"), OutgoingResponse(200, b"a\r\nb" * 1000)], ids=["OK", "short", "long"]
)
def test_each_response_has_its_date(at, date, made):
    data = serialize(made, at, request())
    response = parse(data)
    assert data.startswith(b"HTTP/1.1 200 OK\r\nDate: ")
    assert (response.headers[b"date"], response.body) == (date, made.body)


@pytest.mark.parametrize(
    ("name", "connection"),
    [
        ("a GET", None),
        ("a last one", b"close"),
        ("one of HTTP/1.0", b"close"),
        ("one of HTTP/1.0 that stays", b"keep-alive"),
        ("a HEAD of HTTP/1.0 that stays", b"keep-alive"),
        ("none", b"close"),
    ],
)
@pytest.mark.parametrize("made", [OK, OutgoingResponse(200, b"{}")], ids=["OK", "other"])
def test_a_response_says_whether_the_connection_is_kept_where_that_is_not_the_default(name, connection, made):
    head = serialize(made, AT, REQUESTS[name]).partition(b"\r\n\r\n")[0]
    lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert lines.get(b"Connection") == connection


@pytest.mark.parametrize("at", [AT, AT + 0.5, AT + 1.0])
@pytest.mark.parametrize("name", REQUESTS)
def test_the_constant_for_a_push_is_what_any_response_like_it_is_serialized_to(name, at):
    twin = OutgoingResponse(OK.status, OK.body, OK.headers)
    assert serialize(OK, at, REQUESTS[name]) == serialize(twin, at, REQUESTS[name])
    assert serialize_ok(int(at)) == serialize(twin, at, request(b"PUT"))
