import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes import read_all
from tests.support.strategies import examples
from wsaas.http.request import Phase, Request, RequestParser
from wsaas.http.usual_handshake import MAX_LINE, MAX_LINES, MAX_NEW, PER_CLIENT, FieldCache, parse_field

LIMIT = 1000
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
NODE = (b"Sec-WebSocket-Version: 13", KEY, b"Connection: Upgrade", b"Upgrade: websocket", b"Host: localhost:8080")
BROWSER = (
    b"Host: localhost:8080",
    b"Connection: Upgrade",
    b"Pragma: no-cache",
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36",
    b"Upgrade: websocket",
    b"Origin: http://localhost:8080",
    b"Sec-WebSocket-Version: 13",
    b"Accept-Language: en-US,en;q=0.9",
    b"Cookie: session=3f2a9c1d7e5b4a60; theme=dark",
    KEY,
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
)
PROXIED = (
    *BROWSER,
    b"X-Forwarded-For: 203.0.113.9",
    b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)


def head(*lines: bytes, start: bytes = b"GET /chat?room=1 HTTP/1.1") -> bytes:
    return b"\r\n".join([start, *lines, b"", b""])


def shortcut(data: bytes) -> Request | None:
    return RequestParser(LIMIT).parse_handshake(data)


def described(request: Request):
    """Return everything about a request, with its headers in order."""
    return (
        request.method,
        request.target,
        request.version,
        [*request.headers.items()],
        [*request.text_headers().items()],
        request.body,
        request.keep_alive,
        request.upgrade,
    )


def is_equal_or_left(data: bytes) -> bool:
    """Return whether the shortcut took `data`; if so, check that the parser of all requests reads the same."""
    parser, plain = RequestParser(LIMIT), RequestParser(LIMIT)
    found = parser.parse_handshake(data)
    if found is None:
        assert parser.phase is Phase.IDLE
        assert parser.is_idle
        return False
    (item,) = read_all(plain, data)
    assert isinstance(item, Request)
    assert described(found) == described(item)
    assert (parser.phase, parser.trailing_data) == (plain.phase, plain.trailing_data) == (Phase.CLOSED, b"")
    return True


names = st.one_of(
    st.sampled_from([line.partition(b":")[0] for line in PROXIED]),
    st.sampled_from(
        [b"Content-Length", b"Transfer-Encoding", b"Expect", b"Proxy-Connection", b"Keep-Alive", b"X-Any", b"", b"a b"]
    ),
    st.binary(max_size=6),
).flatmap(lambda name: st.sampled_from([name, name.lower(), name.upper(), name + b" ", b" " + name]))
values = st.one_of(
    st.sampled_from([line.partition(b": ")[2] for line in PROXIED]),
    st.sampled_from([b"", b"0", b"5", b"chunked", b"close", b"keep-alive, Upgrade", b"100-continue", b"h2c", b"a, b"]),
    st.binary(max_size=12),
)
separators = st.sampled_from([b": ", b":", b":\t", b" : ", b"", b":  ", b":\r\n "])
ends = st.sampled_from([b"", b" ", b"\t ", b"\r", b"\n", b"\x00"])
odd_lines = st.builds(lambda *parts: b"".join(parts), names, separators, values, ends)
starts = st.sampled_from(
    [
        b"GET /chat?room=1 HTTP/1.1",
        b"GET /chat HTTP/1.0",
        b"GET  / HTTP/1.1",
        b"PUT / HTTP/1.1",
        b"GET http://x/ HTTP/1.1",
    ]
)


# The plain twin: the parser of all requests


@examples(600)
@given(
    st.sampled_from([NODE, BROWSER, PROXIED]).flatmap(st.permutations),
    st.lists(st.tuples(st.integers(0, 20), odd_lines), max_size=2),
    st.lists(st.integers(0, 20), max_size=2),
    st.one_of(st.just(b"GET /chat?room=1 HTTP/1.1"), starts),
    st.sampled_from([b"", b"", b"\x81", b"GET / HTTP/1.1\r\n\r\n"]),
)
def test_a_handshake_is_read_as_by_the_parser_or_left_to_it(lines, added, dropped, start, behind):
    lines = list(lines)
    for place in dropped:
        del lines[place : place + 1]
    for place, line in added:
        lines.insert(place, line)
    is_equal_or_left(head(*lines, start=start) + behind)


@examples(600)
@given(
    st.sampled_from([NODE, BROWSER, PROXIED]),
    st.lists(st.tuples(st.integers(0, 700), st.binary(max_size=3)), max_size=3),
)
def test_a_damaged_handshake_is_read_as_by_the_parser_or_left_to_it(lines, damage):
    data = bytearray(head(*lines))
    for place, put in damage:
        data[place : place + len(put)] = put
    is_equal_or_left(bytes(data))


