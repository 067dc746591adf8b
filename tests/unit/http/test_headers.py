import httptools
import pytest

from wsaas.errors import LimitExceeded, Malformed, UnknownCoding
from wsaas.http import headers as heads
from wsaas.http.body import Body, Chunked, Sized
from wsaas.http.headers import MAX_HEAD, MAX_HEADERS

PARSERS = [(httptools.HttpRequestParser, b"GET / HTTP/1.1"), (httptools.HttpResponseParser, b"HTTP/1.1 200 OK")]


def read(*lines: bytes, version: str = "1.1") -> heads.Head:
    return heads.read(httptools.HttpRequestParser, version, b"\r\n".join([b"GET / HTTP/1.1", *lines, b"", b""]))


@pytest.mark.parametrize(
    ("data", "start", "end"),
    [
        (b"", 0, 0),
        (b"GET / HTTP/1.1\r\n\r", 0, 0),
        (b"GET / HTTP/1.1\r\n\r\n", 0, 18),
        (b"GET / HTTP/1.1\r\n\r\nX: y\r\n\r\n", 0, 18),
        (b"GET / HTTP/1.1\r\n\r\nX: y\r\n\r\n", 18, 26),
        (b"\r\n\r\n", 0, 4),
        (b"\r\n\r\n", 1, 0),
    ],
)
def test_a_head_ends_with_an_empty_line(data, start, end):
    assert heads.find_end(data, start) == end


def test_a_head_may_have_thirty_two_kibibytes():
    most = b"x" * (MAX_HEAD - 4) + b"\r\n\r\n"
    assert heads.find_end(most, 0) == MAX_HEAD
    assert heads.find_end(b"...." + most, 4) == MAX_HEAD + 4
    assert heads.find_end(most[:-1], 0) == 0
    for data in (b"x" + most, b"x" * (MAX_HEAD + 1)):
        with pytest.raises(LimitExceeded, match="32768 bytes"):
            heads.find_end(data, 0)


@pytest.mark.parametrize("data", [b"X: y\n", b"X: y\r\nZ:\n", b"\n\n"])
def test_a_head_whose_lines_end_without_cr_is_refused_at_once(data):
    with pytest.raises(Malformed, match="without CR"):
        heads.check_part(b"\n" + data, 1)


@pytest.mark.parametrize("data", [b"", b"X: y", b"X: y\r", b"X: y\r\n", b"X: y\r\nZ"])
def test_a_head_may_be_cut_anywhere(data):
    heads.check_part(b"\n" + data, 1)


@pytest.mark.parametrize(("parser", "start"), PARSERS)
def test_headers_are_read(parser, start):
    head = heads.read(parser, "1.1", start + b"\r\nHost: x\r\nX-Y:\r\nA:\tb c \t\r\nE: \xe9\r\n\r\n")
    assert dict(head.headers) == {b"host": b"x", b"x-y": b"", b"a": b"b c", b"e": b"\xe9"}
    assert head.repeated == frozenset()


@pytest.mark.parametrize(("parser", "start"), PARSERS)
def test_a_head_without_headers_is_read(parser, start):
    head = heads.read(parser, "1.1", start + b"\r\n\r\n")
    assert (head.headers, head.size, head.keep_alive, head.upgrade) == ({}, None, True, False)


def test_repeated_headers_are_joined_and_named():
    head = read(b"A: 1", b"B: 2", b"a: 3", b"Cookie: a=b", b"C:", b"cookie: c=d", b"A:", b"D:", b"D: ")
    assert head.headers == {b"a": b"1, 3", b"b": b"2", b"cookie": b"a=b; c=d", b"c": b"", b"d": b""}
    assert head.repeated == {b"a", b"cookie", b"d"}


def test_a_head_may_have_a_hundred_headers():
    lines = [b"X: %d" % number for number in range(MAX_HEADERS)]
    assert read(*lines).headers[b"x"].count(b",") == MAX_HEADERS - 1
    with pytest.raises(LimitExceeded, match="100 headers"):
        read(*lines, b"Y: 1")


@pytest.mark.parametrize(("parser", "start"), PARSERS)
@pytest.mark.parametrize(
    "line",
    [
        b"X", b": y", b"X : y", b"X\t: y", b" X: y", b"X y: z", b"X: a\r\n b", b"X:\r\n b", b"X: a\nY: b",
        b"X: a\rY: b", b"X: a\r", b"\rX: a", b"X: \x00", b"X: a\x00b", b"X: \x01", b"X: \x0b", b"X: \x0c", b"X: \x1f",
        b"X: \x7f", b"X\x00: y", b"X(: y", b"X/: y", b"X\xe9: y", b'X": y', b"X[]: y", b"X: y\n",
    ],
)  # fmt: skip
def test_a_line_that_is_no_header_is_malformed(parser, start, line):
    with pytest.raises(Malformed, match=r"\w"):
        heads.read(parser, "1.1", start + b"\r\nA: b\r\n" + line + b"\r\n\r\n")


