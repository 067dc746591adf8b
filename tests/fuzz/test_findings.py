"""Bugs that the fuzzer found, each with its smallest input."""

import pytest

from tests.fuzz.frames import taken
from tests.fuzz.handshakes import BEFORE
from tests.fuzz.requests import feed
from tests.fuzz.responses import Outcome, read
from wsaas.events import Message
from wsaas.http.request import Request, RequestParser
from wsaas.websocket.decoder import FrameDecoder
from wsaas.websocket.handshake import read as read_handshake

DEFLATED_HELLO = bytes.fromhex("f248cdc9c90700")


def unmasked_frame(first: int, payload: bytes) -> bytes:
    """Return a client's frame with a mask of zeros."""
    return bytes([first, 0x80 | len(payload)]) + bytes(4) + payload


def respond(data: bytes) -> Outcome:
    return read(iter([data]), 1000)


def test_a_deflated_message_within_the_limit_may_end_in_an_empty_frame():
    stream = FrameDecoder(5, deflated=True)
    stream.receive(unmasked_frame(0x42, DEFLATED_HELLO) + unmasked_frame(0x80, b""))
    assert list(taken(stream)) == [Message(False, b"Hello")]


def test_a_handshake_may_have_spaces_after_its_values():
    (request,) = feed(
        RequestParser(1000), BEFORE.replace(b"\r\n", b" \t\r\n").replace(b"HTTP/1.1 \t", b"HTTP/1.1") + b"\r\n"
    )
    assert isinstance(request, Request)
    assert read_handshake(request).path == "/room"


@pytest.mark.parametrize("status", [b"000", b"104", b"199"])
def test_the_body_of_an_interim_response_is_not_the_next_response(status):
    interim = b"HTTP/1.1 " + status + b" X\r\nContent-Length: 5\r\n\r\nfirst"
    outcome = respond(interim + b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nsec")
    assert outcome.fault or (outcome.response and outcome.response.body == b"sec")


@pytest.mark.parametrize("status", [b"000", b"099"])
def test_a_status_below_100_is_invalid(status):
    outcome = respond(b"HTTP/1.1 " + status + b" X\r\n\r\nbody")
    assert outcome.fault or outcome.response is None


@pytest.mark.parametrize("length", [b"Content-Length: 50", b"Transfer-Encoding: chunked"])
def test_an_incomplete_response_is_invalid_however_many_headers_it_has(length):
    headers = b"".join(b"X-%d: y\r\n" % number for number in range(100))
    outcome = respond(b"HTTP/1.1 200 OK\r\n" + headers + length + b"\r\n\r\n5\r\nonly ")
    assert outcome.fault or outcome.response is None