@pytest.mark.parametrize(
    "template", [b"X%cName: value", b"%cX: value", b"X%c: v", b"X:%cv", b"X: v%cv", b"X: v%c", b"Host: %c"]
)
def test_each_byte_of_a_header_is_judged_as_by_the_parser(template):
    lines = NODE if template.startswith((b"X", b"%")) else NODE[:-1]
    taken = [byte for byte in range(256) if is_equal_or_left(head(*lines, template.replace(b"%c", bytes([byte]))))]
    parsed = []
    for byte in range(256):
        (item, *_) = read_all(RequestParser(LIMIT), head(*lines, template.replace(b"%c", bytes([byte])))) or [None]
        if isinstance(item, Request):
            parsed.append(byte)
    # Nothing usual is missing: only odd bytes are left to the parser.
    assert set(taken) <= set(parsed)
    assert set(taken) >= set(parsed) & set(b"abcXYZ019-_.")


# What is usual


@pytest.mark.parametrize("lines", [NODE, BROWSER, PROXIED], ids=["node", "browser", "proxied"])
def test_the_handshakes_of_common_clients_are_usual(lines):
    assert is_equal_or_left(head(*lines))
    assert is_equal_or_left(head(*lines, start=b"GET / HTTP/1.1"))
    assert is_equal_or_left(head(*(line.replace(b": ", b":") for line in lines)))
    assert is_equal_or_left(head(*lines).replace(b"Connection: Upgrade", b"connection: keep-alive, UPGRADE"))


@pytest.mark.parametrize(
    "data",
    [
        head(*NODE, start=b"PUT / HTTP/1.1"),
        head(*NODE, start=b"GET / HTTP/1.0"),
        head(*NODE, start=b"GET http://x/ HTTP/1.1"),
        head(*NODE) + b"\x81",
        head(*NODE)[:-1],
        head(*NODE)[:-2],
        b"\r\n" + head(*NODE),
        head(*NODE[:-1]),
        head(*NODE[:2], *NODE[3:]),
        head(*NODE[:3], *NODE[4:]),
        head(*NODE, KEY),
        head(*NODE, KEY.upper()),
        head(*NODE, b"Content-Length: 0"),
        head(*NODE, b"Transfer-Encoding: chunked"),
        head(*NODE, b"Expect: 100-continue"),
        head(*NODE[:-1], b"Host: a b"),
        head(*NODE, b"X: a\r\n folded"),
        head(*NODE, b"X : a"),
        head(*NODE, *(b"X-%d: a" % number for number in range(96))),
        head(*NODE, *(b"X-%d: %b" % (number, b"a" * 1000) for number in range(40))),
        head(*NODE).replace(b": websocket", b": h2c"),
        head(*NODE).replace(b": Upgrade", b": close, Upgrade"),
    ],
)
def test_any_other_request_is_left_to_the_parser(data):
    assert shortcut(data) is None


def test_a_handshake_is_only_looked_for_when_nothing_is_buffered():
    parser = RequestParser(LIMIT)
    parser.receive(b"GET / HT")
    assert parser.next() is None
    assert parser.parse_handshake(head(*NODE)) is None
    parser.close()
    assert parser.parse_handshake(head(*NODE)) is None


# The cache


def test_a_line_is_parsed_once_unless_it_differs_from_client_to_client():
    cache = FieldCache()
    cache.read(PROXIED)
    assert cache.read(PROXIED) == [parse_field(line) for line in PROXIED]
    assert len(cache) == sum(line.partition(b":")[0].lower() not in PER_CLIENT for line in PROXIED)
    before = len(cache)
    assert cache.read(PROXIED) == [parse_field(line) for line in PROXIED]
    assert len(cache) == before


def test_a_head_of_many_unknown_lines_is_left_to_the_parser_until_they_are_known():
    cache = FieldCache()
    lines = [b"X-%d: a" % number for number in range(MAX_NEW + 1)]
    assert cache.read(lines) is None
    assert cache.read(lines) == [parse_field(line) for line in lines]


def test_neither_a_long_line_nor_an_unusual_one_is_cached():
    cache = FieldCache()
    assert cache.read([b"X: " + b"a" * MAX_LINE]) is not None
    assert cache.read([b"X : a"]) is None
    assert not len(cache)


def test_the_cache_is_bounded():
    cache = FieldCache()
    for number in range(3 * MAX_LINES):
        assert cache.read([b"X-%d: a" % number, b"Host: x"]) == [
            parse_field(b"X-%d: a" % number),
            parse_field(b"Host: x"),
        ]
        assert len(cache) <= MAX_LINES
