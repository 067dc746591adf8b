"""Target: the frames of a client, decoded with and without the fast path, and by the reference."""

from collections.abc import Iterator

from tests.fuzz.cutting import pieces
from tests.fuzz.reference import CLOSE, PING, PONG, Decoder, Meaning, sent
from wsaas.events import Message
from wsaas.websocket.decoder import MIN_LONG_PAYLOAD, FrameDecoder
from wsaas.websocket.deflate import Agreement
from wsaas.websocket.frames import (
    BAD_TEXT,
    BINARY,
    NO_STATUS,
    TEXT,
    Close,
    Ping,
    Received,
    Violation,
    deflating,
    encode,
    encode_close,
)

LIMITS = [1 << 20, 0, 1, 5, 125, 126, 300, 70_000]
TURNS = [[99], [0, 1], [1], [2, 0, 3]]
"""How many frames are taken after each piece, because a reader may stop after any of them."""

ANY_HEADER = bytes(15)
"""Completes any header that was begun, and adds a byte of payload."""


def plain(received: list[Received]) -> Iterator[tuple[object, ...]]:
    """Yield the frames, except a violation, as tuples of the reference."""
    for each in received:
        if isinstance(each, Message):
            yield (TEXT if each.text else BINARY, each.data)
        elif isinstance(each, Ping):
            yield (PING, each.payload)
        elif isinstance(each, Close):
            yield (CLOSE, each.code, each.reason)
        elif not isinstance(each, Violation):
            yield (PONG,)


def taken(stream: FrameDecoder, most: int = 1_000_000) -> Iterator[Received]:
    """Yield up to `most` frames. `next` may return None while frames without a result are pending."""
    while most and ((received := stream.next()) is not None or stream.pending):
        if received is not None:
            most -= 1
            yield received


def read(stream: FrameDecoder, data: Iterator[bytes], turns: list[int]) -> list[Received]:
    """Return the frames in `data`, taking as many as `turns` says after each piece."""
    received: list[Received] = []
    for index, piece in enumerate(data):
        stream.receive(piece)
        received += taken(stream, turns[index % len(turns)])
    return received + list(taken(stream))


def check(stream: FrameDecoder, received: list[Received], meaning: Meaning, limit: int, least: int) -> list[Received]:
    """Compare received frames with their meaning; return them, with the violation of a long text once it is complete.

    `least`: the least number of bytes that such a text lacks.
    """
    assert list(plain(received)) == meaning.received
    ends: list[Received] = [each for each in received if isinstance(each, Close | Violation)]
    assert ends in ([], received[-1:])
    if not ends and meaning.failed:
        # A violation may be noticed only once its header is complete, or with a byte of its payload.
        stream.receive(ANY_HEADER)
        ends = [*taken(stream)]
        if not ends and len(ANY_HEADER) < least <= limit:
            # The fast path validates a long text once it is complete, and waits for no other payload.
            stream.receive(bytes(least - len(ANY_HEADER) - 1))
            assert not list(taken(stream))
            stream.receive(bytes(limit))
            ends = [*taken(stream)]
            assert [each.code for each in ends if isinstance(each, Violation)] == [BAD_TEXT]
            received = received + ends
        assert len(ends) == 1
    if ends and isinstance(ends[0], Violation):
        assert ends[0].code in meaning.failed
        encode_close(ends[0].code, ends[0].reason)
    else:
        assert not meaning.failed
    if ends:
        stream.receive(b"\x89\x80\0\0\0\0" * 3)
        assert stream.next() is None, "nothing is decoded after the end"
    for each in received:
        assert not isinstance(each, Message) or len(each.data) <= limit
        answer(each)
    return received


def answer(received: Received) -> None:
    """Encode a received frame and check that the client decodes the same."""
    if isinstance(received, Message):
        opcode = TEXT if received.text else BINARY
        plain_frame = encode(opcode, received.data)
        assert sent(plain_frame) == (opcode, received.data)
        assert plain_frame[0] == 0x80 | opcode
        deflated = deflating(Agreement())(opcode, received.data)
        assert sent(deflated) == (opcode, received.data)
        assert len(deflated) <= len(plain_frame)
    elif isinstance(received, Ping):
        assert sent(encode(PONG, received.payload)) == (PONG, received.payload)
    elif isinstance(received, Close | Violation):
        opcode, payload = sent(encode_close(received.code, received.reason))
        assert opcode == CLOSE
        assert payload[:2] == (b"" if received.code == NO_STATUS else received.code.to_bytes(2, "big"))
        assert received.reason.startswith(payload[2:].decode())


def frames(data: bytes) -> None:
    """The meaning of a stream does not depend on its cuts, the pace of reading, or the fast path."""
    if len(data) < 2:
        return
    how, chosen, stream = data[0], data[1], data[2:]
    limit, turns, deflated = LIMITS[chosen % 8], TURNS[chosen // 8 % 4], bool(chosen // 32 % 2)
    meaning = Decoder(stream, limit, deflated=deflated).read()
    results = []
    for fast, whole in ((True, True), (True, False), (False, bool(chosen // 64 % 2))):
        reader = FrameDecoder(limit, fast=fast, deflated=deflated)
        received = read(reader, iter([stream]) if whole else pieces(stream, how), turns)
        results.append(check(reader, received, meaning, limit, least=MIN_LONG_PAYLOAD - len(stream) if fast else 0))
    # Which of two violations in a deflated message is found first depends on the cuts.
    assert deflated or all(received == results[0] for received in results)
