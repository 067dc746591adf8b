import tracemalloc
from functools import partial
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from tests.support.frames import BINARY, CLOSE, FIN, PING, PONG, TEXT, frame
from tests.support.strategies import cut, examples, frame_streams, good_streams, masks, places, spoilt_text, xor
from tests.support.traced import traced_memory
from wsaas.events import Message
from wsaas.websocket import frames, wsproto_frames
from wsaas.websocket.decoder import MAX_SHORT_PIECE, MIN_LONG_PAYLOAD, FrameDecoder
from wsaas.websocket.frames import Close, Ping, Pong, Received, Violation
from wsaas.websocket.masking import unmask
from wsaas.websocket.watched_decoder import WatchedDecoder
from wsaas.websocket.wsproto_frames import MAX_FRAGMENTS

UNLIMITED = 2**63
PROTOCOL_ERROR, BAD_TEXT, TOO_BIG = 1002, 1007, 1009
LATE_CODE = pack("!H", 1014)
SEVERAL_LIMITS = st.sampled_from([0, 1, 10, 125, 126, 300, 65535, 65536, UNLIMITED])


def drain(stream: FrameDecoder) -> list[Received]:
    received = []
    while (one := stream.next()) is not None or stream.pending:
        received += [one] if one is not None else []
    return received


def receive_all(stream: FrameDecoder, pieces) -> list[Received]:
    received = []
    for piece in pieces:
        stream.receive(piece)
        received += drain(stream)
    return received


def receive(data: bytes, limit: int = UNLIMITED, *, fast: bool = True) -> list[Received]:
    return receive_all(FrameDecoder(limit, fast=fast), [data])


class Bare(FrameProtocol):
    """wsproto, which does not know a code that was registered late."""

    def _process_close(self, got):
        if bytes(got.payload[:2]) != LATE_CODE:
            return super()._process_close(got)
        known = super()._process_close(got._replace(payload=pack("!H", 1013) + got.payload[2:]))
        assert isinstance(known.payload, tuple)
        return known._replace(payload=(1014, known.payload[1]))


def bare(data: bytes) -> list[Received]:
    """What wsproto alone makes of `data`."""
    protocol = Bare(client=False, extensions=[])
    protocol.receive_bytes(data)
    received: list[Received] = []
    message = b""
    try:
        for got in protocol.received_frames():
            if isinstance(got.payload, tuple):
                assert got.opcode is Opcode.CLOSE
                received.append(Close(*got.payload))
            elif got.opcode is Opcode.PING:
                assert not isinstance(got.payload, str)
                received.append(Ping(bytes(got.payload)))
            elif got.opcode is Opcode.PONG:
                received.append(Pong())
            else:
                message += got.payload.encode() if isinstance(got.payload, str) else got.payload
                if got.message_finished:
                    received.append(Message(got.opcode is Opcode.TEXT, message))
                    message = b""
    except ParseFailed as error:
        received.append(Violation(int(error.code), ""))
    return received


def without_reasons(received: list[Received]) -> list[Received]:
    return [Violation(each.code, "") if isinstance(each, Violation) else each for each in received]


def unfinished_long_text(data: bytes) -> int | None:
    """Return where a long text in one frame begins whose end is missing in `data`; None without one."""
    at = 0
    while at + 2 <= len(data):
        length = data[at + 1] & 0x7F
        extended = {126: 2, 127: 8}.get(length, 0)
        payload = at + 2 + extended + (4 if data[at + 1] & 0x80 else 0)
        if extended:
            length = int.from_bytes(data[at + 2 : at + 2 + extended], "big")
        if payload + length > len(data):
            is_long_text = data[at] == FIN | TEXT and length >= MIN_LONG_PAYLOAD
            return at if is_long_text and payload <= len(data) else None
        at = payload + length
    return None


