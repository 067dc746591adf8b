import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import chunked, cut, examples, places, responses, responses_or_not
from wsaas.http.response import BadResponse, ResponseParser

LIMIT = 100_000
MAX_HEADERS, MAX_HEAD = 100, 32_768


def ok(*lines: bytes, body: bytes = b"", start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([start, *lines, b"", body])


def respond(*pieces: bytes, limit: int = LIMIT):
    """Return the one response that comes with the last of `pieces`."""
    reader = ResponseParser(limit)
    for piece in pieces[:-1]:
        assert reader.feed(piece) is None
    return reader.feed(pieces[-1])


@examples(300)
@given(st.lists(responses(), min_size=1, max_size=3), places)
def test_a_response_is_the_same_however_it_is_cut(sequence, places):
    reader = ResponseParser(LIMIT)
    for data, expected in sequence:
        pieces = list(cut(data, places))
        for piece in pieces[:-1]:
            assert reader.feed(piece) is None
        response = reader.feed(pieces[-1])
        assert response is not None
        assert (response.status, response.headers, response.body, response.keep_alive) == expected
        assert not response.is_too_large
        if not response.keep_alive:
            break


@examples(300)
@given(responses_or_not, places)
def test_garbage_is_a_bad_response_or_waits(data, places):
    reader = ResponseParser(1000)
    response = None
    try:
        for piece in cut(data, places):
            response = response or reader.feed(piece)
    except BadResponse as error:
        reason = str(error)
    else:
        reason = "none"
        response = response or reader.eof()
    assert reason
    assert response is None or response.status >= 200


@examples(300)
@given(st.one_of(responses_or_not, responses().map(lambda made: made[0])), st.integers(0, 8))
def test_a_response_is_the_same_whether_it_arrives_at_once_or_not(data, place):
    def read(*pieces):
        reader = ResponseParser(1000)
        try:
            found = [reader.feed(piece) for piece in pieces][-1]
        except BadResponse:
            return None
        return None if found is None else [getattr(found, name) for name in (*found.__slots__,)]

    cut_off = read(data[:place], data[place:]) if place < len(data) else None
    for _ in range(2):
        # The second time it may be known.
        assert cut_off is None or read(data) == cut_off


def test_equal_responses_without_a_body_are_read_once():
    for data in (ok(b"Content-Length: 0"), ok(start=b"HTTP/1.1 204 No Content")):
        assert respond(data) is respond(data)
        assert respond(data[:5], data[5:]) is not respond(data)


@pytest.mark.parametrize("status", [204, 304])
def test_a_response_that_has_no_body_ends_with_its_head(status):
    response = respond(ok(start=b"HTTP/1.1 %d X" % status))
    assert (response.status, response.body, response.keep_alive) == (status, b"", True)


def test_interim_responses_are_skipped():
    hint = ok(b"Link: </x>", start=b"HTTP/1.1 103 Early Hints")
    response = respond(ok(start=b"HTTP/1.1 100 Continue") + hint + ok(b"Content-Length: 0"))
    assert (response.status, response.headers) == (200, {b"content-length": b"0"})
    assert respond(hint, hint, ok(b"Content-Length: 0")).status == 200


def test_a_response_without_a_length_ends_with_the_connection():
    reader = ResponseParser(LIMIT)
    assert reader.feed(ok(body=b"ab")) is None
    assert reader.feed(b"cd") is None
    response = reader.eof()
    assert response is not None
    assert (response.body, response.keep_alive, response.is_too_large) == (b"abcd", False, False)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        ok(b"Content-Length: 5", body=b"abcd"),
        ok(b"Transfer-Encoding: Chunked", body=b"3\r\nabc\r\n"),
        ok(start=b"HTTP/1.1 100 Continue"),
    ],
)
def test_a_response_that_was_cut_off_is_none(sent):
    reader = ResponseParser(LIMIT)
    assert reader.feed(sent) is None
    assert reader.eof() is None


