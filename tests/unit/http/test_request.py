import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes import read_all
from tests.support.strategies import chunked, cut, examples, places, requests, requests_or_not
from wsaas import errors
from wsaas.http.request import CHUNKS, CONTINUE, Phase, RejectedRequest, Request, RequestParser, too_large

LIMIT = 100_000
MAX_TARGET, MAX_HEADERS, MAX_HEAD = 8192, 100, 32_768
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def read(*pieces: bytes, limit: int = LIMIT):
    return read_all(RequestParser(limit), *pieces)


def described(items):
    """Return what matters of the items that a reader gave: `CONTINUE` depends on how the bytes were cut."""
    return [
        (item.method, item.target, item.headers, item.body) if isinstance(item, Request) else type(item)
        for item in items
        if item is not CONTINUE
    ]


def error_of(*pieces: bytes, limit: int = LIMIT) -> errors.HTTPError:
    """Return the one error that all of `pieces` give."""
    (item,) = read(*pieces, limit=limit)
    assert isinstance(item, errors.HTTPError)
    return item


def request(*lines: bytes, start: bytes = b"PUT / HTTP/1.1", body: bytes = b"") -> bytes:
    return b"\r\n".join([start, b"Host: x", *lines, b"", body])


# Requests


@examples(300)
@given(st.lists(requests(), max_size=5), places)
def test_pipelined_requests_are_the_same_however_they_are_cut(pipelined, places):
    data = b"".join(sent for sent, _ in pipelined)
    reader = RequestParser(LIMIT)
    items = [item for item in read_all(reader, *cut(data, places)) if item is not CONTINUE]
    assert [(item.method, item.target, item.headers, item.body) for item in items] == [each for _, each in pipelined]
    assert all(item.keep_alive and not item.upgrade for item in items)
    assert reader.phase is Phase.IDLE


@examples(400)
@given(requests_or_not, places)
def test_garbage_ends_in_an_error_or_waits_however_it_is_cut(data, places):
    reader, other = RequestParser(1000), RequestParser(1000)
    items, at_once = read_all(reader, *cut(data, places)), read_all(other, data)
    assert described(items) == described(at_once)
    assert (reader.phase is Phase.CLOSED) is (other.phase is Phase.CLOSED)
    for place, item in enumerate(items):
        if isinstance(item, errors.HTTPError):
            assert 400 <= item.status <= 599
            assert place == len(items) - 1
            assert reader.phase is Phase.CLOSED
            assert read_all(reader, GET) == []


@examples(100)
@given(requests(), st.binary(max_size=50), places)
def test_bytes_after_a_websocket_request_are_trailing_data(before, behind, places):
    upgrade = request(b"Connection: keep-alive, Upgrade", b"Upgrade: WebSocket", start=b"GET /ws?q HTTP/1.1")
    reader, items, after = RequestParser(LIMIT), [], b""
    for piece in cut(before[0] + upgrade + behind, places):
        if reader.phase is Phase.CLOSED:
            after += piece
        else:
            items += [item for item in read_all(reader, piece) if item is not CONTINUE]
    first, last = items
    assert (first.method, first.target, first.headers, first.body) == before[1]
    assert (last.method, last.target, last.upgrade, last.version) == (b"GET", b"/ws?q", True, "1.1")
    assert last.header(b"upgrade") == b"WebSocket"
    assert reader.trailing_data + after == behind
    assert read_all(reader, GET) == []


def test_a_request_is_returned_when_it_is_complete():
    reader = RequestParser(LIMIT)
    phases = [reader.phase]
    assert read_all(reader, b"PUT / HT") == []
    phases.append(reader.phase)
    assert read_all(reader, b"TP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na") == []
    phases.append(reader.phase)
    (item,) = read_all(reader, b"b")
    assert item.body == b"ab"
    phases.append(reader.phase)
    assert phases == [Phase.IDLE, Phase.HEAD, Phase.BODY, Phase.IDLE]
    assert read_all(reader, b"") == []


def test_headers_are_found_by_name():
    (item,) = read(request(b"Accept: a, b ,, c", b"accept:\td \t", b"X: \xe9", b"Cookie: a=b", b"Cookie: c=d"))
    assert item.header(b"accept") == b"a, b ,, c, d"
    assert item.header(b"x") == b"\xe9"
    assert item.header(b"cookie") == b"a=b; c=d"
    assert item.header(b"y") is None
    assert item.tokens(b"accept") == [b"a", b"b", b"c", b"d"]
    assert item.tokens(b"y") == []
    assert list(item.headers) == [b"host", b"accept", b"x", b"cookie"]