def valid_results(data: bytes, decode) -> list[list[Received]]:
    """Return what a decoder may make of `data`: `decode(data)`, or without the violation of an unfinished long text.

    The text of a long frame may be checked at its first invalid byte or at its end.
    """
    results = [decode(data)]
    start = unfinished_long_text(data)
    if start is not None and results[0] and isinstance(last := results[0][-1], Violation) and last.code == BAD_TEXT:
        results.append(decode(data[:start]))
    return results


@pytest.mark.parametrize("cuts", [[], [3]])
def test_a_long_text_is_refused_at_its_first_invalid_byte_or_at_its_end(cuts):
    start = frame(PING) + b"\x81\xfe\x40\x00" + bytes(4) + b"\x80"
    assert unfinished_long_text(start) == len(frame(PING))
    stream = FrameDecoder(UNLIMITED)
    assert without_reasons(receive_all(stream, cut(start, cuts))) in valid_results(start, bare)
    complete = start + bytes(0x4000 - 1)
    assert unfinished_long_text(complete) is None
    assert without_reasons(receive_all(FrameDecoder(UNLIMITED), cut(complete, cuts))) == bare(complete)


# Decoding in place and by wsproto


@examples(400)
@given(frame_streams, places)
def test_any_bytes_cut_anywhere_are_decoded_as_by_wsproto(data, places):
    expected = valid_results(data, bare)
    assert without_reasons(receive(data)) in expected
    assert without_reasons(receive_all(FrameDecoder(UNLIMITED), cut(data, places))) in expected


@examples(400)
@given(frame_streams, places, SEVERAL_LIMITS)
def test_fast_decoding_returns_what_wsproto_returns(data, places, limit):
    expected = valid_results(data, partial(receive, limit=limit, fast=False))
    assert receive(data, limit) in expected
    assert receive_all(FrameDecoder(limit), cut(data, places)) in expected
    assert receive_all(FrameDecoder(limit, fast=False), cut(data, places)) == expected[0]


def shortcut_agrees(data: bytes, limit: int) -> bool:
    """Return whether the shortcut takes `data`; if so, check that the decoder returns the same, and nothing else."""
    stream = FrameDecoder(limit)
    message = stream.decode_message(data)
    assert not stream.pending
    if message is None:
        return False
    assert receive(data, limit) == receive(data, limit, fast=False) == [message]
    assert receive_all(stream, [data]) == [message]
    return True


@examples(400)
@given(frame_streams, SEVERAL_LIMITS)
def test_the_shortcut_for_a_message_returns_what_the_decoder_returns(data, limit):
    shortcut_agrees(data, limit)


@pytest.mark.parametrize("size", [0, 1, 124, 125, 126, 127, 133, 300, 65535])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_the_shortcut_takes_messages_of_less_than_64_kib(opcode, size):
    assert shortcut_agrees(frame(opcode, b"x" * size), 65535)
    assert not shortcut_agrees(frame(opcode, b"x" * size) + b"\x81", 65535)
    assert not shortcut_agrees(frame(opcode, b"x" * size)[:-1], 65535)
    assert not size or not shortcut_agrees(frame(opcode, b"x" * size), size - 1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        frame(TEXT, b"x" * 65536),
        frame(TEXT, b"\xff"),
        frame(PING, b"x"),
        frame(CLOSE, b""),
        b"\x01" + frame(TEXT, b"a")[1:],
        b"\xc1" + frame(TEXT, b"a")[1:],
        b"\x81\x04abcd",
        # Sizes that are written longer than necessary, or would be if two bytes were the payload.
        b"\x81\xfe\x00\x7d" + bytes(4 + 125),
        b"\x81\xfe" + bytes(4 + 126),
        b"\x81\xff" + bytes(4 + 127),
        b"\x81\xff" + (126).to_bytes(8, "big") + bytes(4 + 126),
    ],
)
def test_the_shortcut_leaves_all_else_to_the_decoder(data):
    assert not shortcut_agrees(data, 1 << 20)


def test_the_shortcut_takes_text_in_utf8():
    assert shortcut_agrees(frame(TEXT, "é🙂".encode()), 100)