def test_trailers_are_not_headers():
    body = chunked(b"abc", [2], b"Ws-Reply: text\r\n")
    response = respond(ok(b"Transfer-Encoding: chunked", body=body))
    assert (response.headers, response.body) == ({b"transfer-encoding": b"chunked"}, b"abc")


def test_names_of_headers_are_lower_case_and_values_of_repeated_ones_are_joined():
    response = respond(ok(b"Ws-Reply: text", b"WS-REPLY: binary", b"Content-Length: 0"))
    assert response.headers == {b"ws-reply": b"text, binary", b"content-length": b"0"}


def test_a_response_may_have_a_hundred_headers():
    lines = [b"X-%d: y" % number for number in range(MAX_HEADERS - 1)]
    assert len(respond(ok(b"Content-Length: 0", *lines)).headers) == MAX_HEADERS
    with pytest.raises(BadResponse, match="more than 100 headers"):
        respond(ok(b"Content-Length: 0", *lines, b"Y: z"))


@pytest.mark.parametrize(
    ("lines", "start", "kept"),
    [
        ([], b"HTTP/1.1 200 OK", True),
        ([b"Connection: close"], b"HTTP/1.1 200 OK", False),
        ([], b"HTTP/1.0 200 OK", False),
        ([b"Connection: keep-alive"], b"HTTP/1.0 200 OK", True),
    ],
)
def test_a_connection_is_kept_as_the_backend_says(lines, start, kept):
    assert respond(ok(b"Content-Length: 1", *lines, start=start, body=b"a")).keep_alive is kept


@pytest.mark.parametrize("extra", [b"x", b"\r\nHTTP", ok(b"Content-Length: 1", body=b"z"), b"HTTP/1.1 200 OK\r\nX"])
def test_bytes_behind_a_response_spoil_the_connection(extra):
    response = respond(ok(b"Content-Length: 1", body=b"a") + extra)
    assert (response.body, response.keep_alive) == (b"a", False)


def test_a_response_with_a_body_over_the_limit_is_returned_without_it():
    response = respond(ok(b"Content-Length: 11", b"Ws-Reply: text", body=b"x" * 11), limit=10)
    assert (response.status, response.body, response.is_too_large) == (200, b"", True)
    assert response.keep_alive
    response = respond(ok(b"Transfer-Encoding: chunked"), b"a\r\n" + b"x" * 10, b"\r\n1\r\n", limit=10)
    assert (response.status, response.body, response.is_too_large, response.keep_alive) == (200, b"", True, False)


def test_a_body_over_the_limit_is_not_waited_for():
    response = respond(ok(b"Content-Length: 11", b"Ws-Reply: text"), limit=10)
    assert (response.status, response.body, response.is_too_large, response.keep_alive) == (200, b"", True, False)


def test_a_parser_starts_again_for_the_next_response():
    reader = ResponseParser(10)
    too_large = reader.feed(ok(b"Content-Length: 11", b"A: b", body=b"x" * 11))
    assert too_large is not None
    assert too_large.is_too_large
    for _ in range(2):
        response = reader.feed(ok(b"Content-Length: 1", body=b"a"))
        assert response is not None
        assert (response.body, response.is_too_large, response.keep_alive) == (b"a", False, True)
        assert response.headers == {b"content-length": b"1"}


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense",
        b"\x15\x03\x01\x00\x02\x02\x16",
        b"<html>",
        b"HTTP/1.1 2000 OK\r\n",
        b"HTTP/1.1 OK\r\n",
        ok(b"Content-Length: x"),
        ok(b"Content-Length: 1", b"Content-Length: 2"),
        ok(b"Transfer-Encoding: chunked", body=b"zz\r\n"),
    ],
)
def test_bytes_that_are_no_http_are_a_bad_response(data):
    with pytest.raises(BadResponse, match=r"\w"):
        respond(data)


