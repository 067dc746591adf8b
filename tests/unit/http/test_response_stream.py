from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.strategies import cut, examples, places
from wsaas.http import response_stream
from wsaas.http.request import Request, RequestParser
from wsaas.http.response import BadResponse
from wsaas.http.response_stream import ResponseStream
from wsaas.http.serialize import OK, OutgoingResponse, serialize

NOW = 1_700_000_000.0
GONE = OutgoingResponse(410, b'{"code":"GONE"}')
BUSY = OutgoingResponse(429, b'{"code":"SLOW_CLIENT"}', (("Retry-After", "1"),))


def get() -> Request:
    parser = RequestParser(0)
    parser.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    request = parser.next()
    assert isinstance(request, Request)
    return request


REQUEST = get()


def wire(response: OutgoingResponse, at: float = NOW) -> bytes:
    return serialize(response, at, REQUEST)


def parts(response: OutgoingResponse) -> tuple[int, bytes, tuple[tuple[str, str], ...]]:
    return response.status, response.body, response.headers


def read(*pieces: bytes) -> list[OutgoingResponse]:
    stream, found = ResponseStream(), []
    for piece in pieces:
        stream.receive(piece)
        while (response := stream.next()) is not None:
            found.append(response)
    return found


def test_nothing_is_read_before_anything_arrives():
    stream = ResponseStream()
    assert stream.next() is None
    stream.receive(b"")
    assert stream.next() is None


def test_pipelined_responses_are_read_in_order():
    found = read(wire(GONE) + wire(OK) + wire(BUSY) + wire(OK) + wire(OK, NOW + 1))
    assert [parts(each) for each in found] == [parts(each) for each in (GONE, OK, BUSY, OK, OK)]


def test_the_usual_response_is_ok_itself_so_that_it_is_serialized_by_the_shortcut():
    assert [each is OK for each in read(wire(OK), wire(OK), wire(OK, NOW + 1))] == [True] * 3


@pytest.mark.parametrize(
    "response", [OutgoingResponse(200, b'{"code":"OK"}', (("X", "y"),)), OutgoingResponse(201, OK.body)]
)
def test_a_response_that_resembles_the_usual_one_keeps_its_parts(response):
    assert [parts(each) for each in read(wire(OK) + wire(response) + wire(OK))] == [
        parts(OK),
        parts(response),
        parts(OK),
    ]


def test_a_204_has_no_length():
    done = OutgoingResponse(204)
    assert [parts(each) for each in read(wire(done) + wire(OK) + wire(done))] == [parts(done), parts(OK), parts(done)]


def test_a_large_body_that_arrives_in_parts_is_joined_once():
    body = b"x" * 1_000_000
    sent = wire(OutgoingResponse(200, body)) + wire(OK)
    found = read(*cut(sent, range(0, len(sent), 10_000)))
    assert [each.body for each in found] == [body, OK.body]


bodies = st.binary(max_size=300)
responses = st.one_of(
    st.sampled_from([OK, GONE, BUSY]),
    st.builds(OutgoingResponse, st.sampled_from([200, 400, 404, 503]), bodies),
)


@given(st.lists(st.tuples(responses, st.integers(0, 2)), max_size=8), places)
@example([(OK, 0), (OK, 0), (GONE, 0), (OK, 1)], range(600))
@examples(200)
def test_responses_that_arrive_in_any_pieces_are_read_as_they_were_written(sent, where):
    stream = b"".join(wire(response, NOW + second) for response, second in sent)
    assert [parts(each) for each in read(*cut(stream, where))] == [parts(response) for response, _ in sent]


@given(
    st.lists(st.binary(max_size=60) | st.sampled_from([wire(OK), wire(GONE)[:-3], b"HTTP/1.1 200 OK\r\n", b"\r\n\r\n"]))
)
@examples(300)
def test_no_bytes_raise_anything_but_a_bad_response(pieces):
    with suppress(BadResponse):
        read(*pieces)


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 299 Strange\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nbad header\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (response_stream.MAX_RESPONSE + 1),
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000,
    ],
)
def test_what_this_program_never_sends_is_refused(data):
    with pytest.raises(BadResponse):
        read(data)
