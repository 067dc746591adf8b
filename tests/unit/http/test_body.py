import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import bodies, chunked, cut, examples, places
from wsaas.errors import LimitExceeded, Malformed
from wsaas.http.body import MAX_EXTRA, Body, Chunked, Sized

LIMIT = 100_000


def feed(body: Body, *pieces: bytes) -> bytes:
    """Give `pieces` to `body`; return what is not its own."""
    rest = b""
    for piece in pieces:
        at = 0 if body.complete else body.feed(piece, 0)
        assert at == len(piece) or body.complete
        rest += piece[at:]
    return rest


@examples(200)
@given(bodies, st.binary(max_size=20), places)
def test_a_sized_body_ends_after_its_size(data, behind, places):
    body = Sized(LIMIT, len(data))
    assert feed(body, *cut(data + behind, places)) == behind
    assert body.complete
    assert body.take() == data


@examples(300)
@given(bodies, places, st.sampled_from([b"", b"X: y\r\nZ:\r\n"]), st.binary(max_size=20), places)
def test_a_chunked_body_ends_after_its_last_chunk_however_it_is_cut(data, chunks, trailer, behind, places):
    body = Chunked(LIMIT)
    assert feed(body, *cut(chunked(data, chunks, trailer) + behind, places)) == behind
    assert body.complete
    assert body.take() == data


@pytest.mark.parametrize("pieces", [[], [b"a"], [b"a", b"", b"b" * 10]])
def test_a_body_without_a_size_takes_everything(pieces):
    body = Body(LIMIT)
    assert feed(body, *pieces) == b""
    assert not body.complete
    assert body.take() == b"".join(pieces)


def test_a_body_may_begin_anywhere_in_the_data():
    body = Sized(LIMIT, 3)
    assert body.feed(b"..abcd", 2) == 5
    assert body.take() == b"abc"
    assert Sized(LIMIT, 0).complete


@pytest.mark.parametrize(
    "line",
    [b"3", b"03", b"0000000000000003", b"3;a", b"3;a=b", b'3;a="b;c"', b'3;a="\\"";b', b"3;a=b;c=d", b'3;a="\xe9\t"'],
)
def test_a_chunk_begins_with_its_size_and_may_have_extensions(line):
    body = Chunked(LIMIT)
    assert feed(body, line + b"\r\nabc\r\n0\r\n\r\n") == b""
    assert body.take() == b"abc"


@pytest.mark.parametrize(("line", "size"), [(b"a", 10), (b"A", 10), (b"1f", 31)])
def test_a_size_is_hexadecimal_in_either_case(line, size):
    body = Chunked(LIMIT)
    feed(body, line + b"\r\n" + b"x" * size + b"\r\n0\r\n\r\n")
    assert body.take() == b"x" * size


@pytest.mark.parametrize("last", [b"0", b"000", b"0;a=b"])
def test_the_last_chunk_has_no_bytes(last):
    body = Chunked(LIMIT)
    assert feed(body, last + b"\r\n\r\nrest") == b"rest"
    assert body.complete


@pytest.mark.parametrize(
    "line",
    [
        b"", b"g", b"+3", b"-3", b"0x3", b" 3", b"\t3", b"3 ", b"3\t", b"3 ;a", b"3; a", b"3;a ", b"3;", b"3;;a",
        b"3;a=", b"3;=b", b"3;a;", b"3,a", b"3;a\x00", b"3;a\xe9", b'3;a="', b'3;a="b\x01"', b'3;a="b"c', b"3\x0b",
        b"3\xb2", b"3_0", b"3\r", b"3;a\r", b"00000000000000003", b"10000000000000003", b"fffffffffffffffff",
    ],
)  # fmt: skip
@pytest.mark.parametrize("before", [b"", b"1\r\nx\r\n"])
def test_a_chunk_that_begins_in_another_way_is_malformed(line, before):
    with pytest.raises(Malformed, match="does not begin with its size"):
        feed(Chunked(LIMIT), before + line + b"\r\nabc\r\n0\r\n\r\n")


@pytest.mark.parametrize("line", [b"3\n", b"3;a\n", b'3;a="b"\n', b"3\n\r\n"])
def test_a_line_of_a_chunk_ends_in_crlf(line):
    with pytest.raises(Malformed, match="does not begin with its size"):
        feed(Chunked(LIMIT), line + b"abc\r\n0\r\n\r\n")


@pytest.mark.parametrize("end", [b"\n", b"\rx", b"xx", b"0\r\n", b"d\r\n", b"\r\r\n", b" \r\n"])
@pytest.mark.parametrize("places", [(), range(100)])
def test_a_chunk_ends_where_its_size_says(end, places):
    with pytest.raises(Malformed, match="does not end where its size says"):
        feed(Chunked(LIMIT), *cut(b"3\r\nabc" + end + b"0\r\n\r\n", places))


@pytest.mark.parametrize(
    "trailer", [b"X\r\n", b": y\r\n", b"X : y\r\n", b" X: y\r\n", b"X: a\r\n b\r\n", b"X: \x00\r\n"]
)
def test_a_trailer_has_the_form_of_a_header(trailer):
    with pytest.raises(Malformed, match="a trailer line is malformed"):
        feed(Chunked(LIMIT), b"0\r\n" + trailer + b"\r\n")


