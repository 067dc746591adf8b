"""Messages that another program in front of the gateway, or behind it, could take apart in another way than it does.

Each is refused, and nothing behind it is read; or it is read as everybody has to read it. A strict reader of another
making, h11, is the judge of what was accepted.
"""

import h11
import pytest
from hypothesis import given

from tests.support.fakes import read_all
from tests.support.strategies import cut, examples, places, requests_or_not, responses_or_not
from wsaas import errors
from wsaas.http import lenient
from wsaas.http.request import Request, RequestParser
from wsaas.http.response import BadResponse, ResponseParser

LIMIT = 1000
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"


def request(*lines: bytes, start: bytes = b"PUT / HTTP/1.1", body: bytes = b"") -> bytes:
    return b"\r\n".join([start, b"Host: x", *lines, b"", body])


def chunks(size: bytes = b"3", data: bytes = b"abc\r\n", last: bytes = b"0\r\n\r\n") -> bytes:
    return request(CHUNKED, body=size + b"\r\n" + data + last)


def host(value: bytes, start: bytes = b"GET / HTTP/1.1") -> bytes:
    return start + b"\r\nHost:" + value + b"\r\n\r\n"


REFUSED = {
    # Two lengths, or none that can be relied on.
    "a length and chunks": (400, request(b"Content-Length: 3", CHUNKED, body=b"0\r\n\r\n")),
    "chunks and a length": (400, request(CHUNKED, b"Content-Length: 3", body=b"0\r\n\r\n")),
    "a length and an unknown coding": (400, request(b"Content-Length: 3", b"Transfer-Encoding: x", body=b"abc")),
    "a length and an empty coding": (400, request(b"Content-Length: 3", b"Transfer-Encoding:", body=b"abc")),
    "two lengths": (400, request(b"Content-Length: 3", b"Content-Length: 5", body=b"abc")),
    "two lengths that are the same": (400, request(b"Content-Length: 3", b"Content-Length: 3", body=b"abc")),
    "a list of lengths": (400, request(b"Content-Length: 3, 3", body=b"abc")),
    "a length with a sign": (400, request(b"Content-Length: +3", body=b"abc")),
    "a negative length": (400, request(b"Content-Length: -3", body=b"abc")),
    "a hexadecimal length": (400, request(b"Content-Length: 0x3", body=b"abc")),
    "a length with a space in it": (400, request(b"Content-Length: 1 1", body=b"a" * 11)),
    "a length with an underscore": (400, request(b"Content-Length: 1_1", body=b"a" * 11)),
    "a length with a vertical tab": (400, request(b"Content-Length: \x0b3", body=b"abc")),
    "a length in other digits": (400, request("Content-Length: ٣".encode(), body=b"abc")),
    "an empty length": (400, request(b"Content-Length:", body=b"abc")),
    "a length of more than 63 bits": (413, request(b"Content-Length: 9223372036854775808", body=b"abc")),
    "a length of more than 64 bits": (400, request(b"Content-Length: 18446744073709551619", body=b"abc")),
    "a length of very many zeros": (400, request(b"Content-Length: 00000000000000000003", body=b"abc")),
    # Codings.
    "a coding below the chunks": (501, request(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n")),
    "a coding below the chunks, on its own line": (
        400,
        request(b"Transfer-Encoding: gzip", CHUNKED, body=b"0\r\n\r\n"),
    ),
    "identity below the chunks": (501, request(b"Transfer-Encoding: identity, chunked", body=b"0\r\n\r\n")),
    "nothing below the chunks": (501, request(b"Transfer-Encoding: , chunked", body=b"0\r\n\r\n")),
    "chunks below a coding": (400, request(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n")),
    "chunks below identity": (400, request(CHUNKED, b"Transfer-Encoding: identity", body=b"0\r\n\r\n")),
    "chunks in chunks": (400, request(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n")),
    "chunks and no coding": (400, request(CHUNKED, b"Transfer-Encoding:", body=b"0\r\n\r\n")),
    "chunks twice": (400, request(CHUNKED, CHUNKED, body=b"0\r\n\r\n")),
    "no chunks": (400, request(b"Transfer-Encoding: gzip")),
    "no coding": (400, request(b"Transfer-Encoding: identity")),
    "a coding like chunks": (400, request(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n")),
    "chunks with a parameter": (400, request(b"Transfer-Encoding: chunked;q=1", body=b"0\r\n\r\n")),
    "chunks with a vertical tab": (400, request(b"Transfer-Encoding: chunked\x0b", body=b"0\r\n\r\n")),
    "chunks on a folded line": (400, request(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n")),
    "chunks with a space before the colon": (400, request(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n")),
    "chunks of HTTP/1.0": (400, request(CHUNKED, start=b"PUT / HTTP/1.0", body=b"0\r\n\r\n")),
    "chunks of HTTP/1.0 that stays": (
        400,
        request(CHUNKED, b"Connection: keep-alive", start=b"PUT / HTTP/1.0", body=b"0\r\n\r\n"),
    ),
    "a WebSocket with a body": (
        400,
        request(b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 3", body=b"abc"),
    ),
    "a WebSocket with chunks": (
        400,
        request(b"Connection: Upgrade", b"Upgrade: websocket", CHUNKED, body=b"0\r\n\r\n"),
    ),
    "an offer and an unknown coding": (400, request(b"Connection: Upgrade", b"Upgrade: x", b"Transfer-Encoding: y")),
    # Chunks.
    "a chunk without a size": (400, chunks(b"")),
    "a size with a sign": (400, chunks(b"+3")),
    "a negative size": (400, chunks(b"-3")),
    "a size that says it is hexadecimal": (400, chunks(b"0x3")),
    "a size with a space before it": (400, chunks(b" 3")),
    "a size with a space behind it": (400, chunks(b"3 ")),
    "a size with a tab": (400, chunks(b"3\t")),
    "a size that is no number": (400, chunks(b"3g")),
    "a size of more than 64 bits": (400, chunks(b"10000000000000003")),
    "a size of nearly 64 bits": (413, chunks(b"ffffffffffffffff")),
    "a size that ends without CR": (400, request(CHUNKED, body=b"3\nabc\r\n0\r\n\r\n")),
    "a size that ends without LF": (400, request(CHUNKED, body=b"3\rabc\r\n0\r\n\r\n")),
    "an empty extension": (400, chunks(b"3;")),
    "an extension with a control character": (400, chunks(b"3;a=\x01")),
    "an extension with CR": (400, chunks(b"3;a\rb")),
    "an extension that ends without CR": (400, request(CHUNKED, body=b"3;a\nabc\r\n0\r\n\r\n")),
    "a quoted extension that holds a line's end": (400, chunks(b'3;a="\r\nX"')),
    "a huge extension": (431, chunks(b"3;" + b"x" * 40_000)),
    "a chunk without its end": (400, chunks(data=b"abc")),
    "a chunk with half an end": (400, chunks(data=b"abc\n")),
    "a chunk longer than its size": (400, chunks(data=b"abcd\r\n")),
    "a chunk shorter than its size": (400, chunks(data=b"ab\r\n")),
    "a last chunk that ends without CR": (400, chunks(last=b"0\n\r\n")),
    "no end behind the last chunk": (400, chunks(last=b"0\r\n\n")),
    "a folded trailer": (400, chunks(last=b"0\r\nX: a\r\n b\r\n\r\n")),
    "a trailer without a colon": (400, chunks(last=b"0\r\nX\r\n\r\n")),
    "a trailer that ends without CR": (400, chunks(last=b"0\r\nX: a\n\r\n")),
    "huge trailers": (431, chunks(last=b"0\r\n" + b"X: y\r\n" * 10_000 + b"\r\n")),
    # Lines.
    "a first line that ends without CR": (400, b"GET / HTTP/1.1\nHost: x\r\n\r\n"),
    "lines that end without CR": (400, b"GET / HTTP/1.1\nHost: x\n\n"),
    "a header that ends without CR": (400, request(b"X: a\nY: b")),
    "an empty header that ends without CR": (400, request(b"X:\nY: b")),
    "a head that ends without CR": (400, b"GET / HTTP/1.1\r\nHost: x\r\n\n"),
    "a first line that ends without LF": (400, b"GET / HTTP/1.1\rHost: x\r\n\r\n"),
    "a header that ends without LF": (400, request(b"X: a\rContent-Length: 3", body=b"abc")),
    "CR at the end of a header": (400, request(b"X: a\r")),
    "CR before a header": (400, request(b"\rX: a")),
    "a folded header": (400, request(b"X: a", b" b")),
    "a header folded with a tab": (400, request(b"X: a", b"\tb")),
    "a folded first header": (400, b"GET / HTTP/1.1\r\n Host: x\r\n\r\n"),
    "a space before the colon": (400, request(b"Content-Length : 3", body=b"abc")),
    "a tab before the colon": (400, request(b"Content-Length\t: 3", body=b"abc")),
    "a space in a name": (400, request(b"Content Length: 3", body=b"abc")),
    "an empty name": (400, request(b": a")),
    "no colon": (400, request(b"Content-Length 3", body=b"abc")),
    "NUL in a name": (400, request(b"Content-Length\x00: 3", body=b"abc")),
    "NUL in a value": (400, request(b"X: a\x00b")),
    "a control character in a value": (400, request(b"X: a\x01b")),
    "a vertical tab in a value": (400, request(b"X: a\x0bb")),
    "DEL in a value": (400, request(b"X: a\x7fb")),
    "Latin-1 in a name": (400, request(b"X\xe9: a")),
    # What is asked for.
    "no version": (400, b"GET /\r\n\r\n"),
    "a space for a version": (400, request(start=b"GET / ")),
    "HTTP/1": (400, request(start=b"GET / HTTP/1")),
    "HTTP/1.10": (400, request(start=b"GET / HTTP/1.10")),
    "HTTP/01.1": (400, request(start=b"GET / HTTP/01.1")),
    "HTTP/1.1 and a space": (400, request(start=b"GET / HTTP/1.1 ")),
    "HTTP /1.1": (400, request(start=b"GET / HTTP /1.1")),
    "http/1.1": (400, request(start=b"GET / http/1.1")),
    "RTSP/1.0": (400, request(start=b"GET / RTSP/1.0")),
    "ICE/1.0": (400, request(start=b"SOURCE / ICE/1.0")),
    "HTTP/0.9": (505, request(start=b"GET / HTTP/0.9")),
    "HTTP/1.2": (505, request(start=b"GET / HTTP/1.2")),
    "HTTP/2.0": (505, request(start=b"GET / HTTP/2.0")),
    "HTTP/2": (501, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/3.0": (505, request(start=b"GET / HTTP/3.0")),
    "two spaces before the target": (400, request(start=b"GET  / HTTP/1.1")),
    "two spaces behind the target": (400, request(start=b"GET /  HTTP/1.1")),
    "a tab before the target": (400, request(start=b"GET\t/ HTTP/1.1")),
    "a tab behind the target": (400, request(start=b"GET /\tHTTP/1.1")),
    "a space before the method": (400, request(start=b" GET / HTTP/1.1")),
    "a space in the target": (400, request(start=b"GET /a b HTTP/1.1")),
    "NUL in the target": (400, request(start=b"GET /a\x00b HTTP/1.1")),
    "a control character in the target": (400, request(start=b"GET /?a\x1fb HTTP/1.1")),
    "DEL in the target": (400, request(start=b"GET /a\x7fb HTTP/1.1")),
    "Latin-1 in the target": (400, request(start=b"GET /\xe9 HTTP/1.1")),
    "a fragment": (400, request(start=b"GET /a#b HTTP/1.1")),
    "a fragment of a URL": (400, request(start=b"GET http://x/a#b HTTP/1.1")),
    "neither path nor URL": (400, request(start=b"GET x HTTP/1.1")),
    "a query alone": (400, request(start=b"GET ?a HTTP/1.1")),
    "the server as a whole, but not its options": (400, request(start=b"GET * HTTP/1.1")),
    "an authority": (400, request(start=b"GET x:80 HTTP/1.1")),
    "another scheme": (400, request(start=b"GET ftp://x/a HTTP/1.1")),
    "a URL with one slash": (400, request(start=b"GET http:/a HTTP/1.1")),
    "a URL without a host": (400, request(start=b"GET http:///a HTTP/1.1")),
    "a URL with only a port": (400, request(start=b"GET http://:80/a HTTP/1.1")),
    "a URL with a user": (400, request(start=b"GET http://u:p@x/a HTTP/1.1")),
    "a method in lower case": (501, request(start=b"get / HTTP/1.1")),
    "an unknown method": (501, request(start=b"BREW / HTTP/1.1")),
    "a method of others": (501, request(start=b"PROPFIND / HTTP/1.1")),
    "a proxy's method": (501, request(start=b"CONNECT x:80 HTTP/1.1")),
    "a very long method": (400, request(start=b"G" * 33 + b" / HTTP/1.1")),
    "a method that is no token": (400, request(start=b"G(T / HTTP/1.1")),
    "a response": (400, b"HTTP/1.1 200 OK\r\nHost: x\r\n\r\n"),
    # For whom.
    "no Host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, request(b"Host: y")),
    "two Hosts that are the same": (400, request(b"Host: x")),
    "two Hosts of HTTP/1.0": (400, request(b"Host: x", start=b"GET / HTTP/1.0")),
    "a Host with a space": (400, host(b"x y")),
    "a Host with a tab": (400, host(b"x\ty")),
    "a Host with a path": (400, host(b"x/y")),
    "a Host with a query": (400, host(b"x?y")),
    "a Host with a fragment": (400, host(b"x#y")),
    "a Host with a user": (400, host(b"u@x")),
    "a Host with a port of letters": (400, host(b"x:a")),
    "a Host with two ports": (400, host(b"x:1:2")),
    "a Host with half an address": (400, host(b"[::1")),
    "a Host with an address within": (400, host(b"a[::1]")),
    "a Host in Latin-1": (400, host(b"\xe9")),
    "a Host in quotes": (400, host(b'"x"')),
    "a Host with a backslash": (400, host(b"x\\y")),
    "a wrong Host of HTTP/1.0": (400, host(b"x y", b"GET / HTTP/1.0")),
    "two Authorizations": (400, request(b"Authorization: a", b"authorization: b")),
    "two Content-Types": (400, request(b"Content-Type: text/plain", b"Content-Type: a/b")),
    "two Origins": (400, request(b"Origin: https://a", b"Origin: https://b")),
    # Before a request.
    "an LF before a request": (400, b"\n" + HIDDEN),
    "a CR before a request": (400, b"\r" + HIDDEN),
    "CR and empty lines before a request": (400, b"\r\n\r\r\n" + HIDDEN),
    "a space before a request": (400, b" \r\n" + HIDDEN),
    "NUL before a request": (400, b"\x00" + HIDDEN),
}

READ = {
    "a length with leading zeros": (request(b"Content-Length: 0003", body=b"abc"), b"abc"),
    "a length with space around it": (request(b"Content-Length:  3 ", body=b"abc"), b"abc"),
    "a length with another name": (request(b"Content_Length: 3", b"X-Content-Length: 3"), b""),
    "chunks in capitals": (request(b"TRANSFER-ENCODING: CHUNKED ", body=b"0\r\n\r\n"), b""),
    "a size with leading zeros": (chunks(b"0003"), b"abc"),
    "an extension": (chunks(b'3;a;b=c;d="e;\\"f"'), b"abc"),
    "a last chunk of many zeros": (chunks(last=b"000\r\n\r\n"), b"abc"),
    "a trailer that says how long it is": (chunks(last=b"0\r\nContent-Length: 30\r\n\r\n"), b"abc"),
    "a trailer that says that there are chunks": (chunks(last=b"0\r\nTransfer-Encoding: chunked\r\n\r\n"), b"abc"),
    "a trailer that closes": (chunks(last=b"0\r\nConnection: close\r\n\r\n"), b"abc"),
    "a trailer that asks for a WebSocket": (
        chunks(last=b"0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        b"abc",
    ),
    "a GET with a body": (request(b"Content-Length: 3", start=b"GET / HTTP/1.1", body=b"abc"), b"abc"),
    "a HEAD with a body": (request(b"Content-Length: 3", start=b"HEAD / HTTP/1.1", body=b"abc"), b"abc"),
    "a DELETE with chunks": (request(CHUNKED, start=b"DELETE / HTTP/1.1", body=b"0\r\n\r\n"), b""),
    "a body that is a request": (request(b"Content-Length: %d" % len(HIDDEN), body=HIDDEN), HIDDEN),
    "empty lines before a request": (b"\r\n\r\n" + request(), b""),
    "a request of HTTP/1.0 that stays": (request(b"Connection: keep-alive", start=b"GET / HTTP/1.0"), b""),
    "a URL with another host": (request(start=b"GET http://y:81/ HTTP/1.1"), b""),
    "an empty Host": (host(b""), b""),
    "a Host with an empty port": (host(b"x:"), b""),
    "a Host with an address": (host(b"[::1]:80"), b""),
    "a Host of odd characters": (host(b"_x-1.~!$&'()*+,;=%41:65536"), b""),
}


@pytest.mark.parametrize("byte_by_byte", [False, True])
@pytest.mark.parametrize("what", REFUSED)
def test_an_ambiguous_request_is_refused_and_nothing_behind_it_is_read(what, byte_by_byte):
    status, data = REFUSED[what]
    data += HIDDEN
    reader = RequestParser(LIMIT)
    (refusal,) = read_all(reader, *(data[at : at + 1] for at in range(len(data))) if byte_by_byte else [data])
    assert isinstance(refusal, errors.HTTPError)
    assert refusal.status == status
    assert read_all(reader, HIDDEN) == []


@pytest.mark.parametrize("byte_by_byte", [False, True])
@pytest.mark.parametrize("what", READ)
def test_an_unambiguous_request_is_read(what, byte_by_byte):
    data, body = READ[what]
    data += HIDDEN
    reader = RequestParser(LIMIT)
    first, second = read_all(reader, *(data[at : at + 1] for at in range(len(data))) if byte_by_byte else [data])
    assert (first.target, first.body) == (b"/", body)
    assert (second.target, second.body) == (b"/hidden", b"")
    assert [found for _, _, _, found in read_by_h11(data, 2)] == [body, b""]


@pytest.mark.parametrize("line", [b"Connection: close", b"Connection: keep-alive, Close"])
def test_nothing_is_read_behind_the_last_request(line):
    (last,) = read_all(RequestParser(LIMIT), request(line, b"Content-Length: 3", body=b"abc" + HIDDEN), HIDDEN)
    assert (last.body, last.keep_alive) == (b"abc", False)


def read_by_h11(data: bytes, number: int) -> list[tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]]:
    """Return what h11 makes of the first `number` requests in `data`. Raises `h11.RemoteProtocolError`."""
    found = []
    for _ in range(number):
        while data.startswith(b"\r\n"):
            data = data[2:]
        # A connection for each, so that none waits for an answer.
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=100_000)
        connection.receive_data(data)
        head, body = connection.next_event(), b""
        assert isinstance(head, h11.Request), head
        while isinstance(event := connection.next_event(), h11.Data):
            body += event.data
        assert isinstance(event, h11.EndOfMessage), event
        data = connection.trailing_data[0]
        found.append((head.method, head.target, list(head.headers), body))
    return found


@examples(500)
@given(requests_or_not)
def test_a_strict_reader_reads_the_same_requests(data):
    items = [item for item in read_all(RequestParser(LIMIT), data) if isinstance(item, Request)]
    found = read_by_h11(data, len(items))
    for item, (method, target, headers, body) in zip(items, found, strict=True):
        assert (item.method, item.body) == (method, body)
        assert target.endswith(item.target)
        assert {name for name, _ in headers} >= set(item.headers)
        for name, value in item.headers.items():
            assert value in {given for given_name, given in headers if given_name == name} or b"," in value


# What the backend sends (what is read although it is not quite right: `test_lenient`)


def response(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK", body: bytes = b"") -> bytes:
    return b"\r\n".join([start, *lines, b"", body])


NONE = b"Content-Length: 0"

BAD = {
    "a length and chunks": response(b"Content-Length: 3", CHUNKED, body=b"0\r\n\r\n"),
    "chunks and a length": response(CHUNKED, b"Content-Length: 3", body=b"0\r\n\r\n"),
    "two lengths": response(b"Content-Length: 3", b"Content-Length: 5", body=b"abc"),
    "a length with a sign": response(b"Content-Length: +3", body=b"abc"),
    "a negative length": response(b"Content-Length: -3", body=b"abc"),
    "an empty length": response(b"Content-Length:", body=b"abc"),
    "a length of more than 64 bits": response(b"Content-Length: 18446744073709551619", body=b"abc"),
    "a coding below the chunks": response(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "chunks below a coding": response(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"),
    "chunks twice": response(CHUNKED, CHUNKED, body=b"0\r\n\r\n"),
    "no chunks": response(b"Transfer-Encoding: gzip"),
    "a coding like chunks": response(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "a chunk that lies about its size": response(CHUNKED, body=b"3\r\nabcd\r\n0\r\n\r\n"),
    "a huge extension": response(CHUNKED, body=b"3;" + b"x" * 40_000 + b"\r\nabc\r\n0\r\n\r\n"),
    "huge trailers": response(CHUNKED, body=b"0\r\n" + b"X: y\r\n" * 10_000 + b"\r\n"),
    "a header that ends without LF": response(b"X: a\rContent-Length: 3", body=b"abc"),
    "NUL in a value": response(b"X: \x00", NONE),
    "HTTP/1.2": response(NONE, start=b"HTTP/1.2 200 OK"),
    "HTTP/2.0": response(NONE, start=b"HTTP/2.0 200 OK"),
    "HTTP/0.9": response(NONE, start=b"HTTP/0.9 200 OK"),
    "no version": b"200 OK\r\n\r\n",
    "RTSP": response(NONE, start=b"RTSP/1.0 200 OK"),
    "ICE": response(NONE, start=b"ICE/1.0 200 OK"),
    "ICY": response(NONE, start=b"ICY 200 OK"),
    "a space before the version": response(NONE, start=b" HTTP/1.1 200 OK"),
    "a status of two digits": response(NONE, start=b"HTTP/1.1 20 OK"),
    "a status of four digits": response(NONE, start=b"HTTP/1.1 2000 OK"),
    "status 000": response(NONE, start=b"HTTP/1.1 000 OK"),
    "status 099": response(NONE, start=b"HTTP/1.1 099 OK"),
    "a status with a sign": response(NONE, start=b"HTTP/1.1 +20 OK"),
    "no status": response(NONE, start=b"HTTP/1.1 OK"),
    "an empty line before it": b"\r\n" + response(NONE),
    "a request": HIDDEN,
    "another protocol": response(b"Connection: Upgrade", b"Upgrade: x", start=b"HTTP/1.1 101 Go"),
    "an interim response with a body": response(b"Content-Length: 3", start=b"HTTP/1.1 100 Go", body=b"abc"),
    "an interim response with chunks": response(CHUNKED, start=b"HTTP/1.1 103 Go", body=b"0\r\n\r\n"),
    "a flood of interim responses": response(start=b"HTTP/1.1 100 Go") * 2000 + response(NONE),
    "a flood of headers": response(*[b"X-%d: y" % number for number in range(101)], NONE),
    "an endless head": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000,
    "an endless reason": b"HTTP/1.1 200 " + b"x" * 40_000,
    "TLS": b"\x15\x03\x01\x00\x02\x02\x16",
    "HTML": b"<html>",
}


@pytest.mark.parametrize("byte_by_byte", [False, True])
@pytest.mark.parametrize("what", BAD)
def test_an_ambiguous_response_is_refused(what, byte_by_byte):
    data = BAD[what]
    reader = ResponseParser(LIMIT)
    with pytest.raises(BadResponse, match=r"\w"):
        assert not any(map(reader.feed, [data[at : at + 1] for at in range(len(data))] if byte_by_byte else [data]))


USELESS = {
    "another response behind it": response(NONE) * 2,
    "half a response behind it": response(NONE) + b"HTTP/1.1 ",
    "an empty line behind it": response(NONE) + b"\r\n",
    "garbage behind chunks": response(CHUNKED, body=b"0\r\n\r\nx"),
    "a body where there is none": response(start=b"HTTP/1.1 204 No", body=b"abc"),
    "the length of a body where there is none": response(b"Content-Length: 3", start=b"HTTP/1.1 204 No"),
    "chunks where there is no body": response(CHUNKED, start=b"HTTP/1.1 204 No"),
    "the length of a body that has not changed": response(b"Content-Length: 3", start=b"HTTP/1.1 304 No"),
    "a body over the limit that is still to come": response(b"Content-Length: 1001"),
    "chunks over the limit that are still to come": response(CHUNKED, body=b"3e9\r\n"),
    "no word on its length, and too much of it": response(body=b"x" * 1001),
    "Connection: close": response(NONE, b"Connection: close"),
    "Connection: close among others": response(NONE, b"Connection: x, Close"),
    "HTTP/1.0": response(NONE, start=b"HTTP/1.0 200 OK"),
}


@pytest.mark.parametrize("what", USELESS)
def test_a_connection_with_a_doubtful_response_is_not_reused(what):
    found = ResponseParser(LIMIT).feed(USELESS[what])
    assert found is not None
    assert not found.keep_alive


def test_a_response_without_a_length_ends_with_its_connection_though_that_is_to_be_kept():
    for lines in ([], [b"Connection: keep-alive"]):
        reader = ResponseParser(LIMIT)
        assert reader.feed(response(*lines, body=b"abc")) is None
        found = reader.eof()
        assert found is not None
        assert (found.body, found.keep_alive) == (b"abc", False)


def strictly_written(data: bytes) -> bytes:
    """Return a response, which was accepted, with each head as RFC 9112 writes it."""
    at, written, status = 0, b"", b"1"
    while status == b"1":
        end = lenient.find_end(data, at)
        head = lenient.Repair(data[at:end]).head
        written, at, status = written + head, end, head[9:10]
    return written + data[at:]


@examples(500)
@given(responses_or_not, places)
def test_a_strict_reader_reads_the_same_response(data, places):
    reader, found, given_to_it = ResponseParser(LIMIT), None, b""
    try:
        for piece in cut(data, places):
            given_to_it += piece
            if (found := reader.feed(piece)) is not None:
                break
    except BadResponse:
        return
    ended = found is None
    found = found or reader.eof()
    if found is None or found.is_too_large:
        return
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="PUT", target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(strictly_written(given_to_it))
    if ended:
        connection.receive_data(b"")
    while isinstance(head := connection.next_event(), h11.InformationalResponse):
        pass
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert isinstance(head, h11.Response)
    assert (head.status_code, body) == (found.status, found.body)
    if found.keep_alive:
        # h11 keeps no connection of HTTP/1.0.
        assert connection.their_state is (h11.DONE if head.http_version == b"1.1" else h11.MUST_CLOSE)
        assert connection.trailing_data == (b"", False)
