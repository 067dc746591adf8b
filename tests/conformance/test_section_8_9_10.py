"""Sections 8 to 10: invalid UTF-8, extensions, and security on the side of the server."""

import struct
import tracemalloc

import orjson
import pytest

from tests.conformance.requirements import covers
from tests.conformance.wire import BAD_TEXT, PROTOCOL_ERROR, TOO_BIG, failure
from tests.support.clients import upgrade
from tests.support.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from tests.support.stage import Stage
from tests.support.traced import traced_memory
from tests.support.waiting import with_timeout
from wsaas.events import Message
from wsaas.websocket.decoder import FrameDecoder

DEFLATED_HELLO = frame(TEXT, bytes.fromhex("f248cdc9c90700"), reserved=4)
NO_UTF_8 = {
    "a byte that begins nothing": b"\x80",
    "a byte that is never used": b"\xff",
    "a start without its rest": b"\xe2\x82",
    "a start and something else": b"\xe2\x82x",
    "a slash in two bytes": b"\xc0\xaf",
    "a slash in three bytes": b"\xe0\x80\xaf",
    "a slash in four bytes": b"\xf0\x80\x80\xaf",
    "NUL in two bytes": b"\xc0\x80",
    "half of a surrogate pair": b"\xed\xa0\x80",
    "a surrogate pair": b"\xed\xa0\xbd\xed\xb8\x80",
    "beyond the last character": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "UTF-16": "é".encode("utf-16"),
    "Latin-1": "é".encode("latin-1"),
}


# 8.1: UTF-8


@covers("8.1-1", "5.6-1", "10.7-1")
@pytest.mark.parametrize("what", NO_UTF_8)
async def test_a_text_that_is_not_utf_8_fails_the_connection_however_it_arrives(stage: Stage, what: str) -> None:
    node = await stage.node()
    bad = NO_UTF_8[what]
    assert await failure(node, frame(TEXT, bad)) == BAD_TEXT
    assert await failure(node, frame(TEXT, "é".encode() + bad + b"x")) == BAD_TEXT
    assert await failure(node, frame(TEXT, b"x" * 70_000 + bad)) == BAD_TEXT
    fragments = b"".join(frame(CONTINUATION, bad[at : at + 1], fin=False) for at in range(len(bad)))
    assert await failure(node, frame(TEXT, fin=False) + fragments + frame(CONTINUATION, b"x")) == BAD_TEXT
    assert stage.backend.count("PUT") == 0


@covers("8.1-1")
async def test_an_invalid_text_fails_the_connection_at_its_first_invalid_byte(stage: Stage) -> None:
    node = await stage.node()
    assert await failure(node, frame(TEXT, b"\xff" + b"x" * 1000, fin=False)[:20]) == BAD_TEXT


@covers("8.1-1")
@pytest.mark.parametrize("what", NO_UTF_8)
async def test_a_close_whose_reason_is_not_utf_8_fails_the_connection(stage: Stage, what: str) -> None:
    node = await stage.node()
    assert await failure(node, frame(CLOSE, struct.pack("!H", 1000) + NO_UTF_8[what])) == BAD_TEXT


@covers("8.1-1", "5.6-1")
@pytest.mark.parametrize("what", NO_UTF_8)
async def test_a_binary_message_may_contain_any_bytes(stage: Stage, what: str) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(frame(BINARY, NO_UTF_8[what]) + frame(PING, NO_UTF_8[what]))
    assert (await stage.backend.take("PUT")).body == NO_UTF_8[what]
    assert await raw.frame() == (PONG, NO_UTF_8[what])


