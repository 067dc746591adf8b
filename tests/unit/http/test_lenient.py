"""Responses that RFC 9112 does not allow and that are read all the same; requests of the same kind are not."""

import http.client
import io
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import cut, examples, places, responses
from wsaas.errors import Malformed
from wsaas.http import lenient
from wsaas.http.request import Request, RequestParser
from wsaas.http.response import BadResponse, ResponseParser

LIMIT = 1000
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH = b"Content-Length: 3\r\n"
END = LENGTH + b"\r\nabc"

KEPT = {
    "a folded header": (OK + b"X: a\r\n  b\r\n\tc\r\n" + END, b"a b c"),
    "a header folded to nothing": (OK + b"X: a\r\n \r\n" + END, b"a"),
    "a header that begins on its second line": (OK + b"X:\r\n a\r\n" + END, b"a"),
    "a space before the colon": (OK + b"X : a\r\n" + END, b"a"),
    "a tab before the colon": (OK + b"X\t \t: a\r\n" + END, b"a"),
    "a control character in a value": (OK + b"X: a\x0bb\x7f\x01\r\n" + END, b"a b"),
    "two lengths that are the same": (OK + LENGTH + b"X: a\r\ncontent-length:3\r\n" + END, b"a"),
    "a header like a length beside two": (OK + LENGTH * 2 + b"Content-Length-X: b\r\nX: a\r\n" + END, b"a"),
    "a list of lengths": (OK + b"X: a\r\nContent-Length: 3, 3\r\n\r\nabc", b"a"),
    "a control character in the reason": (b"HTTP/1.1 200 O\x00K\x01\r\nX: a\r\n" + END, b"a"),
    "two spaces before the status": (b"HTTP/1.1  200 OK\r\nX: a\r\n" + END, b"a"),
    "a tab before the reason": (b"HTTP/1.1\t200\tOK\r\nX: a\r\n" + END, b"a"),
    "spaces behind a size": (CHUNKED + b"3 \t \r\nabc\r\n0  \r\n\r\n", None),
    "spaces before an extension": (CHUNKED + b"3 ; a = b\r\nabc\r\n0 ;c\r\n\r\n", None),
    "an extension that is none": (CHUNKED + b'3;=;\xff "\r\nabc\r\n0\r\n\r\n', None),
    "a space before the colon of a trailer": (CHUNKED + b"3\r\nabc\r\n0\r\nX : y\r\n\r\n", None),
}

NOT_KEPT = {
    "lines that end without CR": b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc",
    "a header that ends without CR": OK + b"X: a\n" + END,
    "a head that ends without CR": OK + LENGTH + b"\nabc",
    "an empty line alone that has its CR": b"HTTP/1.1 200 OK\nContent-Length: 3\n\r\nabc",
    "an interim response that ends without CR": b"HTTP/1.1 100 Go\n\n" + OK + END,
    "an empty name": OK + b": a\r\n" + END,
    "a name with a space": OK + b"X Y: a\r\n" + END,
    "a space behind the name of the length": OK + b"Content-Length : 3\r\n\r\nabc",
    "a space behind the name of the coding": OK + b"Transfer-Encoding\t: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "a folded length": OK + b"Content-Length:\r\n 3\r\n\r\nabc",
    "a folded coding": OK + b"Transfer-Encoding:\r\n chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "chunks of HTTP/1.0": CHUNKED[:-2].replace(b"/1.1", b"/1.0")
    + b"Connection: keep-alive\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
}

