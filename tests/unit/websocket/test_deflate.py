import re
import zlib
from hashlib import sha512

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.headers import build_extension, parse_extension

from tests.support.strategies import cut, examples, places
from wsaas.websocket.deflate import Agreement, Inflater, Inflation, Overflow, deflate, negotiate, offers

TAIL = b"\0\0\xff\xff"
UNLIMITED = 2**30


def agree(header: str) -> Agreement | None:
    return negotiate(offers(header))


def inflate(data: bytes, limit: int = UNLIMITED) -> bytes:
    inflater = Inflater(limit)
    return inflater.feed(data) + inflater.finish()


# What is offered


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        (" ,, ", []),
        ("a", [("a", [])]),
        ("a, b,,c ,", [("a", []), ("b", []), ("c", [])]),
        ("a;b", [("a", [("b", None)])]),
        ("a ; b = c ;d, e", [("a", [("b", "c"), ("d", None)]), ("e", [])]),
        ('a;b="c"', [("a", [("b", "c")])]),
        ('a;b="\\c\\d"', [("a", [("b", "cd")])]),
        ("a;b;b=1", [("a", [("b", None), ("b", "1")])]),
        ("a\t;\tb", [("a", [("b", None)])]),
    ],
)
def test_offers_are_read_in_order(header, expected):
    assert offers(header) == expected


@pytest.mark.parametrize(
    "header", ["a b", "a;", "a;;b", ";a", "a;b=", "a;=b", 'a;b="', 'a;b=""', 'a;b="c d"', 'a;b="c"d', "a=b", "(", "é"]
)
def test_a_malformed_list_of_extensions_is_refused(header):
    with pytest.raises(ValueError, match=re.escape(header)):
        offers(header)


@examples(300)
@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[a-z0-9._-]{1,8}", fullmatch=True),
            st.lists(
                st.tuples(
                    st.from_regex(r"[a-z_]{1,8}", fullmatch=True),
                    st.none() | st.from_regex(r"[a-z0-9]{1,4}", fullmatch=True),
                ),
                max_size=4,
            ),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_extensions_are_parsed_as_by_another_library(listed):
    header = build_extension(listed)
    assert offers(header) == parse_extension(header) == listed


@examples(300)
@given(st.text('ab;,= \t"\\é', max_size=30))
def test_any_header_is_a_list_or_an_error(header):
    try:
        found = offers(header)
    except ValueError:
        return
    for name, parameters in found:
        assert name.strip("ab") == ""
        assert all(parameter.strip("ab") == "" and value != "" for parameter, value in parameters)


def test_a_long_header_is_read_in_one_go():
    assert len(offers("a;b=c," * 100_000)) == 100_000
    for hopeless in ("a;b" * 100_000 + "=", 'a;b="' + "\\a" * 100_000, "a" + " " * 100_000 + "b", "," * 100_000 + "("):
        with pytest.raises(ValueError, match=re.escape(hopeless[-3:])) as caught:
            offers(hopeless)
        # Compared as text, because compiling such a long pattern takes seconds.
        assert hopeless in str(caught.value)


# What is agreed on


@pytest.mark.parametrize(
    "header",
    [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=8",
        "permessage-deflate; client_max_window_bits=15; client_no_context_takeover",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        'permessage-deflate; client_max_window_bits="10"',
        "x-webkit-deflate-frame, permessage-deflate",
        "permessage-deflate; server_max_window_bits=8, permessage-deflate",
        "permessage-deflate; tomorrow, permessage-deflate",
    ],
)
def test_an_offer_without_a_window_for_the_server_is_met_with_the_largest(header):
    agreement = agree(header)
    assert agreement == Agreement()
    assert agreement.response == "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize("bits", range(9, 16))
def test_a_requested_window_is_used_and_confirmed(bits):
    agreement = agree(f"permessage-deflate; server_max_window_bits={bits}")
    assert agreement == Agreement(bits)
    assert agreement.response.endswith(f"; server_max_window_bits={bits}")


@pytest.mark.parametrize(
    "parameters",
    [
        "server_max_window_bits",
        "server_max_window_bits=7",
        "server_max_window_bits=8",
        "server_max_window_bits=16",
        "server_max_window_bits=09",
        "server_max_window_bits=+9",
        "server_max_window_bits=abc",
        "server_max_window_bits=9; server_max_window_bits=9",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=010",
        "client_max_window_bits=x",
        "client_max_window_bits; client_max_window_bits",
        "server_no_context_takeover=1",
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover=true",
        "client_no_context_takeover; client_no_context_takeover",
        "unknown",
        "unknown=1",
        "Server_no_context_takeover",
    ],
)
def test_an_offer_that_cannot_be_met_is_declined(parameters):
    # RFC 7692 section 7.1
    assert agree(f"permessage-deflate; {parameters}") is None


