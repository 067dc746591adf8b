"""Deflated messages (RFC 7692), as test_framing.py has all others."""

import tracemalloc
import zlib
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame
from wsproto.frame_protocol import FrameProtocol

from tests.support.frames import BINARY, CLOSE, PING, PONG, TEXT, frame
from tests.support.strategies import cut, examples, frame_streams, masks, places
from wsaas.events import Message
from wsaas.websocket import frames
from wsaas.websocket.decoder import FrameDecoder
from wsaas.websocket.deflate import MIN_DEFLATED, Agreement, deflate
from wsaas.websocket.frames import Close, Ping, Received, Violation, deflating, encode

RSV1 = 0x40
UNLIMITED = 2**62


def receive(data, limit=UNLIMITED, pieces=None):
    stream = FrameDecoder(limit, deflated=True)
    received = []
    for piece in cut(data, pieces or []):
        stream.receive(piece)
        while (one := stream.next()) is not None or stream.pending:
            received += [one] if one is not None else []
    return received


def deflated_frame(opcode, payload, **more):
    return frame(opcode, deflate(payload), reserved=4, **more)


# What a client sends


@pytest.mark.parametrize("payload", [b"", b"a", b"hello" * 20, bytes(70_000)])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_deflated_message_arrives_inflated(opcode, payload):
    assert receive(deflated_frame(opcode, payload)) == [Message(opcode == TEXT, payload)]


def test_each_message_says_for_itself_whether_it_is_deflated():
    data = frame(TEXT, b"a") + deflated_frame(TEXT, b"b") + frame(BINARY, b"c") + deflated_frame(BINARY, b"d")
    assert [each.data for each in receive(data)] == [b"a", b"b", b"c", b"d"]


@st.composite
def streams(draw):
    """Draw messages, deflated or not, in fragments with pings between them; and what they are."""
    data = b""
    expected: list[Received] = []
    for _ in range(draw(st.integers(1, 4))):
        text, is_deflated = draw(st.booleans()), draw(st.booleans())
        payload = draw(st.text(max_size=300).map(str.encode) if text else st.binary(max_size=300))
        pieces = list(cut(deflate(payload) if is_deflated else payload, draw(places)))[:50]
        pieces = [b"".join(cut) for cut in (pieces[:1], pieces[1:])] if draw(st.booleans()) else pieces
        payload = payload if b"".join(pieces) in (payload, deflate(payload)) else None
        if payload is None:
            continue
        for index, piece in enumerate(pieces or [b""]):
            reserved, fin = 4 if is_deflated and index == 0 else 0, index >= len(pieces) - 1
            opcode = (TEXT if text else BINARY) if index == 0 else 0
            data += frame(opcode, piece, draw(masks), fin=fin, reserved=reserved)
            if index < len(pieces) - 1 and draw(st.booleans()):
                data += frame(PING, b"p")
                expected.append(Ping(b"p"))
        expected.append(Message(text, payload))
    return data, expected


@examples(300)
@given(streams(), places)
def test_fragmented_messages_arrive_complete_however_their_bytes_are_cut(stream, pieces):
    data, expected = stream
    assert receive(data, pieces=pieces) == expected


@examples(300)
@given(frame_streams, places)
def test_any_bytes_mean_the_same_however_they_are_cut(data, pieces):
    def meaning(received):
        # What is too long and broken too is refused for what comes to light first.
        return ["refused" if isinstance(each, Violation) and each.code != 1002 else each for each in received]

    assert meaning(receive(data, 300, pieces)) == meaning(receive(data, 300))


@pytest.mark.parametrize(
    "data",
    [
        frame(PING, reserved=4),
        frame(PONG, reserved=4),
        frame(CLOSE, reserved=4),
        frame(TEXT, b"a", reserved=2),
        frame(TEXT, b"a", reserved=5),
        deflated_frame(TEXT, b"a", fin=False) + frame(0, b"", reserved=4),
        frame(TEXT, b"a", fin=False) + frame(0, b"", reserved=4),
        deflated_frame(TEXT, b"a", fin=False) + deflated_frame(TEXT, b"b"),
    ],
)
def test_rsv1_is_accepted_only_in_the_first_frame_of_a_message(data):
    # RFC 7692 section 6
    received = receive(data)
    assert [type(each) for each in received] == [Violation]
    assert received[0].code == 1002


def test_without_an_agreement_rsv1_is_a_violation():
    stream = FrameDecoder(UNLIMITED)
    stream.receive(deflated_frame(TEXT, b"a"))
    violation = stream.next()
    assert isinstance(violation, Violation)
    assert violation.code == 1002


def test_invalid_deflate_data_is_refused():
    (violation,) = receive(frame(TEXT, b"\xff\xff\xff", reserved=4))
    assert violation.code == 1007
    assert violation.reason.startswith("deflated data that cannot be inflated: ")


def test_a_truncated_deflated_message_is_refused():
    (violation,) = receive(frame(TEXT, deflate(b"hello" * 50)[:-3], reserved=4))
    assert violation.code == 1007


def test_text_has_to_be_utf8_once_it_is_inflated():
    assert receive(deflated_frame(TEXT, b"a\xff" * 9)) == [Violation(1007, "text that is not UTF-8")]
    assert receive(deflated_frame(BINARY, b"a\xff")) == [Message(False, b"a\xff")]