@pytest.mark.parametrize("before", [frame(TEXT, b"abc")[:3], b"\x01\x81\0\0\0\0a", frame(CLOSE, b"")])
def test_the_shortcut_takes_nothing_behind_something_unfinished(before):
    stream = FrameDecoder(UNLIMITED)
    stream.receive(before)
    stream.next()
    assert stream.decode_message(frame(TEXT, b"x")) is None


def test_the_shortcut_of_a_watched_decoder_reports_the_message():
    reported: list[Received] = []
    stream = WatchedDecoder(FrameDecoder(UNLIMITED), reported.append)
    assert stream.decode_message(frame(TEXT, b"x") * 2) is None
    assert not reported
    message = stream.decode_message(frame(TEXT, b"x"))
    assert message == Message(True, b"x")
    assert reported == [message]


@examples(300)
@given(frame_streams, SEVERAL_LIMITS)
def test_a_limit_only_ever_takes_away_what_comes_from_the_first_message_over_it(data, limit):
    everything, limited = receive(data), receive(data, limit)
    over = [i for i, each in enumerate(everything) if isinstance(each, Message) and len(each.data) > limit]
    if limited and limited[-1] == Violation(TOO_BIG, f"message over {limit} bytes"):
        assert limited[:-1] == everything[: len(limited) - 1]
        assert not over or len(limited) - 1 <= over[0]
    else:
        assert not over
        assert limited == everything


@examples(200)
@given(good_streams, places, st.lists(st.integers(0, 3), min_size=1))
def test_reading_may_stop_between_any_two_messages(data, places, turns):
    expected = receive(data)
    stream, received = FrameDecoder(UNLIMITED), []
    for index, piece in enumerate(cut(data, places)):
        stream.receive(piece)
        received += [stream.next() for _ in range(turns[index % len(turns)])]
    assert [each for each in received if each is not None] + drain(stream) == expected


@pytest.mark.parametrize("fast", [True, False])
def test_a_frame_cut_anywhere_gives_the_same_messages(fast):
    data = frame(TEXT, "añ🙂".encode()) + frame(BINARY, b"b" * 126) + frame(PING, b"p") + frame(TEXT)
    expected = [Message(True, "añ🙂".encode()), Message(False, b"b" * 126), Ping(b"p"), Message(True, b"")]
    for place in range(len(data) + 1):
        assert receive_all(FrameDecoder(126, fast=fast), cut(data, [place])) == expected


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 100_000])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_of_every_size_comes_out_as_it_went_in(opcode, size, fast):
    payload = b"x" * size
    assert receive(frame(opcode, payload), fast=fast) == [Message(opcode == TEXT, payload)]


@pytest.mark.parametrize("size", [126, 65535, 65536])
def test_an_incomplete_header_is_kept_until_it_is_complete(size):
    data = frame(BINARY, b"x" * size)
    for place in range(1, 16):
        stream = FrameDecoder(UNLIMITED)
        assert receive_all(stream, [data[:place]]) == []
        assert receive_all(stream, [data[place:]]) == [Message(False, b"x" * size)]


def test_a_complete_message_needs_no_wsproto(monkeypatch):
    monkeypatch.setattr(wsproto_frames, "FrameProtocol", None)
    sizes = [0, 1, 125, 126, 65535, 65536]
    each_alone = [frame(TEXT, b"x" * size) for size in sizes]
    for pieces in (each_alone, [b"".join(each_alone)]):
        messages = receive_all(FrameDecoder(65536), pieces)
        assert messages == [Message(True, b"x" * size) for size in sizes]
    with pytest.raises(TypeError):
        receive(each_alone[0], fast=False)


def test_a_complete_control_frame_needs_no_wsproto(monkeypatch):
    monkeypatch.setattr(wsproto_frames, "FrameProtocol", None)
    data = frame(PING, b"p" * 125) + frame(PONG) + frame(CLOSE, pack("!H", 1000) + b"bye") + frame(PING)
    assert receive(data) == [Ping(b"p" * 125), Pong(), Close(1000, "bye")]


