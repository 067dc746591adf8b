"""Section 5.4: fragmentation."""

from itertools import product

import pytest

from tests.conformance.requirements import covers
from tests.conformance.wire import PROTOCOL_ERROR, closing, failure, remaining
from tests.support.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from tests.support.stage import Stage
from wsaas.events import Message
from wsaas.websocket.decoder import FrameDecoder
from wsaas.websocket.frames import Received


@covers("5.4-1")
@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
async def test_a_fragmented_control_frame_fails_the_connection(stage: Stage, opcode: int) -> None:
    node = await stage.node()
    for payload in (b"", b"\x03\xe8"):
        broken = frame(opcode, payload, fin=False) + frame(CONTINUATION, b"x")
        assert await failure(node, broken) == PROTOCOL_ERROR
        assert await failure(node, frame(TEXT, b"a", fin=False) + broken) == PROTOCOL_ERROR


@covers("5.4-2", "5.4-5", "5.4-6", "6.2-3")
@pytest.mark.parametrize(
    ("opcode", "kind"), [(TEXT, "text/plain; charset=utf-8"), (BINARY, "application/octet-stream")]
)
async def test_fragments_become_one_message_with_the_type_of_the_first(stage: Stage, opcode: int, kind: str) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    for pieces in ([b"one"], [b"t", b"wo"], [b"", b"th", b"", b"re", b"e", b""], [b"four"] * 40):
        *before, last = pieces
        first = opcode
        for piece in before:
            raw.send(frame(first, piece, fin=False))
            first = CONTINUATION
        raw.send(frame(first, last))
        put = await stage.backend.take("PUT")
        assert (put.body, put.headers["content-type"]) == (b"".join(pieces), kind)


@covers("5.4-5")
async def test_an_empty_message_may_have_one_frame_or_several(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(frame(TEXT))
    assert (await stage.backend.take("PUT")).body == b""
    raw.send(frame(BINARY, fin=False) + frame(CONTINUATION, fin=False) * 3 + frame(CONTINUATION))
    put = await stage.backend.take("PUT")
    assert (put.body, put.headers["content-type"]) == (b"", "application/octet-stream")


@covers("5.4-7", "5.4-2")
def test_a_message_does_not_depend_on_the_boundaries_of_its_frames_and_reads() -> None:
    payload = "añ🙂".encode()
    for cut in range(1 << (len(payload) - 1)):
        pieces = [b""]
        for at, byte in enumerate(payload):
            if at and cut >> (at - 1) & 1:
                pieces.append(b"")
            pieces[-1] += bytes([byte])
        data = b"".join(
            frame(CONTINUATION if at else TEXT, piece, fin=at == len(pieces) - 1) for at, piece in enumerate(pieces)
        )
        stream = FrameDecoder(100)
        messages: list[Received] = []
        for at in range(0, len(data), cut % 5 + 1):
            stream.receive(data[at : at + cut % 5 + 1])
            messages += remaining(stream)
        assert messages == [Message(True, payload)]


@covers("5.4-3", "5.4-6")
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_message_that_begins_within_another_fails_the_connection(stage: Stage, opcode: int) -> None:
    node = await stage.node()
    for first, fin in product([TEXT, BINARY], [True, False]):
        begun = frame(first, b"a", fin=False)
        for meanwhile in (b"", frame(CONTINUATION, b"b", fin=False), frame(PONG)):
            assert await failure(node, begun + meanwhile + frame(opcode, b"c", fin=fin)) == PROTOCOL_ERROR
    assert stage.backend.count("PUT") == 0


@covers("5.4-3")
@pytest.mark.parametrize("fin", [True, False])
async def test_a_continuation_without_a_message_fails_the_connection(stage: Stage, fin: bool) -> None:
    node = await stage.node()
    alone = frame(CONTINUATION, b"a", fin=fin)
    assert await failure(node, alone) == PROTOCOL_ERROR
    assert await failure(node, frame(CONTINUATION, fin=fin)) == PROTOCOL_ERROR
    assert await failure(node, frame(TEXT, b"whole") + alone) == PROTOCOL_ERROR
    ended = frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b")
    assert await failure(node, ended + alone) == PROTOCOL_ERROR


@covers("5.4-4", "5.5.2-1", "5.5.3-1", "6.2-2")
async def test_a_ping_within_a_fragmented_message_is_answered_before_its_end(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(frame(TEXT, b"o", fin=False) + frame(PING, b"1") + frame(PONG, b"unasked"))
    assert await raw.frame() == (PONG, b"1")
    raw.send(frame(CONTINUATION, b"n", fin=False) + frame(PING, b"2") + frame(PING, b"3"))
    assert [await raw.frame(), await raw.frame()] == [(PONG, b"2"), (PONG, b"3")]
    raw.send(frame(CONTINUATION, b"e"))
    assert (await stage.backend.take("PUT")).text == "one"


@covers("5.4-4", "5.5.1-3", "6.2-2")
async def test_a_close_within_a_fragmented_message_is_answered_and_the_message_dropped(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(frame(TEXT, b"o", fin=False))
    await closing(raw, 1001)
    assert (await stage.backend.take("DELETE")).json["messages_in"] == 0