def test_a_trailer_is_not_a_header():
    body = chunked(b"abc", [1], b"X-Admin: yes\r\nHost: y\r\n")
    (item,) = read(request(b"Transfer-Encoding: chunked", body=body))
    assert item.body == b"abc"
    assert item.header(b"x-admin") is None
    assert item.header(b"host") == b"x"


def test_after_connection_close_nothing_more_is_read():
    reader = RequestParser(LIMIT)
    (item,) = read_all(reader, request(b"Connection: close", b"Content-Length: 1", body=b"a" + GET))
    assert (item.body, item.keep_alive) == (b"a", False)
    assert reader.phase is Phase.CLOSED
    assert read_all(reader, GET) == []


@pytest.mark.parametrize(("connection", "kept"), [(b"keep-alive", True), (b"close", False)])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_request_says_whether_its_connection_is_kept(version, connection, kept):
    (item,) = read(request(b"Connection: " + connection, start=b"GET / HTTP/" + version))
    assert item.keep_alive is kept
    assert item.version == version.decode()


def test_http_1_0_closes_by_default_and_needs_no_host():
    (item,) = read(b"GET / HTTP/1.0\r\n\r\n")
    assert (item.keep_alive, item.version) == (False, "1.0")


# Expect


EXPECTING = request(b"Expect: 100-Continue", b"Content-Length: 2")


def test_a_request_that_expects_100_continue_gets_it():
    reader = RequestParser(LIMIT)
    assert read_all(reader, EXPECTING) == [CONTINUE]
    (item,) = read_all(reader, b"ab")
    assert item.body == b"ab"


def test_a_request_whose_body_has_arrived_gets_no_100_continue():
    (item,) = read(EXPECTING + b"ab")
    assert item.body == b"ab"
    assert [type(item) for item in read(EXPECTING + b"ab" + EXPECTING)] == [Request, bytes]


def test_a_client_that_sends_part_of_its_body_does_not_wait():
    reader = RequestParser(LIMIT)
    assert read_all(reader, EXPECTING + b"a") == []
    (item,) = read_all(reader, b"b")
    assert item.body == b"ab"


@pytest.mark.parametrize("lines", [(), (b"Content-Length: 0",)])
def test_a_client_without_a_body_does_not_wait(lines):
    (item,) = read(request(b"Expect: 100-continue", *lines))
    assert item.body == b""


def test_a_request_that_is_too_large_gets_no_100_continue():
    assert error_of(EXPECTING, limit=1).status == 413
    waiting = read(request(b"Expect: 100-continue", b"Transfer-Encoding: chunked"), b"2\r\n", limit=1)
    assert [item if item is CONTINUE else item.status for item in waiting] == [CONTINUE, 413]


@pytest.mark.parametrize("connection", [b"close", b"keep-alive"])
def test_http_1_0_has_no_interim_responses(connection):
    start = b"PUT / HTTP/1.0"
    head = request(b"Expect: 100-continue", b"Connection: " + connection, b"Content-Length: 1", start=start)
    assert read(head) == []


def test_any_other_expectation_fails():
    assert error_of(request(b"Expect: tea", body=GET)).status == 417


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


def test_an_offer_may_expect_100_continue():
    reader = RequestParser(LIMIT)
    assert read_all(reader, request(*OFFER, b"Expect: 100-continue", b"Content-Length: 3")) == [CONTINUE]
    (item,) = read_all(reader, b"abc")
    assert item.body == b"abc"


def test_an_offer_with_connection_close_is_the_last_request():
    reader = RequestParser(LIMIT)
    last = request(b"Connection: Upgrade, close", b"Upgrade: h2c", b"Content-Length: 1", body=b"a" + GET)
    (item,) = read_all(reader, last)
    assert (item.body, item.keep_alive) == (b"a", False)
    assert reader.phase is Phase.CLOSED


def test_an_offer_does_not_make_an_invalid_request_valid():
    assert error_of(request(*OFFER, b"Transfer-Encoding: gzip")).status == 400
    assert error_of(request(*OFFER, b"Expect: tea")).status == 417
    assert error_of(request(*OFFER, b"Content-Length: 11"), limit=10).status == 413
    assert error_of(request(*OFFER, b"Host: y", body=b"rest")).status == 400