def test_wsproto_is_dropped_when_it_has_no_part_of_a_message():
    stream = FrameDecoder(UNLIMITED)
    data = frame(TEXT, b"ab", fin=False) + frame(PING) + frame(0, b"cd") + frame(PONG) + frame(TEXT, b"ef")
    for piece in cut(data, range(len(data))):
        stream.receive(piece)
        drain(stream)
    assert stream._reader is None
    assert stream._buffer == b""


def test_a_message_that_was_read_is_not_kept():
    stream = FrameDecoder(UNLIMITED)
    stream.receive(frame(TEXT, b"a") + frame(TEXT, b"b"))
    assert stream.next() == Message(True, b"a")
    assert stream._buffer != b""
    assert stream.next() == Message(True, b"b")
    assert stream._buffer == b""


def test_no_bytes_give_no_message():
    stream = FrameDecoder(10)
    assert stream.next() is None
    stream.receive(b"")
    assert stream.next() is None


# What a frame may be


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(
    "data",
    [
        frame(0x3),
        frame(0x7, b"x"),
        frame(0xB),
        frame(0xF),
        frame(TEXT, b"x", reserved=4),
        frame(TEXT, b"x", reserved=2),
        frame(BINARY, b"x", reserved=1),
        frame(PING, b"x", reserved=4),
        frame(PING, b"x", fin=False),
        frame(CLOSE, fin=False),
        frame(0, b"x"),
        frame(0, b"", fin=False),
        frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"),
        frame(TEXT, b"x", fin=False) + frame(BINARY, b"y"),
        frames.encode(TEXT, b"not masked"),
        frames.encode(PING, b""),
        bytes([FIN | TEXT, 0xFE, 0, 125]) + b"mask" + bytes(125),
        bytes([FIN | TEXT, 0xFF]) + pack("!Q", 65535) + b"mask" + bytes(65535),
        bytes([FIN | TEXT, 0xFF]) + pack("!Q", 2**63) + b"mask",
        bytes([FIN | PING, 0xFE, 0, 126]) + b"mask" + bytes(126),
        frame(CLOSE, b"\x03"),
        frame(CLOSE, pack("!H", 999)),
        frame(CLOSE, pack("!H", 1005)),
        frame(CLOSE, pack("!H", 1006)),
        frame(CLOSE, pack("!H", 1015)),
        frame(CLOSE, pack("!H", 2999)),
        frame(CLOSE, pack("!H", 5000)),
    ],
)
def test_a_broken_frame_is_a_protocol_error_and_the_last_of_its_stream(data, fast):
    *before, last = receive(frame(PING, b"1") + data + frame(TEXT, b"after"), fast=fast)
    assert before == [Ping(b"1")]
    assert isinstance(last, Violation)
    assert last.code == PROTOCOL_ERROR
    assert last.reason


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("size", [200, 65536])
def test_a_frame_that_is_cut_in_its_header_is_decoded(size, fast):
    data = frame(BINARY, bytes(size))
    for place in range(1, 16):
        stream = FrameDecoder(UNLIMITED, fast=fast)
        assert receive_all(stream, [data[:place]]) == []
        assert receive_all(stream, [data[place:] + frame(TEXT, b"after")]) == [
            Message(False, bytes(size)),
            Message(True, b"after"),
        ]


@pytest.mark.parametrize("fast", [True, False])
@examples(30)
@given(bad=spoilt_text, before=st.text(max_size=10), mask=masks)
def test_text_that_is_not_utf8_is_refused_in_one_frame_and_in_many(fast, bad, before, mask):
    text = before.encode()
    refused = [Violation(BAD_TEXT, "text that is not UTF-8")]
    assert receive(frame(TEXT, text + bad, mask) + frame(TEXT, b"after"), fast=fast) == refused
    in_two = frame(TEXT, text, mask, fin=False) + frame(0, bad, mask) + frame(TEXT, b"after")
    assert receive(in_two, fast=fast) == refused
    assert receive(frame(BINARY, bad), fast=fast) == [Message(False, bad)]