@pytest.mark.parametrize("header", ["", "x-webkit-deflate-frame", "Permessage-Deflate", "permessage-bzip2"])
def test_nothing_is_agreed_on_without_an_offer(header):
    assert agree(header) is None


@examples(200)
@given(st.booleans(), st.booleans(), st.none() | st.integers(8, 15), st.none() | st.booleans() | st.integers(9, 15))
def test_another_library_accepts_the_response_to_its_offer(server_drops, client_drops, server_bits, client_bits):
    factory = ClientPerMessageDeflateFactory(
        server_no_context_takeover=server_drops,
        client_no_context_takeover=client_drops,
        server_max_window_bits=server_bits,
        client_max_window_bits=None if client_bits is False else client_bits,
    )
    offer = factory.get_request_params()
    agreement = negotiate([("permessage-deflate", [(name, value) for name, value in offer])])
    if server_bits == 8:
        assert agreement is None
        return
    assert agreement is not None
    ((_, answer),) = parse_extension(agreement.response)
    extension = factory.process_response_params(answer, [])
    assert extension.remote_no_context_takeover
    assert extension.local_no_context_takeover
    assert extension.remote_max_window_bits == (server_bits or 15)


def test_the_server_offers_nothing():
    assert Inflation(1).offer() is False


# What is sent


@pytest.mark.parametrize("bits", [None, *range(9, 16)])
def test_a_deflated_message_inflates_to_itself_within_its_window(bits):
    for payload in (b"", b"a", b"abc" * 1000, sha512(b"").digest() * 2000):
        stream = zlib.decompressobj(-(bits or 15))
        assert stream.decompress(deflate(payload, bits) + TAIL) == payload
        assert not stream.eof


@examples(200)
@given(st.binary(max_size=2000) | st.text(max_size=2000).map(str.encode), st.none() | st.integers(9, 15), places)
def test_what_is_deflated_inflates_however_it_is_cut(payload, bits, places):
    inflater = Inflater(len(payload))
    assert (
        b"".join([inflater.feed(piece) for piece in cut(deflate(payload, bits), places)]) + inflater.finish() == payload
    )


# What is received


def test_the_examples_of_the_rfc_inflate():
    # Section 7.2.3: one block, one without compression, one that says that it is the last, two blocks.
    for data in ("f248cdc9c90700", "000500faff48656c6c6f00", "f348cdc9c90700", "f248050000 00ffffcac9c90700"):
        assert inflate(bytes.fromhex(data)) == b"Hello"
    assert inflate(b"\0") == b""


def test_a_bomb_is_stopped_at_the_limit():
    bomb = deflate(bytes(100_000_000))
    assert len(bomb) < 500_000
    inflater = Inflater(1_000_000)
    with pytest.raises(Overflow):
        inflater.feed(bomb)


@pytest.mark.parametrize("limit", [0, 1, 99, 100])
def test_a_message_of_the_limit_passes_and_one_over_it_does_not(limit):
    assert inflate(deflate(bytes(limit)), limit) == bytes(limit)
    with pytest.raises(Overflow):
        inflate(deflate(bytes(limit + 1)), limit)


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x06", b"hello"])
def test_data_that_was_not_deflated_is_refused(data):
    with pytest.raises(ValueError, match="while decompressing data"):
        inflate(data)


LAST = bytes.fromhex("f348cdc9c90700")


@pytest.mark.parametrize("pieces", [[LAST + b"x"], [LAST + b"\0\0"], [LAST, b"\0", b"\0"], [LAST, b"x"], [LAST, LAST]])
def test_nothing_may_follow_the_last_block(pieces):
    inflater = Inflater(UNLIMITED)
    for piece in pieces[:-1]:
        inflater.feed(piece)
    with pytest.raises(ValueError, match="last block"):
        inflater.feed(pieces[-1])


@pytest.mark.parametrize("rest", [b"", b"\0"])
def test_a_last_block_may_stand_alone(rest):
    assert inflate(LAST + rest) == b"Hello"


@examples(300)
@given(st.binary(max_size=200), st.integers(0, 300), places)
def test_any_bytes_inflate_within_the_limit_or_are_refused_however_they_are_cut(data, limit, places):
    def outcome(pieces):
        inflater, inflated = Inflater(limit), b""
        try:
            for piece in pieces:
                inflated += inflater.feed(piece)
            return inflated + inflater.finish()
        except ValueError:
            # What is too long and broken too is refused for what comes to light first.
            return None

    whole = outcome([data])
    assert outcome(cut(data, places)) == whole
    assert whole is None or len(whole) <= limit