def test_an_unsolicited_101_is_a_bad_response():
    with pytest.raises(BadResponse, match="unexpected 101"):
        respond(ok(b"Connection: Upgrade", b"Upgrade: websocket", start=b"HTTP/1.1 101 Switching Protocols"))


def test_an_offer_of_another_protocol_on_a_response_is_ignored():
    response = respond(ok(b"Upgrade: h2,h2c", b"Connection: Upgrade", b"Content-Length: 2", body=b"ok"))
    assert (response.status, response.body, response.keep_alive) == (200, b"ok", True)


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 "])
def test_a_response_head_without_an_end_is_refused_before_it_is_large(start):
    reader, fed = ResponseParser(LIMIT), len(start)
    reader.feed(start)
    while fed <= MAX_HEAD - 100:
        assert reader.feed(b"x" * 100) is None
        fed += 100
    with pytest.raises(BadResponse, match="more than 32768 bytes"):
        reader.feed(b"x" * 100)


def test_interim_responses_are_refused_before_they_are_many():
    reader, fed = ResponseParser(LIMIT), 0
    hint = ok(b"X: " + b"x" * 1000, start=b"HTTP/1.1 103 Early Hints")
    while fed <= MAX_HEAD - len(hint):
        assert reader.feed(hint) is None
        fed += len(hint)
    with pytest.raises(BadResponse, match="interim"):
        reader.feed(hint)


def test_interim_responses_count_for_one_response():
    reader = ResponseParser(LIMIT)
    hint = ok(b"X: " + b"x" * 20_000, start=b"HTTP/1.1 103 Early Hints")
    for _ in range(3):
        response = reader.feed(hint + ok(b"Content-Length: 0"))
        assert response is not None
        assert response.keep_alive


@pytest.mark.parametrize(
    "part",
    [
        b"h",
        b"HTTP/2",
        b"\r",
        b"HTTP/1.1 200OK\n",
        b"HTTP/1.1 OK\r\n",
        b"HTTP/1.1 101 X\r\n",
    ],
)
def test_bytes_that_cannot_become_a_response_are_refused_before_the_head_ends(part):
    with pytest.raises(BadResponse, match=r"\w"):
        respond(part)
    reader = ResponseParser(LIMIT)
    with pytest.raises(BadResponse, match=r"\w"):
        assert not any(reader.feed(part[at : at + 1]) for at in range(len(part)))


def test_what_was_read_before_does_not_count_for_the_next_head():
    reader = ResponseParser(LIMIT)
    large = ok(b"X: " + b"x" * 20_000, b"Content-Length: 90000", body=b"a" * 90_000)
    for _ in range(3):
        assert [reader.feed(piece) is None for piece in cut(large, [10_000, 50_000])] == [True, True, False]


def test_a_closed_parser_keeps_nothing():
    reader = ResponseParser(LIMIT)
    reader.feed(ok(body=b"abc"))
    reader.close()
    assert reader.eof() is None
    reader.feed(b"HTTP/1.1 200 OK\r\nX: ")
    reader.close()
    assert reader._data == b""


def test_equal_heads_are_read_once():
    head = ok(b"X: y", b"Content-Length: 1")
    first, second = respond(head + b"a"), respond(head + b"b")
    assert first.headers is second.headers
    assert (first.body, second.body) == (b"a", b"b")
    large = ok(b"X: " + b"x" * 1024, b"Content-Length: 1", body=b"a")
    assert respond(large).headers == respond(large).headers
    assert respond(large).headers is not respond(large).headers


@pytest.mark.parametrize("phrase", [b"", b" ", b" Any Phrase", b" \xe9\t!"])
def test_a_reason_may_be_missing(phrase):
    response = respond(ok(b"Content-Length: 0", start=b"HTTP/1.1 599" + phrase))
    assert (response.status, response.keep_alive) == (599, True)
