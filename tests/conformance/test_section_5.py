"""Sections 5.1 to 5.3: masking and frame headers."""

import struct
from itertools import product

import pytest

from tests.conformance.requirements import covers
from tests.conformance.wire import EVERY_OPCODE, MANY, PROTOCOL_ERROR, failure, with_length
from tests.support.clients import upgrade
from tests.support.frames import BINARY, CLOSE, CONTINUATION, PING, TEXT, frame
from tests.support.stage import Stage
from tests.support.waiting import with_timeout


@covers("5.1-1", "5.5.1-5")
@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"x" * 125])
async def test_an_unmasked_frame_ends_the_connection(stage: Stage, payload: bytes) -> None:
    node = await stage.node()
    for opcode in EVERY_OPCODE:
        assert await failure(node, frame(opcode, payload, masked=False) + frame(TEXT, b"goes nowhere")) == 1002
    assert stage.backend.count("PUT") == 0


@covers("5.1-1")
@pytest.mark.parametrize("size", [126, 65536])
async def test_a_long_unmasked_frame_ends_the_connection_before_it_is_complete(stage: Stage, size: int) -> None:
    node = await stage.node()
    assert await failure(node, frame(BINARY, bytes(size), masked=False)[:10]) == PROTOCOL_ERROR


@covers("5.1-1")
async def test_an_unmasked_fragment_ends_the_connection(stage: Stage) -> None:
    node = await stage.node()
    start = frame(TEXT, b"a", fin=False)
    assert await failure(node, start + frame(CONTINUATION, b"b", masked=False)) == PROTOCOL_ERROR
    assert await failure(node, start + frame(PING, masked=False) + frame(CONTINUATION, b"b")) == PROTOCOL_ERROR


@covers("5.1-2", "5.2-1", "5.2-5", "5.4-1", "6.1-2", "6.1-3", "6.1-4")
@pytest.mark.parametrize("size", MANY)
@pytest.mark.parametrize(("kind", "first"), [("text/plain", b"\x81"), ("image/png", b"\x82")])
async def test_a_message_is_sent_in_one_final_unmasked_frame_of_the_shortest_form(
    stage: Stage, kind: str, first: bytes, size: int
) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    client = (await stage.backend.take("POST")).client
    body = b"x" * size
    assert (await node.rest("PUT", client, body, Content_Type=kind)).status == 200
    if size < 126:
        expected = first + bytes([size])
    elif size < 65536:
        expected = first + b"\x7e" + struct.pack("!H", size)
    else:
        expected = first + b"\x7f" + struct.pack("!Q", size)
    assert await with_timeout(raw.reader.readexactly(len(expected) + size)) == expected + body


@covers("5.1-2", "5.2-1", "5.2-5", "5.4-1", "5.5-1")
async def test_control_frames_are_sent_unmasked_in_one_frame(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(frame(PING, b"x" * 125))
    assert await with_timeout(raw.reader.readexactly(127)) == b"\x8a\x7d" + b"x" * 125
    raw.send(frame(CLOSE, struct.pack("!H", 1000) + b"y" * 123))
    assert await with_timeout(raw.reader.readexactly(127)) == b"\x88\x7d\x03\xe8" + b"y" * 123
    await raw.end()


@covers("5.1-2", "5.2-1", "5.4-1", "5.5-1")
async def test_a_ping_of_the_server_is_sent_unmasked_in_one_frame(stage: Stage) -> None:
    node = await stage.node(ws_timeout=200)
    raw = await node.upgraded()
    assert await with_timeout(raw.reader.readexactly(2)) == b"\x89\x00"


@covers("5.2-2", "5.8-1")
@pytest.mark.parametrize("reserved", range(1, 8))
async def test_a_reserved_bit_fails_the_connection(stage: Stage, reserved: int) -> None:
    node = await stage.node()
    for opcode, payload in product(EVERY_OPCODE, [b"", b"\x03\xe8"]):
        assert await failure(node, frame(opcode, payload, reserved=reserved) + frame(TEXT)) == PROTOCOL_ERROR
    start = frame(TEXT, b"a", fin=False)
    assert await failure(node, start + frame(CONTINUATION, b"b", reserved=reserved)) == PROTOCOL_ERROR
    assert await failure(node, frame(TEXT, b"a", fin=False, reserved=reserved)) == PROTOCOL_ERROR
    assert stage.backend.count("PUT") == 0


@covers("5.2-2", "5.8-1")
async def test_an_extension_that_was_not_accepted_may_not_be_used(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.raw()
    raw.send(upgrade("/", "Sec-WebSocket-Extensions: permessage-deflate"))
    assert "Sec-WebSocket-Extensions" not in (await raw.answer()).headers
    raw.send(frame(TEXT, bytes.fromhex("f248cdc9c90700"), reserved=4))
    assert (await raw.closing())[0] == PROTOCOL_ERROR


@covers("5.2-3")
@pytest.mark.parametrize("opcode", [*range(3, 8), *range(11, 16)])
async def test_an_unknown_opcode_fails_the_connection(stage: Stage, opcode: int) -> None:
    node = await stage.node()
    for payload in (b"", b"x" * 125):
        assert await failure(node, frame(opcode, payload) + frame(TEXT)) == PROTOCOL_ERROR
    assert await failure(node, frame(TEXT, b"a", fin=False) + frame(opcode, b"b")) == PROTOCOL_ERROR
    assert await failure(node, frame(opcode, b"a", fin=False)) == PROTOCOL_ERROR


@covers("5.2-4", "10.4-1")
@pytest.mark.parametrize("length", [1 << 63, (1 << 64) - 1, (1 << 63) + 5])
async def test_a_length_with_its_top_bit_set_fails_the_connection(stage: Stage, length: int) -> None:
    node = await stage.node()
    for opcode in (TEXT, BINARY):
        huge = with_length(opcode, length, "!Q")
        assert await failure(node, huge + b"hello") == PROTOCOL_ERROR
        assert await failure(node, frame(opcode, b"a", fin=False) + b"\x80" + huge[1:]) == PROTOCOL_ERROR


@covers("5.2-6")
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 5, 124, 125])
async def test_a_length_in_16_bits_that_fits_into_7_fails_the_connection(stage: Stage, opcode: int, size: int) -> None:
    node = await stage.node()
    assert await failure(node, with_length(opcode, size, "!H", bytes(size))) == PROTOCOL_ERROR


@covers("5.2-6")
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 125, 126, 65535])
async def test_a_length_in_64_bits_that_fits_into_16_fails_the_connection(stage: Stage, opcode: int, size: int) -> None:
    node = await stage.node()
    assert await failure(node, with_length(opcode, size, "!Q", bytes(size))) == PROTOCOL_ERROR