def test_a_character_may_be_cut_by_fragments():
    euro = "€".encode()
    data = frame(TEXT, euro[:1], fin=False) + frame(PING) + frame(0, euro[1:2], fin=False) + frame(0, euro[2:])
    assert receive(data) == [Ping(b""), Message(True, euro)]


def test_bad_text_is_refused_before_its_frame_ends():
    start = frame(TEXT, b"\xff" + b"x" * 100)[:7]
    assert receive(start) == [Violation(BAD_TEXT, "text that is not UTF-8")]


def test_a_ping_comes_at_once_with_its_payload_and_a_pong_without():
    assert receive(frame(PING, b"x" * 125) + frame(PONG, b"y")) == [Ping(b"x" * 125), Pong()]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", Close(1005, "")),
        (pack("!H", 1000), Close(1000, "")),
        (pack("!H", 1001) + "bis später".encode(), Close(1001, "bis später")),
        (pack("!H", 4999) + b"x" * 123, Close(4999, "x" * 123)),
        (pack("!H", 1000) + b"\xff", Violation(1007, "a reason that is not UTF-8")),
    ],
)
@pytest.mark.parametrize("fast", [True, False])
def test_a_close_says_why_and_is_the_last_of_its_stream(payload, expected, fast):
    stream = FrameDecoder(UNLIMITED, fast=fast)
    assert receive_all(stream, [frame(CLOSE, payload) + frame(TEXT, b"x"), frame(CLOSE, payload)]) == [expected]
    assert stream._buffer == b""


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
def test_a_close_with_a_code_that_may_not_be_sent_is_a_violation(code):
    expected = Violation(1002, "a Close with a code that may not be sent")
    assert receive(frame(CLOSE, pack("!H", code))) == [expected]


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1012, 1013, 1014, 3000, 4999])
def test_a_close_may_carry_any_code_that_is_registered_or_free(code):
    data = frame(CLOSE, pack("!H", code) + b"bye")
    assert receive(data) == [Close(code, "bye")]
    assert receive_all(FrameDecoder(0), cut(data, range(len(data)))) == [Close(code, "bye")]


def test_half_a_close_code_is_a_violation():
    assert receive(frame(CLOSE, b"\x03")) == [Violation(1002, "a Close with a code that may not be sent")]


@pytest.mark.parametrize("fast", [True, False])
def test_nothing_follows_a_violation_however_much_comes(fast):
    stream = FrameDecoder(10, fast=fast)
    stream.receive(frame(TEXT, b"\xff") + frame(TEXT, b"a"))
    assert stream.next() == Violation(1007, "text that is not UTF-8")
    for _ in range(3):
        stream.receive(frame(TEXT, b"b") + frame(PING) + frame(CLOSE))
        assert stream.next() is None
        assert stream._buffer == b""


# The limit


@pytest.mark.parametrize("fast", [True, False])
def test_a_message_of_the_limit_passes_and_one_over_it_does_not(fast):
    assert receive(frame(BINARY, bytes(200)), 200, fast=fast) == [Message(False, bytes(200))]
    too_big = [Violation(TOO_BIG, "message over 200 bytes")]
    assert receive(frame(BINARY, bytes(201)), 200, fast=fast) == too_big
    assert receive(frame(TEXT, b"\xff" * 201), 200, fast=fast) == too_big
    assert receive(frame(TEXT, b"x" * 100, fin=False) + frame(0, b"x" * 101), 200, fast=fast) == too_big


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("size", [201, 70_000, 2**63 - 1])
def test_an_oversized_message_is_refused_by_its_header_alone(size, fast):
    whole = frame(BINARY, bytes(201))[:8] if size == 201 else b"\x82\xff" + pack("!Q", size) + b"mask"
    stream = FrameDecoder(200, fast=fast)
    assert receive_all(stream, cut(whole[:-1], range(20))) == []
    assert receive_all(stream, [whole[-1:]]) == [Violation(TOO_BIG, "message over 200 bytes")]