def test_a_head_whose_end_llhttp_does_not_see_is_malformed():
    class Blind:
        def __init__(self, callbacks):
            assert callable(callbacks.on_headers_complete)

        def feed_data(self, _head):
            """See nothing."""

    with pytest.raises(Malformed, match="is incomplete"):
        heads.read(Blind, "1.1", b"GET / HTTP/1.1\r\n\r\n")


def test_an_offer_of_another_protocol_is_only_a_header():
    assert read(b"Connection: Upgrade", b"Upgrade: x", b"Content-Length: 3").size == 3


@pytest.mark.parametrize(("parser", "start"), PARSERS)
@pytest.mark.parametrize(
    ("lines", "size", "kind"),
    [
        ([], None, Body),
        ([b"Content-Length: 0"], 0, Sized),
        ([b"Content-Length:  3 "], 3, Sized),
        ([b"Content-Length: 0000000000000000003"], 3, Sized),
        ([b"Content-Length: 9223372036854775808"], 2**63, Sized),
        ([b"Content-Length: 9999999999999999999"], 10**19 - 1, Sized),
        ([b"Transfer-Encoding: chunked"], -1, Chunked),
        ([b"transfer-encoding:CHUNKED "], -1, Chunked),
        ([b"Content_Length: 3", b"X-Transfer-Encoding: gzip"], None, Body),
    ],
)
def test_headers_say_how_long_the_body_is(parser, start, lines, size, kind):
    head = heads.read(parser, "1.1", b"\r\n".join([start, *lines, b"", b""]))
    assert head.size == size
    assert type(head.body(10)) is kind


@pytest.mark.parametrize(("parser", "start"), PARSERS)
@pytest.mark.parametrize(
    "value",
    [
        b"", b" ", b"+3", b"-3", b"-0", b"0x3", b"3,3", b"3, 3", b"3, 5", b"3 3", b"3;", b"3.0", b"3e0", b"1_0",
        b"\x0b3", b"3\x0b", b"3\x0c", b"\xb3", b"\xef\xbc\x93", b"00000000000000000003", b"18446744073709551615",
        b"18446744073709551616", b"9" * 40,
    ],
)  # fmt: skip
def test_a_length_is_one_number_of_digits(parser, start, value):
    with pytest.raises(Malformed, match=r"\w"):
        heads.read(parser, "1.1", start + b"\r\nContent-Length:" + value + b"\r\n\r\n")