@pytest.mark.parametrize("end", [b"\n", b"X: y\n\r\n", b"X: a\rb\r\n\r\n", b"\r\r\n"])
def test_a_line_of_trailers_ends_in_crlf(end):
    with pytest.raises(Malformed, match="a trailer line is malformed"):
        feed(Chunked(LIMIT), b"0\r\n" + end)


def test_extensions_and_trailers_have_their_limit_together():
    most = b";a=%b" % (b"x" * (MAX_EXTRA // 2 - 3))
    line = b"X:%b\r\n" % (b"y" * (MAX_EXTRA // 2 - 4))
    body = Chunked(LIMIT)
    assert feed(body, b"1%b\r\nx\r\n0\r\n%b\r\n" % (most, line)) == b""
    for over in (b"1%bx\r\nx\r\n0\r\n%b\r\n" % (most, line), b"1%b\r\nx\r\n0;a\r\n%b\r\n" % (most, line)):
        with pytest.raises(LimitExceeded, match="extensions and trailers"):
            feed(Chunked(LIMIT), over)


@pytest.mark.parametrize("places", [(), range(1000)])
def test_extensions_of_many_chunks_have_their_limit_together(places):
    with pytest.raises(LimitExceeded, match="extensions and trailers"):
        feed(Chunked(LIMIT), *cut(b"1;x=%b\r\na\r\n" % (b"y" * 200) * (MAX_EXTRA // 200), places))


@pytest.mark.parametrize("start", [b"1;a=", b"1", b"0\r\nX: ", b"0\r\nX"])
def test_a_line_without_an_end_is_refused_before_it_is_long(start):
    body = Chunked(LIMIT)
    feed(body, start, *[b"1" * 100] * (MAX_EXTRA // 100 - 1))
    with pytest.raises(LimitExceeded, match="a line"):
        feed(body, b"1" * 100, b"1" * 100)


@pytest.mark.parametrize("make", [Body, Chunked, lambda limit: Sized(limit, 11)])
def test_a_body_over_the_limit_is_not_kept(make):
    body = make(10)
    data = chunked(b"x" * 11, [5]) if make is Chunked else b"x" * 11
    feed(body, data[:-1], data[-1:])
    assert body.is_too_large
    assert body.take() == b""


def test_a_body_may_have_what_the_limit_allows():
    for body, data in [(Body(10), b"x" * 10), (Sized(10, 10), b"x" * 10), (Chunked(10), chunked(b"x" * 10, [1, 2]))]:
        feed(body, data)
        assert not body.is_too_large
        assert body.take() == b"x" * 10


def test_a_size_over_the_limit_is_known_before_the_first_byte():
    assert Sized(10, 11).is_too_large
    assert not Sized(10, 10).is_too_large
    for size, over in [(b"a", False), (b"b", True), (b"ffffffffffffffff", True)]:
        body = Chunked(10)
        feed(body, size + b"\r\n")
        assert body.is_too_large is over
    body = Chunked(10)
    feed(body, b"9\r\n" + b"x" * 9 + b"\r\n2\r\n")
    assert body.is_too_large


def test_a_body_in_tiny_pieces_costs_its_size():
    body = Body(50_000)
    tracemalloc.start()
    try:
        for _ in range(50_000):
            body.feed(b"x", 0)
        assert tracemalloc.get_traced_memory()[0] < 150_000
    finally:
        tracemalloc.stop()
    assert body.take() == b"x" * 50_000


def test_a_body_in_tiny_pieces_is_not_copied_for_each():
    body = Body(10)
    feed(body, b"a", b"b")
    kept = body._data
    feed(body, b"c")
    assert body._data is kept
    assert body.take() == b"abc"


def test_the_shortcut_for_complete_chunks_reads_an_equal_body():
    data = b"1\r\nx\r\n" * 20_000
    quick, plain = Chunked(LIMIT), Chunked(LIMIT)
    plain._line_start = b"1\r\n"[:1]
    start = time.process_time()
    quick.feed(data, 0)
    between = time.process_time()
    plain.feed(data[1:], 0)
    end = time.process_time()
    assert quick.take() == plain.take() == b"x" * 20_000
    assert between - start < end - between


@examples(100)
@given(bodies, places, places)
def test_a_discarded_body_ends_where_it_would_and_keeps_nothing(data, chunks, places):
    for body, sent in ((Sized(LIMIT, len(data)), data), (Chunked(LIMIT), chunked(data, chunks))):
        body.discard()
        for piece in cut(sent, places):
            body.feed(piece, 0)
            assert body._data == b""
        assert body.complete
        assert body.take() == b""


def test_a_discarded_body_has_its_limit():
    body = Chunked(4)
    body.discard()
    body.feed(b"3\r\nabc\r\n", 0)
    assert not body.is_too_large
    body.feed(b"2\r\nab\r\n", 0)
    assert body.is_too_large