def test_the_start_of_a_character_counts_for_the_limit_too():
    smile = "🙂".encode()
    assert receive(frame(TEXT, smile[:3], fin=False) + frame(0, smile[3:]), 4) == [Message(True, smile)]
    too_big = [Violation(TOO_BIG, "message over 4 bytes")]
    assert receive(frame(TEXT, smile[:3], fin=False) + frame(0, smile[3:] + b"x"), 4) == too_big


def test_a_limit_holds_for_each_message_and_not_for_control_frames():
    data = b"".join(
        [
            frame(TEXT, b"ab", fin=False),
            frame(PING, b"x" * 125),
            frame(0, b"cd"),
            frame(TEXT, b"e", fin=False),
            frame(0, b"fgh"),
        ]
    )
    assert receive(data, 4) == [Ping(b"x" * 125), Message(True, b"abcd"), Message(True, b"efgh")]
    assert receive(data[:-1], 4, fast=False) == [Ping(b"x" * 125), Message(True, b"abcd")]


@pytest.mark.slow
def test_a_message_may_have_seventy_thousand_fragments():
    data = frame(TEXT, b"x", fin=False) + frame(0, b"y", fin=False) * 69_998 + frame(0, b"z")
    assert receive(data, 70_000) == [Message(True, b"x" + b"y" * 69_998 + b"z")]


def test_empty_fragments_cost_no_memory():
    stream = FrameDecoder(10)
    stream.receive(frame(TEXT, b"", fin=False))
    assert stream.next() is None
    many = frame(0, b"", fin=False) * 20_000
    tracemalloc.start()
    try:
        for _ in range(2):
            stream.receive(many)
            assert drain(stream) == []
            # Two bytes for each of them. Python 3.10 keeps the frame objects of functions, which are some kilobytes.
            assert traced_memory() < 40_000
    finally:
        tracemalloc.stop()
    stream.receive(frame(0, b"end"))
    assert stream.next() == Message(True, b"end")


@pytest.mark.parametrize(
    ("fragments", "turns"),
    [(MAX_FRAGMENTS - 1, 0), (MAX_FRAGMENTS, 0), (MAX_FRAGMENTS + 1, 1), (3 * MAX_FRAGMENTS + 1, 3)],
)
def test_a_call_decodes_a_bounded_number_of_fragments(fragments, turns):
    stream = FrameDecoder(10)
    stream.receive(frame(TEXT, b"", fin=False) + frame(0, b"", fin=False) * (fragments - 1))
    for _ in range(turns):
        assert stream.next() is None
        assert stream.pending
    assert stream.next() is None
    assert not stream.pending
    stream.receive(frame(0, b"end"))
    assert stream.next() == Message(True, b"end")
    assert not stream.pending


@pytest.mark.parametrize("last", [frame(CLOSE, pack("!H", 1000)), frame(TEXT, b"\xff"), frame(3)])
def test_nothing_is_pending_behind_an_end(last):
    stream = FrameDecoder(10)
    stream.receive(last + frame(TEXT, b"more") * 10)
    assert stream.next() is not None
    assert not stream.pending
    assert stream.buffered_bytes == 0
    stream.receive(frame(TEXT, b"more"))
    assert stream.next() is None
    assert not stream.pending


def test_buffered_bytes_are_those_of_an_incomplete_message():
    stream = FrameDecoder(1 << 20)
    assert stream.buffered_bytes == 0
    whole = frame(BINARY, b"x" * 100_000)
    stream.receive(whole[:40_000])
    assert stream.next() is None
    assert 39_980 < stream.buffered_bytes <= 40_000
    stream.receive(whole[40_000:])
    assert stream.buffered_bytes == 100_000 or stream.pending
    assert stream.next() == Message(False, b"x" * 100_000)
    assert stream.buffered_bytes == 0
    stream.receive(frame(TEXT, b"abc", fin=False) + frame(0, b"def", fin=False))
    assert stream.next() is None
    assert stream.buffered_bytes == 6


# Long messages


