import pytest

from wsaas import errors
from wsaas.http.response import ResponseParser
from wsaas.http.serialize import answer, dated, fault_answer, kept_alive, without_body


def respond(data: bytes):
    return ResponseParser(100_000).feed(data)


def test_an_answer_can_be_read_back():
    data = answer(200, b'{"code":"OK"}', ("Allow", "GET, HEAD"))
    response = respond(data)
    assert (response.status, response.body, response.keep_alive) == (200, b'{"code":"OK"}', True)
    assert response.headers == {b"content-length": b"13", b"content-type": b"application/json", b"allow": b"GET, HEAD"}
    assert data.startswith(b"HTTP/1.1 200 OK\r\n")


def test_an_answer_without_a_body_has_no_type():
    assert answer(200, b"", keep_alive=False) == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def test_a_fault_is_answered_with_what_it_carries():
    response = respond(fault_answer(errors.SlowClient('"Wait".', ("Retry-After", "1")), keep_alive=False))
    assert (response.status, response.keep_alive) == (429, False)
    assert response.headers[b"retry-after"] == b"1"
    assert response.body == b'{"code":"SLOW_CLIENT","message":"\\"Wait\\"."}'
    assert respond(fault_answer(errors.Gone("It ended."))).keep_alive


def test_every_fault_can_be_answered():
    for kind in errors.HTTPError.__subclasses__():
        response = respond(fault_answer(kind("Why.")))
        assert response.status == kind.status


def test_the_answer_to_a_head_has_no_body():
    data = answer(200, b"{}")
    assert without_body(data) + b"{}" == data
    assert without_body(answer(200, b"\r\n\r\n")) + b"\r\n\r\n" == answer(200, b"\r\n\r\n")


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
@pytest.mark.parametrize("body", [b"a\r\nb", b"a\r\nb" * 1000], ids=["short", "long"])
def test_an_answer_may_have_a_date(at, date, body):
    data = dated(answer(200, body), at)
    response = respond(data)
    assert data.startswith(b"HTTP/1.1 200 OK\r\nDate: ")
    assert (response.headers[b"date"], response.body) == (date, body)


def test_a_client_of_http_1_0_is_told_that_its_connection_stays():
    data = kept_alive(answer(200, b"a\r\nb"))
    response = respond(data)
    assert (response.headers[b"connection"], response.body) == (b"keep-alive", b"a\r\nb")