@covers("5.6-1", "8.1-1")
@pytest.mark.parametrize("what", NO_UTF_8)
async def test_a_text_that_is_not_utf_8_is_never_sent(stage: Stage, what: str) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    client = (await stage.backend.take("POST")).client
    answer = await node.rest("PUT", client, NO_UTF_8[what], Content_Type="text/plain")
    assert (answer.status, answer.code) == (400, "BAD_TEXT")
    assert (await node.rest("PUT", client, NO_UTF_8[what])).status == 200
    assert await raw.frame() == (BINARY, NO_UTF_8[what])
    stage.backend.on["PUT"] = lambda call: call.answer(200, NO_UTF_8[what], Ws_Reply="text")
    raw.send(frame(TEXT, b"asks for a reply"))
    assert await raw.closing() == (1011, "message not delivered")


@covers("8.1-1", "4.2.1-1")
async def test_bytes_beyond_ascii_in_a_handshake_reach_the_backend_as_valid_text_or_not_at_all(stage: Stage) -> None:
    node = await stage.node()
    for header in ("Sec-WebSocket-Protocol: \xff", "Sec-WebSocket-Extensions: \xff", "Sec-WebSocket-Version: \xff"):
        raw = await node.raw()
        raw.send(upgrade("/", header))
        assert (await raw.answer()).status in {400, 426}
        raw.close()
    raw = await node.raw()
    raw.send(upgrade("/", "X-Custom: \xff\xed\xa0\x80"))
    assert (await raw.answer()).status == 101
    asked = orjson.loads((await stage.backend.take("POST")).body.decode())
    assert asked["request"]["headers"]["x-custom"] == "\xff\xed\xa0\x80"


# 9: extensions


@covers("9-1", "4.2.2-6")
@pytest.mark.parametrize("offer", ["", "Sec-WebSocket-Extensions: x-first, x-second; a=1\r\n"])
async def test_only_offered_extensions_are_accepted(stage: Stage, offer: str) -> None:
    node = await stage.node()
    raw = await node.raw()
    raw.send(upgrade()[:-2] + offer.encode() + b"\r\n")
    answer = await raw.answer()
    assert answer.status == 101
    assert "Sec-WebSocket-Extensions" not in answer.headers


@covers("9-1", "4.2.2-6", "11.3.2-1")
@pytest.mark.parametrize("offer", ["", "x-first, x-second; a=1", "permessage-deflate; unknown", "Permessage-Deflate2"])
async def test_only_offered_extensions_are_accepted_with_compression_on(stage: Stage, offer: str) -> None:
    node = await stage.node(compression="on")
    raw = await node.raw()
    raw.send(upgrade("/", *[f"Sec-WebSocket-Extensions: {offer}"] * bool(offer)))
    answer = await raw.answer()
    assert answer.status == 101
    assert "Sec-WebSocket-Extensions" not in answer.headers
    raw.send(DEFLATED_HELLO)
    assert (await raw.closing())[0] == PROTOCOL_ERROR


@covers("9-1", "5.8-1", "11.3.2-1")
async def test_an_extension_offered_twice_is_answered_once_and_used(stage: Stage) -> None:
    node = await stage.node(compression="on")
    raw = await node.raw()
    raw.send(upgrade("/", *["Sec-WebSocket-Extensions: permessage-deflate"] * 2))
    head = (await with_timeout(raw.reader.readuntil(b"\r\n\r\n"))).lower()
    assert head.count(b"sec-websocket-extensions:") == 1
    assert head.count(b"permessage-deflate") == 1
    raw.send(DEFLATED_HELLO)
    assert (await stage.backend.take("PUT")).text == "Hello"


@covers("9-1", "5.2-2")
@pytest.mark.parametrize(
    "broken",
    [
        frame(TEXT, b"x", reserved=2),
        frame(TEXT, b"x", reserved=1),
        frame(TEXT, b"\0", reserved=6),
        frame(PING, reserved=4),
        frame(CLOSE, reserved=4),
        frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"\0", reserved=4),
        frame(TEXT, b"\0", fin=False, reserved=4) + frame(CONTINUATION, b"\0", reserved=4),
    ],
)
async def test_a_reserved_bit_that_the_used_extension_does_not_define_fails_the_connection(
    stage: Stage, broken: bytes
) -> None:
    node = await stage.node(compression="on")
    raw = await node.raw()
    raw.send(upgrade("/", "Sec-WebSocket-Extensions: permessage-deflate"))
    assert "Sec-WebSocket-Extensions" in (await raw.answer()).headers
    raw.send(broken)
    assert (await raw.closing())[0] == PROTOCOL_ERROR
    await raw.end()