@pytest.mark.parametrize("limit", [0, 1, 1000])
def test_it_is_the_inflated_size_that_is_limited(limit):
    assert receive(deflated_frame(BINARY, bytes(limit)), limit) == [Message(False, bytes(limit))]
    too_big = [Violation(1009, f"message over {limit} bytes")]
    assert receive(deflated_frame(BINARY, bytes(limit + 1)), limit) == too_big
    halves = frame(BINARY, deflate(bytes(limit)) + b"\0\0\xff\xff", fin=False, reserved=4) + frame(0, deflate(b"x"))
    assert receive(halves, limit) == too_big


def test_a_message_of_the_limit_that_grew_by_being_deflated_passes():
    payload = bytes(range(256)) * 4
    stored = zlib.compressobj(0, zlib.DEFLATED, -15)
    pieces = [stored.compress(payload[at : at + 1]) + stored.flush(zlib.Z_SYNC_FLUSH) for at in range(1024)]
    data = b"".join(pieces)[:-4]
    assert len(data) > 6 * len(payload)
    assert receive(frame(BINARY, data, reserved=4), 1024) == [Message(False, payload)]


@pytest.mark.parametrize("payload", [bytes(range(256)), b"ab"])
def test_a_message_of_the_limit_may_end_with_an_empty_frame(payload):
    data = frame(BINARY, deflate(payload), fin=False, reserved=4) + frame(0)
    assert len(deflate(payload)) > len(payload)
    assert receive(data, len(payload)) == [Message(False, payload)]


def test_a_message_that_inflates_to_nothing_has_a_limit():
    nothing = b"\0\0\0\xff\xff" * 25
    data = frame(BINARY, nothing, fin=False, reserved=4) + frame(0, nothing, fin=False) * 100
    assert receive(data, 100) == [Violation(1009, "message over 100 bytes")]


def test_a_bomb_costs_no_more_than_a_message_may_have():
    limit = 100_000
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = compressor.compress(bytes(50_000_000)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    bomb = frame(BINARY, bomb[:-4], reserved=4)
    stream = FrameDecoder(limit, deflated=True)
    tracemalloc.start()
    try:
        stream.receive(bomb)
        received = list(iter(stream.next, None))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert received == [Violation(1009, f"message over {limit} bytes")]
    assert len(bomb) < limit / 2
    assert peak < 6 * limit


def test_nothing_is_kept_between_two_messages():
    stream = FrameDecoder(UNLIMITED, deflated=True)
    stream.receive(deflated_frame(TEXT, b"a" * 1000))
    assert stream.next() == Message(True, b"a" * 1000)
    assert stream._reader is None


# What a client is sent


def take_apart(data):
    """Read a server's frames by two libraries: wsproto takes them apart, websockets inflates."""
    protocol = FrameProtocol(client=True, extensions=[])
    first, data = data[0], bytes([data[0] & ~RSV1]) + data[1:]
    protocol.receive_bytes(data)
    (got,) = protocol.received_frames()
    return first & RSV1, int(got.opcode), got.payload


def inflated(opcode, payload, bits):
    extension = PerMessageDeflate(
        remote_no_context_takeover=True, local_no_context_takeover=True, remote_max_window_bits=bits or 15,
        local_max_window_bits=15,
    )  # fmt: skip
    return extension.decode(Frame(opcode, payload, fin=True, rsv1=True)).data


@pytest.mark.parametrize("bits", [None, 9, 12, 15])
@pytest.mark.parametrize("size", [MIN_DEFLATED, 1000, 65_535, 65_536, 1_000_000])
def test_a_message_that_shrinks_is_sent_deflated(size, bits):
    payload = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    data = deflating(Agreement(bits))(BINARY, payload)
    is_deflated, opcode, sent = take_apart(data)
    assert is_deflated
    assert opcode == BINARY
    assert len(sent) < size
    assert inflated(BINARY, sent, bits) == payload


@pytest.mark.parametrize("shrunk", [0, 125, 126, 65_535, 65_536])
def test_a_deflated_message_of_each_size_is_a_frame_that_a_client_reads(monkeypatch, shrunk):
    monkeypatch.setattr(frames, "deflate", lambda _payload, _bits: b"x" * shrunk)
    data = deflating(Agreement())(BINARY, bytes(shrunk + MIN_DEFLATED))
    assert take_apart(data) == (RSV1, BINARY, b"x" * shrunk)


@pytest.mark.parametrize("payload", [b"", b"a" * (MIN_DEFLATED - 1), bytes(range(256))])
def test_a_message_that_is_short_or_does_not_shrink_is_not_deflated(payload):
    assert deflating(Agreement())(BINARY, payload) == encode(BINARY, payload)


def test_clients_with_equal_agreements_share_an_encoder():
    assert deflating(Agreement(10)) is deflating(Agreement(10))
    assert deflating(Agreement(10)) is not deflating(Agreement())


def test_a_close_is_read_on_a_deflating_connection():
    assert receive(frame(CLOSE, pack("!H", 1000) + b"bye")) == [Close(1000, "bye")]