def test_thousands_of_offers_in_one_piece_do_not_recurse():
    items = read(request(*OFFER, start=b"GET / HTTP/1.1") * 3000)
    assert len(items) == 3000
    assert {item.target for item in items} == {b"/"}


def test_upgrade_without_connection_upgrade_is_no_upgrade():
    items = read(request(b"Upgrade: websocket", start=b"GET / HTTP/1.1", body=GET))
    assert [item.upgrade for item in items] == [False, False]
    assert items[0].header(b"upgrade") == b"websocket"


@pytest.mark.parametrize("header", [b"Content-Length: 3", b"Transfer-Encoding: chunked"])
def test_a_websocket_request_has_no_body(header):
    assert error_of(request(b"Connection: Upgrade", b"Upgrade: websocket", header, body=b"abc")).status == 400


@pytest.mark.parametrize("lines", [(), (b"Content-Length: 0",)])
def test_a_websocket_request_may_say_so(lines):
    (item,) = read(request(b"Connection: Upgrade", b"Upgrade: h2c, websocket", *lines))
    assert item.upgrade


# Targets


@pytest.mark.parametrize(
    ("sent", "target"),
    [
        (b"/", b"/"),
        (b"/a?b=c&d", b"/a?b=c&d"),
        (b"/a//b/../%2f%41", b"/a//b/../%2f%41"),
        (b"//x/a", b"//x/a"),
        (b"/http://x/", b"/http://x/"),
        (b'/"<>[]^`{|}\\', b'/"<>[]^`{|}\\'),
        (b"http://x", b"/"),
        (b"http://x/", b"/"),
        (b"http://y:80/a?b", b"/a?b"),
        (b"HTTPS://[::1]:8443/a", b"/a"),
        (b"http://x?a=b", b"/?a=b"),
        (b"http://x:/a//b", b"/a//b"),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"PUT", b"DELETE", b"OPTIONS"])
def test_a_target_is_a_path_or_a_url(method, sent, target):
    (item,) = read(request(start=b"%b %b HTTP/1.1" % (method, sent)))
    assert item.target == target


def test_options_may_be_requested_for_the_whole_server():
    (item,) = read(request(start=b"OPTIONS * HTTP/1.1"))
    assert item.target == b"*"


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT", b"DELETE", b"POST", b"PATCH", b"OPTIONS", b"TRACE"])
def test_a_method_may_be_asked_of_a_resource(method):
    (item,) = read(request(start=method + b" /a HTTP/1.1"))
    assert (item.method, item.target) == (method, b"/a")


# Errors


def test_a_refusal_says_why():
    for data in (
        b"nonsense\r\n",
        request(b"Host: y"),
        request(b"Content-Length: x"),
        request(start=b"BREW / HTTP/1.1"),
    ):
        refusal = error_of(data)
        assert refusal.message.endswith(".")
        assert len(refusal.message) > 20
        assert refusal.__traceback__ is None


def test_requests_before_an_error_are_returned():
    items = read(GET + request(b"Content-Length: 1", body=b"a") + b"nonsense\r\n" + GET)
    assert [type(item) for item in items] == [Request, Request, errors.BadRequest]


@pytest.mark.parametrize(
    ("status", "part"),
    [
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        (400, b"\0"),
        (400, b" "),
        (400, b"\n"),
        (400, b"\rG"),
        (400, b"G" * 33),
        (400, b"GET \x7f"),
        (400, b"GET / HTTP/1.1 "),
        (400, b"GET / HTTP/1.1\n"),
        (400, b"GET / HTTP/1.1\r\nHost: x\n"),
        (400, b"SSH-2.0-OpenSSH_9.6\r\n"),
        (414, b"GET /" + b"a" * MAX_TARGET),
        (501, b"BREW / HTTP/1.1\r\n"),
        (505, b"GET / HTTP/2.0\r\n"),
    ],
)
def test_bytes_that_cannot_become_a_request_are_refused_before_the_head_ends(status, part):
    assert error_of(part).status == status
    assert [item.status for item in read(*[part[at : at + 1] for at in range(len(part))])] == [status]


@pytest.mark.parametrize(
    "part", [b"GET / HTTP/1.1\r\nHost: x\r\nX:", b"GET /a?b HT", b"\r\n\r\nPUT", b"OPTIONS * HTTP/1.1\r"]
)
def test_bytes_that_may_become_a_request_are_kept(part):
    reader = RequestParser(LIMIT)
    assert read_all(reader, *[part[at : at + 1] for at in range(len(part))]) == []
    assert reader.phase is Phase.HEAD


