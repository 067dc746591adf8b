"""Strategies of bytes that a client or a backend may send: valid, cut or mutated."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import pairwise
from struct import pack
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.support.frames import BINARY, CLOSE, PING, PONG, TEXT, frame


def examples(number: int) -> settings:
    """Return settings with `number` examples, and time for a busy machine."""
    return settings(
        max_examples=number,
        deadline=timedelta(seconds=30),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def cut(data: bytes, places: Sequence[int]) -> Iterator[bytes]:
    """Cut `data` at each of `places`, taken modulo its length."""
    edges = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    for start, end in pairwise(edges):
        yield data[start:end]


places = st.one_of(
    st.lists(st.integers(0, 10_000), max_size=8),
    st.just(range(600)),
)
"""Places for `cut`: a few, or every byte."""


# WebSocket frames


def xor(payload: bytes, mask: bytes) -> bytes:
    """Mask as section 5.3 of RFC 6455 writes it."""
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


masks = st.binary(min_size=4, max_size=4)
sizes = st.one_of(st.integers(0, 20), st.sampled_from([124, 125, 126, 127, 300, 65535, 65536]))
codes = st.one_of(
    st.sampled_from([999, 1000, 1001, 1003, 1004, 1005, 1006, 1007, 1011, 1012, 1014, 1015, 2999, 3000, 4999, 5000]),
    st.integers(0, 65535),
)
spoilt_text = st.sampled_from(
    [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"ab\xe2\x82", b"\xe2\x82ab", b"\xf0\x9f\x98"]
)


@st.composite
def payloads(draw: st.DrawFn, opcode: int) -> bytes:
    """Draw a payload for a data frame of `opcode`. That of a text is sometimes invalid."""
    size = draw(sizes)
    if size > 20:
        return (draw(st.sampled_from([b"x", "é".encode(), "🙂".encode()])) * size)[:size]
    if opcode == BINARY:
        return draw(st.binary(max_size=20))
    text = draw(st.text(max_size=20)).encode()
    return text + draw(spoilt_text) if draw(st.integers(0, 9)) == 9 else text


@st.composite
def control_frames(draw: st.DrawFn) -> bytes:
    """Draw a ping or a pong."""
    return frame(draw(st.sampled_from([PING, PONG])), draw(st.binary(max_size=125)), draw(masks))


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Draw a message in one frame, or in fragments with control frames between them."""
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    payload = draw(payloads(opcode))
    if draw(st.booleans()):
        return frame(opcode, payload, draw(masks))
    pieces = list(cut(payload, draw(st.lists(st.integers(0, 70_000), max_size=4)))) or [b""]
    pieces[1:1] = [b""] * draw(st.integers(0, 2))
    stream = b""
    for index, piece in enumerate(pieces):
        last = index == len(pieces) - 1
        stream += frame(opcode if index == 0 else 0, piece, draw(masks), fin=last)
        if not last and draw(st.integers(0, 3)) == 0:
            stream += draw(control_frames())
    return stream


@st.composite
def close_frames(draw: st.DrawFn) -> bytes:
    """Draw a Close with any code, without a code, or with half a code."""
    reason = draw(st.one_of(st.text(max_size=30).map(str.encode), spoilt_text))
    payload = draw(st.sampled_from([b"", b"\x03", pack("!H", draw(codes)) + reason]))
    return frame(CLOSE, payload, draw(masks))


@st.composite
def odd_frames(draw: st.DrawFn) -> bytes:
    """Draw a frame with any flags, opcode, length and mask."""
    first = draw(st.integers(0, 255))
    masked = draw(st.sampled_from([0x80, 0x80, 0]))
    payload = draw(st.binary(max_size=20))
    size = draw(st.one_of(st.just(len(payload)), st.integers(0, 2**64 - 1), st.integers(0, 70_000)))
    form = draw(st.integers(0, 2))
    if form == 0:
        length = bytes([masked | min(size, 125)])
    elif form == 1:
        length = bytes([masked | 126]) + pack("!H", min(size, 65535))
    else:
        length = bytes([masked | 127]) + pack("!Q", size)
    return bytes([first]) + length + (draw(masks) if masked else b"") + payload