@covers("9.1-1")
@pytest.mark.parametrize("offer", ["a;", ";b", "a b", "a;b c", 'a;b="', 'a;b=""', "a/b", "(a)", "a;b=1;", "\x80"])
async def test_a_malformed_offer_of_extensions_ends_the_connection(stage: Stage, offer: str) -> None:
    node = await stage.node()
    raw = await node.raw()
    raw.send(upgrade("/", "Sec-WebSocket-Extensions: permessage-deflate", f"Sec-WebSocket-Extensions: {offer}"))
    answer = await raw.answer()
    assert answer.status == 400
    await raw.end()


# 10: security


@covers("10.4-1")
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_message_over_the_limit_fails_the_connection(stage: Stage, opcode: int) -> None:
    node = await stage.node(max_message_size=1000)
    whole = frame(opcode, b"x" * 1001)
    in_two = frame(opcode, b"x" * 500, fin=False) + frame(CONTINUATION, b"x" * 501)
    in_many = frame(opcode, fin=False) + frame(CONTINUATION, b"x" * 10, fin=False) * 101
    for sent in (whole, in_two, in_many):
        assert await failure(node, sent) == TOO_BIG
    assert stage.backend.count("PUT") == 0


@covers("10.4-1")
@pytest.mark.parametrize("size", [1001, 1 << 16, 1 << 40, (1 << 63) - 1])
async def test_a_frame_over_the_limit_is_refused_once_its_header_is_read(stage: Stage, size: int) -> None:
    node = await stage.node(max_message_size=1000)
    header = b"\x82\xfe" + struct.pack("!H", size) if size < 1 << 16 else b"\x82\xff" + struct.pack("!Q", size)
    assert await failure(node, header + b"\0\0\0\0") == TOO_BIG


@covers("10.4-1")
async def test_a_message_at_the_limit_is_accepted_in_one_frame_or_several(stage: Stage) -> None:
    node = await stage.node(max_message_size=1000)
    raw = await node.upgraded()
    raw.send(frame(BINARY, b"x" * 1000) + frame(BINARY, b"y", fin=False))
    raw.send(frame(CONTINUATION, b"y", fin=False) * 998 + frame(CONTINUATION, b"y"))
    assert (await stage.backend.take("PUT")).body == b"x" * 1000
    assert (await stage.backend.take("PUT")).body == b"y" * 1000


@covers("10.4-1")
def test_endless_empty_fragments_take_no_memory() -> None:
    stream = FrameDecoder(1000)
    fragments = frame(CONTINUATION, fin=False) * 50

    def receive_fragments() -> None:
        for _ in range(500):
            stream.receive(fragments)
            while stream.pending:
                assert stream.next() is None

    stream.receive(frame(TEXT, fin=False))
    tracemalloc.start()
    try:
        receive_fragments()
        before = traced_memory()
        receive_fragments()
        after = traced_memory()
    finally:
        tracemalloc.stop()
    # Python 3.10 keeps the frame objects of functions, which are some kilobytes.
    assert after - before < 5_000
    stream.receive(frame(CONTINUATION))
    assert stream.next() == Message(True, b"")


@covers("10.7-1", "5.1-1")
@pytest.mark.parametrize(
    "noise", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", bytes(100), b"\x16\x03\x01\x00\xa5\x01\x00", b"hello, world\n"]
)
async def test_bytes_other_than_frames_fail_the_connection(stage: Stage, noise: bytes) -> None:
    node = await stage.node()
    assert await failure(node, noise) == PROTOCOL_ERROR
    assert stage.backend.count("PUT") == 0