# Limits


@pytest.mark.parametrize("method", [b"GET", b"PUT"])
def test_a_target_may_have_eight_kibibytes(method):
    start = b"%b /%b HTTP/1.1" % (method, b"a" * (MAX_TARGET - 1))
    (item,) = read(request(start=start))
    assert len(item.target) == MAX_TARGET
    assert error_of(request(start=start.replace(b"/a", b"/aa")) + GET).status == 414


def test_a_request_may_have_a_hundred_headers():
    lines = [b"X-%d: y" % number for number in range(MAX_HEADERS - 1)]
    (item,) = read(request(*lines))
    assert len(item.headers) == MAX_HEADERS
    assert error_of(request(*lines, b"Y: 1") + GET).status == 431


def test_a_head_may_have_thirty_two_kibibytes():
    size = MAX_HEAD - len(request(b"X: "))
    most = request(b"X: " + b"x" * size)
    assert len(most) == MAX_HEAD
    for pieces in ([most], [most[:-1], most[-1:]], [GET + most]):
        assert len(read(*pieces)[-1].header(b"x")) == size
    too_much = request(b"X: " + b"x" * (size + 1))
    assert error_of(too_much + GET).status == 431
    assert error_of(too_much[:20_000], too_much[20_000:]).status == 431
    assert error_of(too_much[:-1], too_much[-1:]).status == 431


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\nX"])
def test_a_head_without_an_end_is_refused_before_it_is_large(start):
    reader, fed = RequestParser(LIMIT), len(start)
    items = read_all(reader, start)
    while not items:
        items = read_all(reader, b"x")
        fed += 1
        assert fed < MAX_HEAD + 100
    assert [item.status for item in items] == [431]
    assert fed > MAX_HEAD


def test_a_target_without_an_end_is_refused_before_it_is_large():
    reader, fed = RequestParser(LIMIT), 0
    items = read_all(reader, b"GET ")
    while not items:
        items = read_all(reader, b"/")
        fed += 1
    assert [item.status for item in items] == [414]
    assert fed == MAX_TARGET + 1


def test_headers_without_an_end_are_refused_before_they_are_many():
    reader, fed = RequestParser(LIMIT), 0
    items = read_all(reader, b"GET / HTTP/1.1\r\n")
    while not items:
        items = read_all(reader, b"X: y\r\n")
        fed += 6
        assert fed < MAX_HEAD + 100
    assert [item.status for item in items] == [431]


@pytest.mark.parametrize("first", [b"PUT / HTTP/1.1\r\n", request(b"Content-Length: 90000", body=b"a" * 90_000)])
def test_a_large_request_before_it_does_not_count_for_a_head(first):
    rest = b"" if first.endswith(b"a") else request(b"Content-Length: 80000", body=b"a" * 80_000)[16:]
    data = first + rest + GET
    reader = RequestParser(LIMIT)
    items = read_all(reader, *[data[:70_000], data[70_000:-20], data[-20:-10], data[-10:]])
    assert [item.method for item in items] == [b"PUT", b"GET"]


def test_a_large_piece_before_it_does_not_count_for_a_head():
    reader = RequestParser(LIMIT)
    assert len(read_all(reader, GET * 3000 + b"GET / ")) == 3000
    assert read_all(reader, b"HTTP/1.1\r\n") == []
    assert len(read_all(reader, b"Host: x\r\n\r\n")) == 1