long_payloads = st.builds(
    lambda text, size: text * (size // max(1, len(text)) + 1),
    st.text(min_size=1, max_size=20).map(str.encode),
    st.integers(MIN_LONG_PAYLOAD, 3 * MIN_LONG_PAYLOAD),
)
long_places = st.one_of(
    st.lists(st.integers(0, 4 * MIN_LONG_PAYLOAD), max_size=8),
    st.builds(lambda start, step: range(start, 4 * MIN_LONG_PAYLOAD, step), st.integers(0, 20), st.integers(500, 5000)),
)


@examples(100)
@given(long_payloads, st.sampled_from([TEXT, BINARY]), masks, long_places, st.booleans())
def test_a_long_message_cut_anywhere_is_decoded_as_by_wsproto(payload, opcode, mask, places, spoil):
    payload = payload[: len(payload) // 2] + b"\xff" + payload if spoil else payload
    data = frame(opcode, payload, mask) + frame(PING, b"behind")
    expected = without_reasons(receive(data, fast=False))
    assert without_reasons(receive_all(FrameDecoder(UNLIMITED), cut(data, places))) == expected


@pytest.mark.parametrize("step", [1, 1000, MAX_SHORT_PIECE, MAX_SHORT_PIECE + 1, MIN_LONG_PAYLOAD])
def test_a_long_message_in_pieces_of_one_size_needs_no_wsproto(monkeypatch, step):
    monkeypatch.setattr(wsproto_frames, "FrameProtocol", None)
    header, payload = 8, bytes(range(256)) * (2 * MIN_LONG_PAYLOAD // 256)
    data = frame(BINARY, payload) + frame(TEXT, b"behind")
    stream = FrameDecoder(len(payload))
    end = header + len(payload)
    pieces = cut(data, [*range(header, end, step), end])
    assert receive_all(stream, pieces) == [Message(False, payload), Message(True, b"behind")]
    assert stream._reader is None


def test_nothing_follows_a_long_text_that_is_not_utf8():
    data = frame(TEXT, b"x" * MIN_LONG_PAYLOAD + b"\xff")
    stream = FrameDecoder(UNLIMITED)
    assert receive_all(stream, [data[:100], data[100:-1]]) == []
    assert receive_all(stream, [data[-1:], frame(PING)]) == [Violation(BAD_TEXT, "text that is not UTF-8")]


@pytest.mark.parametrize("large", [0, MAX_SHORT_PIECE + 1])
def test_a_long_message_in_the_smallest_pieces_takes_little_more_than_its_size(large):
    data = frame(BINARY, bytes(3 * MIN_LONG_PAYLOAD))
    step = max(1, large)
    places = [place for start in range(10, len(data), step + 1) for place in (start, start + 1)]
    stream = FrameDecoder(UNLIMITED)
    pieces = list(cut(data, places))
    tracemalloc.start()
    for piece in pieces[:-1]:
        stream.receive(bytes(bytearray(piece)))
        assert stream.next() is None
    held = traced_memory()
    tracemalloc.stop()
    assert held < 1.3 * len(data)
    stream.receive(pieces[-1])
    assert stream.next() == Message(False, bytes(3 * MIN_LONG_PAYLOAD))


# Details


@examples(200)
@given(st.one_of(st.binary(max_size=300), st.just(bytes(range(256)) * 300)), masks)
def test_unmasking_is_what_a_naive_loop_does(payload, mask):
    assert unmask(payload, mask) == xor(payload, mask)


@pytest.mark.parametrize("length", [0, 1, 125])
@pytest.mark.parametrize("size", [2, 8])
def test_a_length_in_more_bytes_than_it_needs_is_a_violation_in_both_ways(size, length):
    head = bytes([0x82, 0x80 | (126 if size == 2 else 127)]) + length.to_bytes(size, "big") + b"\0\0\0\0"
    for fast in (True, False):
        stream = FrameDecoder(1000, fast=fast)
        stream.receive(head + b"x" * length + b"x" * 8)
        received = stream.next()
        assert isinstance(received, Violation)
        assert received.code == 1002