@pytest.mark.parametrize(("parser", "start"), PARSERS)
@pytest.mark.parametrize(
    "lines",
    [
        (b"Content-Length: 3", b"Content-Length: 3"),
        (b"Content-Length: 3", b"content-length: 5"),
        (b"Content-Length: 3", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Content-Length: 3"),
        (b"Transfer-Encoding: gzip, chunked", b"Content-Length: 3"),
        (b"Transfer-Encoding: identity", b"Content-Length: 3"),
        (b"Transfer-Encoding:", b"Content-Length: 3"),
        (b"Content-Length: 3", b"Transfer-Encoding: ,"),
        (b"Connection: Upgrade", b"Upgrade: x", b"Content-Length: 3", b"Transfer-Encoding: x"),
    ],
)
def test_two_lengths_are_refused(parser, start, lines):
    with pytest.raises(Malformed, match=r"\w"):
        heads.read(parser, "1.1", b"\r\n".join([start, *lines, b"", b""]))


@pytest.mark.parametrize(("parser", "start"), PARSERS)
@pytest.mark.parametrize(
    "lines",
    [
        (b"Transfer-Encoding: gzip, chunked",),
        (b"Transfer-Encoding: gzip,chunked",),
        (b"Transfer-Encoding: identity, Chunked",),
        (b"Transfer-Encoding: ,chunked",),
    ],
)
def test_a_transfer_coding_beside_chunked_is_unsupported(parser, start, lines):
    with pytest.raises(UnknownCoding, match="only the transfer coding chunked"):
        heads.read(parser, "1.1", b"\r\n".join([start, *lines, b"", b""]))


@pytest.mark.parametrize(("parser", "start"), PARSERS)
@pytest.mark.parametrize(
    "lines",
    [
        (b"Transfer-Encoding: gzip",),
        (b"Transfer-Encoding: identity",),
        (b"Transfer-Encoding: xchunked",),
        (b"Transfer-Encoding: chunkedx",),
        (b"Transfer-Encoding: chunked;q=1",),
        (b"Transfer-Encoding: chunked x",),
        (b"Transfer-Encoding: chun ked",),
        (b'Transfer-Encoding: "chunked"',),
        (b"Transfer-Encoding: chunked\x0b",),
        (b"Transfer-Encoding: \x0bchunked",),
        (b"Transfer-Encoding: chunked\x00",),
        (b"Transfer-Encoding:\r\n chunked",),
        (b"Transfer-Encoding : chunked",),
        (b"Transfer-Encoding:",),
        (b"Transfer-Encoding: chunked, gzip",),
        (b"Transfer-Encoding: chunked, identity",),
        (b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip"),
        (b"Transfer-Encoding:", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding:"),
    ],
)
def test_chunked_must_be_the_last_transfer_coding(parser, start, lines):
    with pytest.raises(Malformed, match=r"\w") as raised:
        heads.read(parser, "1.1", b"\r\n".join([start, *lines, b"", b""]))
    assert raised.type is Malformed


@pytest.mark.parametrize("offer", [(), (b"Connection: Upgrade", b"Upgrade: h2c")])
@pytest.mark.parametrize("lines", [(b"Transfer-Encoding: chunked, chunked",), (b"Transfer-Encoding: chunked",) * 2])
def test_chunks_within_chunks_are_refused(lines, offer):
    for parser, start in PARSERS:
        with pytest.raises(Malformed, match=r"\w"):
            heads.read(parser, "1.1", b"\r\n".join([start, *offer, *lines, b"", b""]))


def test_a_coding_that_llhttp_accepts_is_checked_again():
    with pytest.raises(Malformed, match="chunked must be the last transfer coding"):
        read(b"Connection: Upgrade", b"Upgrade: h2c", b"Transfer-Encoding: gzip")


def test_http_1_0_has_no_transfer_codings():
    with pytest.raises(Malformed, match="no Transfer-Encoding"):
        read(b"Transfer-Encoding: chunked", version="1.0")
    assert read(b"Content-Length: 3", version="1.0").size == 3


@pytest.mark.parametrize(
    ("lines", "kept", "kept_by_1_0"),
    [
        ([], True, False),
        ([b"Connection: keep-alive"], True, True),
        ([b"Connection: Keep-Alive , x"], True, True),
        ([b"Connection: close"], False, False),
        ([b"Connection: CLOSE"], False, False),
        ([b"Connection: keep-alive, close"], False, False),
        ([b"Connection: close, keep-alive"], False, False),
        ([b"Connection: keep-alive", b"Connection: close"], False, False),
        ([b"Connection: closed"], True, False),
        ([b'Connection: "close"'], True, False),
        ([b"Connection:"], True, False),
        ([b"Proxy-Connection: close"], True, False),
    ],
)
def test_a_connection_is_kept_alive_unless_a_header_says_otherwise(lines, kept, kept_by_1_0):
    assert read(*lines).keep_alive is kept
    assert read(*lines, version="1.0").keep_alive is kept_by_1_0


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"", []), (b"a", [b"a"]), (b" a ,, b\t,c d,", [b"a", b"b", b"c d"]), (b",", []), (b"A", [b"A"])],
)
def test_a_list_header_is_split_at_commas(value, expected):
    assert heads.members({b"x": value}, b"x") == expected
    assert heads.members({b"x": value}, b"y") == []


NOTHING: frozenset[bytes] = frozenset()


@pytest.mark.parametrize(
    ("headers", "repeated"),
    [
        ({b"content-length": b"3", b"transfer-encoding": b"chunked"}, NOTHING),
        ({b"content-length": b"3, 3"}, {b"content-length"}),
        ({b"content-length": b"3"}, {b"content-length"}),
        ({b"transfer-encoding": b"chunked"}, {b"transfer-encoding"}),
        ({b"content-length": b""}, NOTHING),
        ({b"content-length": b"+3"}, NOTHING),
        ({b"content-length": b"3_0"}, NOTHING),
        ({b"content-length": "٣".encode()}, NOTHING),
        ({b"content-length": b"9" * 20}, NOTHING),
        ({b"transfer-encoding": b""}, NOTHING),
        ({b"transfer-encoding": b"chunked, chunked"}, NOTHING),
    ],
)
def test_a_length_that_llhttp_accepts_is_checked_again(headers, repeated):
    with pytest.raises(Malformed, match=r"not a valid number|is repeated|chunked|both"):
        heads.Head("1.1", headers, frozenset(repeated))