def test_empty_lines_before_a_request_are_skipped_but_not_without_end():
    reader = RequestParser(LIMIT)
    assert read_all(reader, *[b"\r\n"] * (MAX_HEAD // 4), b"\r\n" * (MAX_HEAD // 4 - 1), b"\r", b"\n") == []
    assert reader.phase is Phase.IDLE
    assert len(read_all(reader, GET, b"\r\n" * (MAX_HEAD // 2) + GET)) == 2
    assert error_of(b"\r\n" * (MAX_HEAD // 2), b"\r", b"\n").status == 431
    assert error_of(b"\r\n" * MAX_HEAD + GET).status == 431


@pytest.mark.parametrize("name", [b"X: ", b"X"])
def test_a_trailer_without_an_end_is_refused_before_it_is_large(name):
    reader, fed = RequestParser(LIMIT), 0
    items = read_all(reader, request(b"Transfer-Encoding: chunked", body=b"1\r\na\r\n0\r\n" + name))
    while not items:
        items = read_all(reader, b"x" * 100)
        fed += 100
        assert fed < MAX_HEAD + 1000
    assert [item.status for item in items] == [431]


def test_a_body_may_come_in_small_pieces_for_as_long_as_it_comes():
    reader = RequestParser(LIMIT)
    read_all(reader, request(b"Transfer-Encoding: chunked"))
    assert read_all(reader, *[b"1;x=y\r\na\r\n"] * 5000) == []
    (item,) = read_all(reader, b"0\r\n\r\n")
    assert item.body == b"a" * 5000


def test_extensions_of_chunks_are_refused_before_they_are_many():
    pieces = [b"1;x=%b\r\na\r\n" % (b"y" * 200)] * 200
    assert error_of(request(b"Transfer-Encoding: chunked"), *pieces).status == 431


def test_a_body_over_the_limit_is_refused_by_its_declared_length():
    assert error_of(request(b"Content-Length: 11"), limit=10).status == 413
    (item,) = read(request(b"Content-Length: 10", body=b"x" * 10), limit=10)
    assert item.body == b"x" * 10


def test_a_body_over_the_limit_is_refused_as_soon_as_its_chunks_are():
    head = request(b"Transfer-Encoding: chunked")
    assert (
        error_of(head, b"5\r\naaaaa\r\n", b"6\r\nbbbbbb\r\n", b"6\r\ncccccc\r\n0\r\n\r\n", GET, limit=10).status == 413
    )
    (item,) = read(head, b"5\r\naaaaa\r\n5\r\nbbbbb\r\n0\r\n\r\n", limit=10)
    assert item.body == b"aaaaabbbbb"


def test_nothing_is_read_after_a_body_over_the_limit():
    chunks = b"6\r\naaaaaa\r\n" * 5
    assert error_of(request(b"Transfer-Encoding: chunked", body=chunks + b"0\r\n\r\n" + GET), limit=10).status == 413


def test_a_413_names_the_limit():
    assert (too_large(10).status, too_large(10).message) == (413, "The body may have at most 10 bytes.")


def test_bytes_that_were_read_are_released():
    reader = RequestParser(LIMIT)
    read_all(reader, GET * 1000 + GET[:10])
    assert reader._data == GET[:10]
    read_all(reader, GET[10:] + request(b"Content-Length: 90000", body=b"a" * 80_000))
    assert reader._data == b""


def test_the_next_request_waits_for_a_call_of_next():
    reader = RequestParser(LIMIT)
    reader.receive(GET * 2 + b"nonsense\r\n")
    assert isinstance(reader.next(), Request)
    reader.receive(GET)
    assert isinstance(reader.next(), Request)
    assert isinstance(reader.next(), errors.BadRequest)
    assert reader.next() is None


def test_equal_heads_are_read_once():
    put = request(b"Content-Length: 2", start=b"PUT /%d HTTP/1.1", body=b"ab")
    first, second = read(put % 1 + put % 2)
    assert (first.target, second.target) == (b"/1", b"/2")
    assert first.headers is second.headers
    # Secrets of clients are not among them, nor what is large.
    for data in (put.replace(b"PUT", b"GET"), request(b"X: " + b"x" * 1024)):
        first, second = read(data * 2)
        assert first.headers == second.headers
        assert first.headers is not second.headers


def test_a_closed_parser_reads_no_more():
    reader = RequestParser(LIMIT)
    read_all(reader, GET[:10])
    reader.close()
    assert reader.phase is Phase.CLOSED
    assert read_all(reader, GET) == []
    assert reader._data == b""


# The shortcut of a push


PUSH = request(b"Content-Length: 2", body=b"hi")


@examples(300)
@given(st.one_of(requests().map(lambda made: made[0]), requests_or_not, st.sampled_from([PUSH, request()])))
def test_the_shortcut_of_a_push_returns_an_equal_request_or_none(data):
    reader, other = RequestParser(LIMIT), RequestParser(LIMIT)
    push = reader.parse_push(data)
    items = read_all(other, data)
    assert described(read_all(reader, data) if push is None else [push]) == described(items)
    assert (reader.phase, reader.trailing_data) == (other.phase, other.trailing_data)


@pytest.mark.parametrize(
    "data", [PUSH, request(), request(b"Content-Length: 0"), request(b"Expect: 100-continue", b"Content-Length: 0")]
)
def test_a_complete_push_takes_the_shortcut(data):
    reader = RequestParser(LIMIT)
    (item,) = read(data)
    for _ in range(2):
        assert described([reader.parse_push(data)]) == described([item])
    assert described(read_all(reader, data)) == described([item])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        PUSH[:-1],
        PUSH[:20],
        PUSH + b"P",
        PUSH + PUSH,
        b"\r\n" + PUSH,
        PUSH.replace(b"PUT", b"POST"),
        PUSH.replace(b"1.1", b"1.0"),
        request(b"Content-Length: 101", body=b"x" * 101),
        request(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        request(b"Connection: close"),
        request(b"Upgrade: websocket"),
        request(b"Connection: upgrade", b"Upgrade: websocket"),
        request(b"Expect: miracles"),
        request(b"Content-Length: 1", b"Content-Length: 1", body=b"x"),
        request(b"X: " + b"y" * 2000),
    ],
)
def test_anything_else_takes_the_plain_way(data):
    reader = RequestParser(100)
    assert reader.parse_push(data) is None
    assert described(read_all(reader, data)) == described(read(data, limit=100))


@pytest.mark.parametrize("before", [PUSH[:10], PUSH[:-1], request(b"Connection: close")])
def test_there_is_no_shortcut_within_a_request_and_after_the_last_one(before):
    reader = RequestParser(LIMIT)
    read_all(reader, before)
    assert reader.parse_push(PUSH) is None


# What is decided at the head


def decide(request):
    """Refuse some requests, need no body of others; those that wait to send theirs would end the connection."""
    kind = len(request.target) % 3
    if b"expect" in request.headers or kind == 2:
        return LIMIT
    if kind:
        return 0
    raise errors.NotFound("No such path.")


@examples(300)
@given(st.lists(requests(), max_size=5), places)
def test_a_request_that_is_refused_by_its_head_does_not_affect_others(pipelined, places):
    data = b"".join(sent for sent, _ in pipelined)
    reader = RequestParser(LIMIT, decide)
    items = [item for item in read_all(reader, *cut(data, places)) if item is not CONTINUE]
    assert reader.phase is Phase.IDLE
    assert len(items) == len(pipelined)
    for item, (_, (method, target, headers, body)) in zip(items, pipelined, strict=True):
        request = item.request if isinstance(item, RejectedRequest) else item
        assert (request.method, request.target, request.headers, request.keep_alive) == (method, target, headers, True)
        needed = b"expect" in headers or len(target) % 3 == 2
        # What came in one piece is returned in one piece, and takes no memory that is not freed at once.
        assert request.body == body or (not needed and request.body == b"")
        assert not needed or type(item) is Request


@examples(300)
@given(requests_or_not, places)
def test_garbage_behind_a_head_is_answered_once_at_most(data, places):
    def refuse(_request):
        raise errors.NotFound("No such path.")

    reader = RequestParser(1000, refuse)
    for piece in cut(data, places):
        for item in read_all(reader, piece):
            assert isinstance(item, Request | RejectedRequest | errors.HTTPError)
            assert not isinstance(item, RejectedRequest) or item.request.body == b""
        assert len(reader._data) <= MAX_HEAD + len(piece)
        assert reader._body is None or reader._body.take() == b""


def test_many_tiny_chunks_are_read_a_few_at_a_time():
    reader = RequestParser(LIMIT)
    reader.receive(request(b"Transfer-Encoding: chunked", body=b"1\r\na\r\n" * 200 + b"0\r\n\r\n") + GET)
    rounds = 0
    while (item := reader.next()) is None:
        assert reader.is_busy
        rounds += 1
    assert isinstance(item, Request)
    assert (rounds, item.body) == (200 // CHUNKS, b"a" * 200)
    item = reader.next()
    assert isinstance(item, Request)
    assert item.method == b"GET"
    assert reader.next() is None
    assert not reader.is_busy


def test_lines_of_chunks_that_are_cut_count_as_chunks():
    reader = RequestParser(LIMIT)
    assert read_all(reader, request(b"Transfer-Encoding: chunked", body=b"1")) == []
    reader.receive(b"\r\na\r\n" + b"1;x\r\na\r\n" * 100)
    rounds = 1
    while reader.next() is None and reader.is_busy:
        rounds += 1
    # Cut, each has a line for its size and one for its end; in one piece, it counts as one.
    assert rounds == 1 + -(-(101 - CHUNKS // 2) // CHUNKS)