REFUSED = {
    "a status line that is folded": OK + b" X: a\r\n" + END,
    "a first line that is none": b"HTTP/1.1 200OK\nX: a\r\n" + END,
    "a length and chunks": OK + b"X : a\r\nTransfer-Encoding: chunked\r\n" + END,
    "no coding and chunks": OK + b"Transfer-Encoding: identity, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "a name like that of the coding": OK + b"Transfer-Encoding\x0b: chunked\r\n" + END,
    "a name like that of the length": OK + b"X: a\r\nContent-Length\x0b: 3\r\n\r\nabc",
    "a name that is longer than that of the length": OK + b"X : a\r\n\x0bContent-Length: 4\r\n" + END,
    "a length and no chunks": OK + b"Transfer-Encoding: identity\r\n" + END,
    "different lengths": OK + b"Content-Length: 4\r\n" + END,
    "different lengths in a list": OK + b"Content-Length: 3, 4\r\n\r\nabc",
    "one length in two spellings": OK + b"Content-Length: 03\r\n" + END,
    "lengths with a sign": OK + b"Content-Length: +3, +3\r\n\r\nabc",
    "a length and an empty one": OK + b"Content-Length:\r\n" + END,
    "a control character in the length": OK + b"Content-Length: 3\x0b\r\n\r\nabc",
    "a control character in the coding": OK + b"Transfer-Encoding: \x0bchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "chunks twice": CHUNKED[:-2] + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "a line without a colon": OK + b"X\r\n" + END,
    "CR in a value": OK + b"X: a\rb\r\n" + END,
    "NUL in a value": OK + b"X: a\x00b\r\n" + END,
    "two CR at the end of a line": OK + b"X: a\r\r\n" + END,
    "a chunk that ends without CR": CHUNKED + b"3\nabc\n0\n\n",
    "a space before a size": CHUNKED + b" 3\r\nabc\r\n0\r\n\r\n",
    "a control character behind a size": CHUNKED + b"3\x0b\r\nabc\r\n0\r\n\r\n",
    "a control character in an extension": CHUNKED + b"3;\x00\r\nabc\r\n0\r\n\r\n",
}


def read(data: bytes, *, byte_by_byte: bool):
    reader, found = ResponseParser(LIMIT), None
    for piece in [data[at : at + 1] for at in range(len(data))] if byte_by_byte else [data]:
        assert found is None
        found = reader.feed(piece)
    return found


@pytest.mark.parametrize("byte_by_byte", [False, True])
@pytest.mark.parametrize("what", KEPT)
def test_an_unambiguous_head_is_repaired(what, byte_by_byte):
    data, value = KEPT[what]
    response = read(data, byte_by_byte=byte_by_byte)
    assert (response.status, response.body, response.keep_alive) == (200, b"abc", True)
    assert b" ".join(response.headers.get(b"x", b"").split()) == (value or b"")


@pytest.mark.parametrize("byte_by_byte", [False, True])
@pytest.mark.parametrize("what", NOT_KEPT)
def test_the_connection_of_a_doubtful_head_is_not_reused(what, byte_by_byte):
    response = read(NOT_KEPT[what], byte_by_byte=byte_by_byte)
    assert (response.status, response.body, response.keep_alive) == (200, b"abc", False)
    assert response.headers.keys() <= {b"content-length", b"transfer-encoding", b"connection", b"x"}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("byte_by_byte", [False, True])
def test_an_ambiguous_head_is_not_repaired(what, byte_by_byte):
    with pytest.raises(BadResponse, match=r"\w"):
        read(REFUSED[what], byte_by_byte=byte_by_byte)


@pytest.mark.parametrize("coding", [b"identity", b" Identity "])
def test_a_body_in_the_coding_identity_ends_with_the_connection(coding):
    reader = ResponseParser(LIMIT)
    assert reader.feed(OK + b"Transfer-Encoding:" + coding + b"\r\n\r\nabc") is None
    response = reader.eof()
    assert response is not None
    assert (response.body, response.headers, response.keep_alive) == (b"abc", {}, False)


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_doubtful_head_affects_only_its_own_response(pieces):
    reader = ResponseParser(LIMIT)
    sent = [b"HTTP/1.1 100 Go\n\n", OK + END]
    for piece in [b"".join(sent)] if pieces == 1 else sent:
        response = reader.feed(piece)
    assert response is not None
    assert not response.keep_alive
    for _ in range(2):
        response = reader.feed(OK + END)
        assert response is not None
        assert response.keep_alive


def test_a_repaired_head_has_the_same_limits():
    with pytest.raises(BadResponse, match="more than 32768 bytes"):
        read(b"HTTP/1.1 200 OK\nX: " + b"x" * 32_768 + b"\n\n", byte_by_byte=False)
    with pytest.raises(BadResponse, match="more than 100 headers"):
        read(OK + b"X : a\r\n" * 101 + END, byte_by_byte=False)


