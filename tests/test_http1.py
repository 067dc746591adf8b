import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import chunked, cut, examples, places, requests, requests_or_not

from wsaas import errors
from wsaas.http1 import (
    CONTINUE,
    Body,
    Phase,
    Request,
    RequestReader,
    too_large,
)

LIMIT = 100_000
MAX_TARGET, MAX_HEADERS, MAX_HEAD = 8192, 100, 32_768
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def feed_all(reader, pieces):
    return [item for piece in pieces for item in reader.feed(piece) or ()]


def read(*pieces: bytes, limit: int = LIMIT):
    return feed_all(RequestReader(limit), pieces)


def told(items):
    """Return what matters of the items that a reader gave: `CONTINUE` depends on how the bytes were cut."""
    return [
        (item.method, item.target, item.headers, item.body) if isinstance(item, Request) else type(item)
        for item in items
        if item is not CONTINUE
    ]


def fault(*pieces: bytes, limit: int = LIMIT) -> errors.Fault:
    """Return the one fault that all of `pieces` give."""
    (item,) = read(*pieces, limit=limit)
    assert isinstance(item, errors.Fault)
    return item


def request(*lines: bytes, start: bytes = b"PUT / HTTP/1.1", body: bytes = b"") -> bytes:
    return b"\r\n".join([start, b"Host: x", *lines, b"", body])


# Requests


@examples(300)
@given(st.lists(requests(), max_size=5), places)
def test_pipelined_requests_are_the_same_however_they_are_cut(pipelined, places):
    data = b"".join(sent for sent, _ in pipelined)
    reader = RequestReader(LIMIT)
    items = [item for item in feed_all(reader, cut(data, places)) if item is not CONTINUE]
    assert [(item.method, item.target, item.headers, item.body) for item in items] == [each for _, each in pipelined]
    assert all(item.keep_alive and not item.upgrade for item in items)
    assert reader.phase is Phase.IDLE


@examples(400)
@given(requests_or_not, places)
def test_garbage_ends_in_a_fault_or_waits_however_it_is_cut(data, places):
    reader, whole = RequestReader(1000), RequestReader(1000)
    items, at_once = feed_all(reader, cut(data, places)), whole.feed(data)
    assert told(items) == told(at_once)
    assert (reader.phase is Phase.DEAD) is (whole.phase is Phase.DEAD)
    for place, item in enumerate(items):
        if isinstance(item, errors.Fault):
            assert 400 <= item.status <= 599
            assert place == len(items) - 1
            assert reader.phase is Phase.DEAD
            assert reader.feed(GET) == []


@examples(100)
@given(requests(), st.binary(max_size=50), places)
def test_a_websocket_request_ends_http_and_leaves_what_is_behind_it(before, behind, places):
    upgrade = request(b"Connection: keep-alive, Upgrade", b"Upgrade: WebSocket", start=b"GET /ws?q HTTP/1.1")
    reader, items, after = RequestReader(LIMIT), [], b""
    for piece in cut(before[0] + upgrade + behind, places):
        if reader.phase is Phase.DEAD:
            after += piece
        else:
            items += [item for item in reader.feed(piece) if item is not CONTINUE]
    first, last = items
    assert (first.method, first.target, first.headers, first.body) == before[1]
    assert (last.method, last.target, last.upgrade, last.version) == (b"GET", b"/ws?q", True, "1.1")
    assert (b"upgrade", b"WebSocket") in last.headers
    assert reader.rest + after == behind
    assert reader.feed(GET) == []


def test_a_request_waits_until_it_is_whole():
    reader = RequestReader(LIMIT)
    assert reader.phase is Phase.IDLE
    assert reader.feed(b"PUT / HT") == []
    assert reader.phase is Phase.HEAD
    assert reader.feed(b"TP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na") == []
    assert reader.phase is Phase.BODY
    (item,) = reader.feed(b"b")
    assert item.body == b"ab"
    assert reader.phase is Phase.IDLE
    assert reader.feed(b"") == []


def test_headers_can_be_asked_for():
    (item,) = read(request(b"Accept: a, b ,, c", b"accept:\td", b"X: \xe9"))
    assert item.header(b"accept") == b"a, b ,, c"
    assert item.header(b"x") == b"\xe9"
    assert item.header(b"y") is None
    assert item.values(b"accept") == [b"a, b ,, c", b"d"]
    assert item.values(b"y") == []
    assert item.tokens(b"accept") == [b"a", b"b", b"c", b"d"]
    assert item.tokens(b"y") == []
    assert item.size == len(b"/") + sum(len(b"%b: %b\r\n" % header) for header in item.headers)


def test_a_trailer_is_not_a_header():
    body = chunked(b"abc", [1], b"X-Admin: yes\r\nHost: y\r\n")
    (item,) = read(request(b"Transfer-Encoding: chunked", body=body))
    assert item.body == b"abc"
    assert item.header(b"x-admin") is None
    assert item.values(b"host") == [b"x"]


