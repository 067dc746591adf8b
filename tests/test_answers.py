from wsaas import errors
from wsaas.answers import answer, fault_answer
from wsaas.responses import ResponseReader


def respond(data: bytes):
    return ResponseReader(100_000).feed(data)


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
    for kind in errors.Fault.__subclasses__():
        response = respond(fault_answer(kind("Why.")))
        assert response.status == kind.status