@pytest.mark.parametrize("line", [b"X: a\r\n b", b"X: " + b" " * 32_000 + b"\r\n b", b"X:" + b"\r\n " * 8_000 + b"b"])
def test_a_repair_takes_no_longer_for_a_long_head_than_its_length(line):
    head = OK + line + b"\r\n\r\n"
    assert lenient.Repair(head).head.endswith(b"b\r\n\r\n")


def test_a_head_within_a_head_is_not_repaired():
    with pytest.raises(Malformed, match="empty line"):
        lenient.Repair(OK + b"\nX : a\r\n\r\n")


OTHERWISE_IN_PYTHON = {"a space behind the name of the coding", "a folded coding"}
"""`http.client` sees no coding in these, so its body has the sizes of the chunks in it."""


@pytest.mark.parametrize("what", [*KEPT, *NOT_KEPT])
def test_python_reads_the_same_response_if_the_connection_is_kept(what):
    assert NOT_KEPT.keys() >= OTHERWISE_IN_PYTHON
    data = KEPT[what][0] if what in KEPT else NOT_KEPT[what]

    class Socket(socket.socket):
        def makefile(self, *_: Any, **__: Any) -> Any:
            return io.BytesIO(data)

    with Socket() as sock:
        response = http.client.HTTPResponse(sock)
    response.begin()
    assert response.status == 200
    assert (response.read() == b"abc") is (what not in OTHERWISE_IN_PYTHON)


REQUEST = b"PUT /x HTTP/1.1\r\nHost: x\r\n"
STRANGE = {
    "a folded header": REQUEST + b"X: a\r\n b\r\n" + END,
    "a space before the colon": REQUEST + b"X : a\r\n" + END,
    "a control character in a value": REQUEST + b"X: a\x0bb\r\n" + END,
    "two lengths that are the same": REQUEST + LENGTH + END,
    "a list of lengths": REQUEST + b"Content-Length: 3, 3\r\n\r\nabc",
    "lines that end without CR": b"PUT /x HTTP/1.1\nHost: x\nContent-Length: 3\n\nabc",
    "an empty name": REQUEST + b": a\r\n" + END,
    "no coding": REQUEST + b"Transfer-Encoding: identity\r\n\r\nabc",
    "spaces behind a size": REQUEST + b"Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n",
    "spaces before an extension": REQUEST + b"Transfer-Encoding: chunked\r\n\r\n3 ;a\r\nabc\r\n0\r\n\r\n",
    "a space before the colon of a trailer": REQUEST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX : y\r\n\r\n",
}


@pytest.mark.parametrize("what", STRANGE)
def test_a_request_is_never_repaired(what):
    reader = RequestParser(LIMIT)
    reader.receive(STRANGE[what])
    assert not isinstance(reader.next(), Request | None)
    assert reader.next() is None


def loosened(data: bytes, where: int, how: int) -> bytes:
    """Write one line of the head of `data` in another way that is repaired."""
    head, _, behind = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    at = where % len(lines)
    name, colon, value = lines[at].partition(b":")
    if at and how == 0:
        lines[at] = name + b" \t" + colon + value
    elif at and how == 1:
        lines[at] = name + colon + b"\r\n\t " + value
    elif how == 2:
        lines[at] += b"\n" + (b"X: y" if at + 1 < len(lines) else b"X: z")
    elif at and name.lower() == b"content-length":
        lines[at:at] = [lines[at]] * how
    return b"\r\n".join(lines) + b"\r\n\r\n" + behind


@examples(300)
@given(responses(), st.integers(0, 20), st.integers(0, 4), places)
def test_a_response_is_the_same_however_loosely_it_is_written_and_however_it_is_cut(sent, where, how, places):
    data, (status, headers, body, keep_alive) = sent
    reader, found = ResponseParser(100_000), None
    for piece in cut(loosened(data, where, how), places):
        assert found is None
        found = reader.feed(piece)
    if found is None:
        found = reader.eof()
        assert found is not None
    assert (found.status, found.body) == (status, body)
    extra = {b"x"} if how == 2 else set()
    assert {name: value for name, value in found.headers.items() if name not in extra} == {
        name: value for name, value in headers.items() if name not in extra
    }
    assert keep_alive or not found.keep_alive