def test_after_connection_close_nothing_more_is_read():
    reader = RequestReader(LIMIT)
    (item,) = reader.feed(request(b"Connection: close", b"Content-Length: 1", body=b"a" + GET))
    assert (item.body, item.keep_alive) == (b"a", False)
    assert reader.phase is Phase.DEAD
    assert reader.feed(GET) == []


@pytest.mark.parametrize(("connection", "kept"), [(b"keep-alive", True), (b"close", False)])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_connection_is_kept_as_the_client_asks(version, connection, kept):
    (item,) = read(request(b"Connection: " + connection, start=b"GET / HTTP/" + version))
    assert item.keep_alive is kept
    assert item.version == version.decode()


def test_http_1_0_closes_when_it_says_nothing_and_needs_no_host():
    (item,) = read(b"GET / HTTP/1.0\r\n\r\n")
    assert (item.keep_alive, item.version) == (False, "1.0")


# Expect


EXPECTING = request(b"Expect: 100-Continue", b"Content-Length: 2")


def test_a_client_that_waits_is_told_to_go_on():
    reader = RequestReader(LIMIT)
    assert reader.feed(EXPECTING) == [CONTINUE]
    (item,) = reader.feed(b"ab")
    assert item.body == b"ab"


def test_a_client_that_does_not_wait_is_told_nothing():
    (item,) = read(EXPECTING + b"ab")
    assert item.body == b"ab"
    assert [type(item) for item in read(EXPECTING + b"ab" + EXPECTING)] == [Request, bytes]


@pytest.mark.parametrize("connection", [b"close", b"keep-alive"])
def test_http_1_0_has_no_interim_answers(connection):
    start = b"PUT / HTTP/1.0"
    head = request(b"Expect: 100-continue", b"Connection: " + connection, b"Content-Length: 1", start=start)
    assert read(head) == []


def test_any_other_expectation_fails():
    assert fault(request(b"Expect: tea", body=GET)).status == 417


# Offers of other protocols


OFFER = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        ([b"Content-Length: 3"], b"abc"),
        ([b"Transfer-Encoding: chunked"], b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"),
    ],
)
def test_an_offer_of_another_protocol_is_ignored_and_the_body_read(headers, sent):
    items = read(request(*OFFER, *headers, body=sent + GET))
    assert [(item.method, item.body, item.upgrade, item.keep_alive) for item in items] == [
        (b"PUT", b"abc", False, True),
        (b"GET", b"", False, True),
    ]
    assert items[0].header(b"upgrade") is None
    assert items[0].header(b"http2-settings") == b"AAMAAABk"


def test_an_offer_may_wait_for_its_body_to_be_asked_for():
    reader = RequestReader(LIMIT)
    assert reader.feed(request(*OFFER, b"Expect: 100-continue", b"Content-Length: 3")) == [CONTINUE]
    (item,) = reader.feed(b"abc")
    assert item.body == b"abc"


def test_an_offer_with_connection_close_is_the_last_request():
    reader = RequestReader(LIMIT)
    (item,) = reader.feed(
        request(b"Connection: Upgrade, close", b"Upgrade: h2c", b"Content-Length: 1", body=b"a" + GET)
    )
    assert (item.body, item.keep_alive) == (b"a", False)
    assert reader.phase is Phase.DEAD


def test_an_offer_does_not_hide_what_is_wrong_with_its_request():
    assert fault(request(*OFFER, b"Transfer-Encoding: gzip")).status == 400
    assert fault(request(*OFFER, b"Expect: tea")).status == 417
    assert fault(request(*OFFER, b"Content-Length: 11"), limit=10).status == 413
    assert fault(request(*OFFER, b"Host: y", body=b"rest")).status == 400


def test_thousands_of_offers_in_one_piece_do_not_recurse():
    items = read(request(*OFFER, start=b"GET / HTTP/1.1") * 3000)
    assert len(items) == 3000
    assert {item.target for item in items} == {b"/"}


def test_upgrade_without_connection_upgrade_is_no_upgrade():
    items = read(request(b"Upgrade: websocket", start=b"GET / HTTP/1.1", body=GET))
    assert [item.upgrade for item in items] == [False, False]


@pytest.mark.parametrize("header", [b"Content-Length: 3", b"Transfer-Encoding: chunked"])
def test_a_websocket_request_has_no_body(header):
    assert fault(request(b"Connection: Upgrade", b"Upgrade: websocket", header, body=b"abc")).status == 400


@pytest.mark.parametrize("lines", [(), (b"Content-Length: 0",)])
def test_a_websocket_request_may_say_so(lines):
    (item,) = read(request(b"Connection: Upgrade", b"Upgrade: h2c, websocket", *lines))
    assert item.upgrade