@st.composite
def spoilt(draw: st.DrawFn, streams: st.SearchStrategy[bytes]) -> bytes:
    """Draw a stream, in which a few bytes may be changed, removed or inserted."""
    stream = bytearray(draw(streams))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2, 5]))):
        place = draw(st.integers(0, len(stream)))
        stream[place : place + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(stream)


_good = st.one_of(messages(), messages(), control_frames())
_any = st.one_of(_good, _good, _good, close_frames(), odd_frames())
good_streams = st.lists(_good, max_size=6).map(b"".join)
mixed_streams = st.lists(_any, max_size=8).map(b"".join)
frame_streams = st.one_of(
    good_streams, mixed_streams, mixed_streams, spoilt(good_streams), spoilt(mixed_streams), st.binary(max_size=200)
)


# HTTP

TOKEN = "!#$%&'*+.^_`|~0123456789abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_KNOWN = {"host", "connection", "content-length", "transfer-encoding", "upgrade", "expect", "keep-alive"}
header_names = st.text(TOKEN, min_size=1, max_size=12).filter(
    lambda name: name.lower() not in _KNOWN and not name.lower().startswith("proxy-")
)
header_values = st.binary(max_size=30).map(lambda value: bytes(b for b in value if b > 0x20 and b != 0x7F))
extra_headers = st.lists(st.tuples(header_names.map(str.encode), header_values), max_size=4)
targets = st.text("!$&'()*+,-./0123456789:;=?@ABCXYZ_abcxyz~%", max_size=30).map(lambda text: f"/{text}".encode())
bodies = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"GET / HTTP/1.1\r\n\r\n", b"0\r\n\r\n", b"x" * 40_000]),
)


def chunked(body: bytes, places: Sequence[int], trailer: bytes = b"") -> bytes:
    """Encode `body` in chunks that end at `places` (RFC 9112 section 7.1)."""
    chunks = b"".join(b"%x;e=1\r\n%b\r\n" % (len(piece), piece) for piece in cut(body, places))
    return chunks + b"0\r\n" + trailer + b"\r\n"


def joined(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return headers as they are parsed: names in lower case, values of repeated names joined."""
    values: dict[bytes, bytes] = {}
    for name, value in ((name.lower(), value) for name, value in headers):
        before = values.get(name)
        values[name] = before + (b"; " if name == b"cookie" else b", ") + value if before and value else before or value
    return values


def head(start: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return a start line and headers."""
    return b"".join([start, b"\r\n", *(name + b": " + value + b"\r\n" for name, value in headers), b"\r\n"])


@st.composite
def framed_bodies(draw: st.DrawFn) -> tuple[list[tuple[bytes, bytes]], bytes, bytes]:
    """Draw a body: its headers, its content and its encoded bytes."""
    body = draw(bodies)
    if draw(st.booleans()):
        return [(b"Content-Length", b"%d" % len(body))], body, body
    trailer = draw(st.sampled_from([b"", b"Host: trailer\r\nX-Sum: 1\r\n"]))
    return [(b"Transfer-Encoding", b"chunked")], body, chunked(body, draw(places), trailer)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, tuple[Any, ...]]:
    """Draw a request that is kept alive: its bytes, and its method, target, body and odd headers."""
    method = draw(st.sampled_from([b"GET", b"PUT", b"POST", b"DELETE", b"HEAD", b"PATCH", b"OPTIONS"]))
    target = draw(targets)
    extra = draw(extra_headers)
    headers = [(b"Host", b"x"), *extra]
    body, sent = b"", b""
    if draw(st.booleans()):
        more, body, sent = draw(framed_bodies())
        headers += more
        if draw(st.integers(0, 3)) == 0:
            headers.append((b"Expect", b"100-Continue"))
    if draw(st.integers(0, 3)) == 0:
        # Sent by Java's client with each first request.
        headers += [
            (b"Connection", b"Upgrade, HTTP2-Settings"),
            (b"Upgrade", b"h2c"),
            (b"HTTP2-Settings", b"AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA"),
        ]
    headers = draw(st.permutations(headers))
    expected = joined([(name, value) for name, value in headers if name != b"Upgrade"])
    return head(method + b" " + target + b" HTTP/1.1", headers) + sent, (method, target, expected, body)