# Faults


@pytest.mark.parametrize(
    ("status", "data"),
    [
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        (400, b"nonsense\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\n\r\n"),
        (400, request(b"Host: x")),
        (400, request(b"Host: y", start=b"GET / HTTP/1.0")),
        (400, request(b"Bad Name: x")),
        (400, request(b"Name : x")),
        (400, request(b": x")),
        (400, request(b"X: a\r\n folded")),
        (400, request(b"X: \x00")),
        (400, b"GET /\xe9 HTTP/1.1\r\nHost: x\r\n\r\n"),
        (400, b"GET / HTTP/1.1\nHost: x\n\n"),
        (400, b"get / HTTP/1.1\r\nHost: x\r\n\r\n"),
        (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (400, request(start=b"GET / HTTP/3.0")),
        (405, b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n"),
        (505, b"GET /\r\n\r\n"),
        (505, request(start=b"GET / HTTP/0.9")),
        (505, request(start=b"GET / HTTP/2.0")),
        (505, request(b"Connection: keep-alive", start=b"GET / HTTP/2.0")),
    ],
)
def test_what_is_not_a_request_of_http_1_is_refused(status, data):
    refusal = fault(data + GET)
    assert refusal.status == status
    assert refusal.message.endswith(".")


def test_connect_is_told_what_is_allowed():
    assert fault(b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n").headers == (("Allow", "GET"),)


@pytest.mark.parametrize(
    "lines",
    [
        (b"Content-Length: 3", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Content-Length: 3"),
        (b"Content-Length: 3", b"Content-Length: 3"),
        (b"Content-Length: 3", b"Content-Length: 5"),
        (b"Content-Length: 3, 3",),
        (b"Content-Length: +3",),
        (b"Content-Length: -3",),
        (b"Content-Length: 0x3",),
        (b"Content-Length: 1 1",),
        (b"Content-Length: \xb3",),
        (b"Content-Length:",),
        (b"Content-Length: 99999999999999999999999999",),
        (b"Content-Length : 3",),
        (b"Transfer-Encoding: identity",),
        (b"Transfer-Encoding: xchunked",),
        (b"Transfer-Encoding: chunked, gzip",),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding : chunked",),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
    ],
)
def test_a_request_whose_end_can_be_read_in_two_ways_is_refused(lines):
    assert fault(request(*lines, body=b"3\r\nabc\r\n0\r\n\r\n" + GET)).status == 400


@pytest.mark.parametrize(
    "body", [b"g\r\nabc\r\n0\r\n\r\n", b"-3\r\nabc\r\n0\r\n\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"fffffffffffffffff\r\n"]
)
def test_a_chunk_that_lies_about_its_size_is_refused(body):
    assert fault(request(b"Transfer-Encoding: chunked", body=body)).status == 400


def test_requests_before_a_fault_still_come_out():
    items = read(GET + request(b"Content-Length: 1", body=b"a") + b"nonsense\r\n" + GET)
    assert [type(item) for item in items] == [Request, Request, errors.BadRequest]


# Limits


def test_a_target_may_have_eight_kibibytes():
    start = b"GET /%b HTTP/1.1" % (b"a" * (MAX_TARGET - 1))
    (item,) = read(request(start=start))
    assert len(item.target) == MAX_TARGET
    assert fault(request(start=start.replace(b"/a", b"/aa")) + GET).status == 414


def test_a_request_may_have_a_hundred_headers():
    lines = [b"X: %d" % number for number in range(MAX_HEADERS - 1)]
    (item,) = read(request(*lines))
    assert len(item.headers) == MAX_HEADERS
    assert fault(request(*lines, b"Y: 1") + GET).status == 431


def test_a_head_may_have_thirty_two_kibibytes():
    size = MAX_HEAD - len(b"/Host: x\r\nX: \r\n")
    (item,) = read(request(b"X: " + b"x" * size))
    assert item.size == MAX_HEAD
    too_much = request(b"X: " + b"x" * (size + 1))
    assert fault(too_much + GET).status == 431
    assert fault(too_much[:20_000], too_much[20_000:]).status == 431
    assert fault(too_much[:-1], too_much[-1:]).status == 431


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nX: ", b"GET /", b"GET / HTTP/1.1\r\nX"])
def test_a_head_without_an_end_is_refused_before_it_is_large(start):
    reader, fed = RequestReader(LIMIT), len(start)
    items = reader.feed(start)
    while not items:
        items = reader.feed(b"x")
        fed += 1
        assert fed < MAX_HEAD + 100
    assert [item.status for item in items] == [431]
    assert fed > MAX_HEAD


def test_headers_without_an_end_are_refused_before_they_are_many():
    reader, fed = RequestReader(LIMIT), 0
    items = reader.feed(b"GET / HTTP/1.1\r\n")
    while not items:
        items = reader.feed(b"X: y\r\n")
        fed += 6
        assert fed < MAX_HEAD + 100
    assert [item.status for item in items] == [431]


@pytest.mark.parametrize("first", [b"PUT / HTTP/1.1\r\n", request(b"Content-Length: 90000", body=b"a" * 90_000)])
def test_a_large_request_before_it_does_not_count_for_a_head(first):
    rest = b"" if first.endswith(b"a") else request(b"Content-Length: 80000", body=b"a" * 80_000)[16:]
    data = first + rest + GET
    reader = RequestReader(LIMIT)
    items = feed_all(reader, [data[:70_000], data[70_000:-20], data[-20:-10], data[-10:]])
    assert [item.method for item in items] == [b"PUT", b"GET"]


def test_a_large_piece_before_it_does_not_count_for_a_head():
    reader = RequestReader(LIMIT)
    assert len(reader.feed(GET * 3000 + b"GET / ")) == 3000
    assert reader.feed(b"HTTP/1.1\r\n") == []
    assert len(reader.feed(b"Host: x\r\n\r\n")) == 1


def test_empty_lines_before_a_request_do_not_count_for_its_head():
    reader = RequestReader(LIMIT)
    assert feed_all(reader, [b"\r\n" * MAX_HEAD] * 2) == []
    assert len(reader.feed(GET)) == 1


@pytest.mark.parametrize("name", [b"X: ", b"X"])
def test_a_trailer_without_an_end_is_refused_before_it_is_large(name):
    reader, fed = RequestReader(LIMIT), 0
    items = reader.feed(request(b"Transfer-Encoding: chunked", body=b"1\r\na\r\n0\r\n" + name))
    while not items:
        items = reader.feed(b"x" * 100)
        fed += 100
        assert fed < MAX_HEAD + 1000
    assert [item.status for item in items] == [431]


def test_a_body_may_come_in_small_pieces_for_as_long_as_it_comes():
    reader = RequestReader(LIMIT)
    reader.feed(request(b"Transfer-Encoding: chunked"))
    assert feed_all(reader, [b"1;x=%b\r\na\r\n" % (b"y" * 200)] * 1000) == []
    (item,) = reader.feed(b"0\r\n\r\n")
    assert item.body == b"a" * 1000


def test_a_body_over_the_limit_is_refused_by_its_declared_length():
    assert fault(request(b"Content-Length: 11"), limit=10).status == 413
    (item,) = read(request(b"Content-Length: 10", body=b"x" * 10), limit=10)
    assert item.body == b"x" * 10


def test_a_body_over_the_limit_is_refused_as_soon_as_its_chunks_are():
    head = request(b"Transfer-Encoding: chunked")
    assert fault(head, b"5\r\naaaaa\r\n", b"6\r\nbbbbbb\r\n", b"6\r\ncccccc\r\n0\r\n\r\n", GET, limit=10).status == 413
    (item,) = read(head, b"5\r\naaaaa\r\n5\r\nbbbbb\r\n0\r\n\r\n", limit=10)
    assert item.body == b"aaaaabbbbb"


def test_of_a_body_over_the_limit_nothing_more_is_read():
    chunks = b"6\r\naaaaaa\r\n" * 5
    assert fault(request(b"Transfer-Encoding: chunked", body=chunks + b"0\r\n\r\n" + GET), limit=10).status == 413


def test_a_refusal_of_what_is_too_large_says_how_large_it_may_be():
    assert (too_large(10).status, too_large(10).message) == (413, "A message may have at most 10 bytes.")


def test_a_body_in_tiny_chunks_costs_its_size():
    body = Body(50_000)
    tracemalloc.start()
    try:
        for _ in range(50_000):
            body.add(b"x")
        assert tracemalloc.get_traced_memory()[0] < 150_000
    finally:
        tracemalloc.stop()
    assert body.take() == b"x" * 50_000
    assert body.take() == b""


def test_a_body_in_tiny_chunks_is_not_copied_for_each():
    body = Body(10)
    body.add(b"a")
    body.add(b"b")
    kept = body._data
    body.add(b"c")
    assert body._data is kept
    assert body.take() == b"abc"


def test_a_body_that_overflows_keeps_nothing():
    body = Body(10)
    body.add(b"x" * 10)
    assert not body.overflown
    body.add(b"x")
    body.add(b"y")
    assert body.overflown
    assert body.take() == b""
    assert not body.overflown
    body.add(b"z")
    assert body.take() == b"z"


def test_a_closed_reader_reads_no_more():
    reader = RequestReader(LIMIT)
    reader.feed(GET[:10])
    reader.close()
    assert reader.phase is Phase.DEAD
    assert reader._parser is None
    assert reader.feed(GET) == []