@st.composite
def responses(draw: st.DrawFn) -> tuple[bytes, tuple[Any, ...]]:
    """Draw a delimited response: its bytes, and its status, headers, body and whether it is kept alive."""
    status = draw(st.sampled_from([200, 201, 204, 304, 400, 410, 500, 503]))
    extra = draw(extra_headers)
    headers = [*extra]
    body, sent = b"", b""
    if status not in {204, 304}:
        more, body, sent = draw(framed_bodies())
        headers += more
    keep_alive = draw(st.booleans())
    if not keep_alive:
        headers.append((b"Connection", b"close"))
    elif draw(st.booleans()):
        # As Apache offers it with each response.
        headers += [(b"Upgrade", b"h2,h2c"), (b"Connection", b"Upgrade")]
    interim = draw(
        st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"])
    )
    expected = joined(headers)
    return interim + head(b"HTTP/1.1 %d Any Phrase" % status, headers) + sent, (status, expected, body, keep_alive)


starts = st.sampled_from(
    [
        b"GET / HTTP/1.1", b"PUT /x?y HTTP/1.1", b"POST * HTTP/1.0", b"GET / HTTP/2.0", b"GET /",
        b"CONNECT x:1 HTTP/1.1", b"get / HTTP/1.1", b"GET  / HTTP/1.1", b"", b"HTTP/1.1 200 OK", b"HTTP/1.1 204 ",
        b"HTTP/1.0 500 No", b"HTTP/1.1 101 Go", b"HTTP/1.1 100 Continue", b"HTTP/1.1 304", b"HTTP/1.1 99 X",
    ]
)  # fmt: skip
usual_lines = st.sampled_from(
    [
        b"Connection: Upgrade", b"Connection: keep-alive", b"Upgrade: h2c", b"Content-Length: 3", b"Content-Length: 0",
        b"Transfer-Encoding: chunked", b"Expect: 100-continue", b"X: \xe9", b"X:\ty",
    ]
)  # fmt: skip
odd_lines = st.sampled_from(
    [
        b"Connection: close", b"Connection: close, Upgrade", b"Upgrade: websocket", b"Content-Length: 1001",
        b"Content-Length: -1", b"Transfer-Encoding: gzip", b"Expect: tea", b"Host: y", b" folded", b"X", b": x",
        b"X y: z", b"X : y", b"Content-Length : 3", b"Content-Length: 3, 3", b"Transfer-Encoding: identity", b"X: y\n",
        b"Transfer-Encoding :\r\n chunked", b"X: \x0b",
    ]
)  # fmt: skip


@st.composite
def soup(draw: st.DrawFn, first: st.SearchStrategy[bytes] = starts) -> bytes:
    """Draw a head and a body that are often, but not always, valid HTTP."""
    headers = [b"Host: x", *draw(st.lists(usual_lines, max_size=3, unique=True))]
    if draw(st.integers(0, 4)) == 0:
        headers.append(draw(odd_lines))
    if b"Transfer-Encoding: chunked" in headers:
        body = b"3;e\r\nabc\r\n0\r\nX: y\r\n\r\n"
    else:
        body = b"abc" if b"Content-Length: 3" in headers else b""
    return b"\r\n".join([draw(first), *headers, b"", body])


_requests = soup(st.sampled_from([b"GET / HTTP/1.1", b"PUT / HTTP/1.1", b"POST / HTTP/1.0"]))
_responses = soup(st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 204 No"]))
_requests_and_more = st.lists(st.one_of(_requests, _requests, _requests, soup()), max_size=4).map(b"".join)
_responses_and_more = st.lists(st.one_of(_responses, _responses, soup()), max_size=3).map(b"".join)
requests_or_not = st.one_of(_requests_and_more, spoilt(_requests_and_more), st.binary(max_size=20))
responses_or_not = st.one_of(_responses_and_more, spoilt(_responses_and_more), st.binary(max_size=20))
