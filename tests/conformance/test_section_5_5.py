"""Sections 5.5 to 5.8: control frames, data frames and extensibility."""

import struct

import pytest

from tests.conformance.requirements import covers
from tests.conformance.wire import BAD_TEXT, PROTOCOL_ERROR, closing, failure, received
from tests.support.frames import BINARY, CLOSE, CONTINUATION, MASK, PING, PONG, TEXT, close_frame, frame
from tests.support.stage import Stage
from wsaas.events import Message
from wsaas.websocket.frames import Violation


@covers("5.5-1")
@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
@pytest.mark.parametrize("size", [126, 65535, 65536])
async def test_a_control_frame_of_more_than_125_bytes_fails_the_connection(
    stage: Stage, opcode: int, size: int
) -> None:
    node = await stage.node()
    payload = struct.pack("!H", 1000) + b"x" * (size - 2)
    assert await failure(node, frame(opcode, payload)) == PROTOCOL_ERROR
    assert await failure(node, frame(opcode, payload)[:2]) == PROTOCOL_ERROR, "its length says enough"


@covers("5.5-1", "7.1.2-1")
@pytest.mark.parametrize("reason", ["x" * 123, "é" * 61, "🙂" * 30])
async def test_a_control_frame_of_up_to_125_bytes_is_sent_and_received(stage: Stage, reason: str) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    client = (await stage.backend.take("POST")).client
    assert (await node.rest("DELETE", client, f'{{"reason": "{reason}"}}')).status == 200
    assert await raw.closing() == (1000, reason)
    raw = await node.upgraded()
    raw.send(close_frame(1000, reason))
    assert await raw.closing() == (1000, reason)


@covers("5.5-1")
@pytest.mark.parametrize("reason", ["x" * 124, "é" * 62, "🙂" * 31])
async def test_a_reason_that_is_too_long_is_refused(stage: Stage, reason: str) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    client = (await stage.backend.take("POST")).client
    answer = await node.rest("DELETE", client, f'{{"reason": "{reason}"}}')
    assert (answer.status, answer.code) == (400, "BAD_CLOSE")
    await closing(raw)


@covers("5.5.1-1")
@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
async def test_a_close_with_an_invalid_code_fails_the_connection(stage: Stage, code: int) -> None:
    node = await stage.node()
    for reason in (b"", b"bye"):
        assert await failure(node, frame(CLOSE, struct.pack("!H", code) + reason)) == PROTOCOL_ERROR
        assert (await stage.backend.take("DELETE")).json["code"] == PROTOCOL_ERROR


@covers("5.5.1-1")
async def test_a_close_with_half_a_code_fails_the_connection(stage: Stage) -> None:
    node = await stage.node()
    for half in (b"\x03", b"\x00", b"\xff"):
        assert await failure(node, frame(CLOSE, half)) == PROTOCOL_ERROR


@covers("5.5.1-1", "7.1.2-1")
@pytest.mark.parametrize("code", [1000, 3000, 3999, 4000, 4999])
async def test_a_sent_close_begins_with_its_code(stage: Stage, code: int) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    client = (await stage.backend.take("POST")).client
    assert (await node.rest("DELETE", client, f'{{"code": {code}, "reason": "bye"}}')).status == 200
    assert await raw.frame() == (CLOSE, struct.pack("!H", code) + b"bye")


@covers("5.5.1-2", "6.1-1")
async def test_no_data_is_sent_after_a_close(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    stage.backend.hold("PUT")
    raw.send(frame(TEXT, b"asks for a reply"))
    put = await stage.backend.take("PUT")
    assert (await node.rest("DELETE", put.client)).status == 200
    assert (await node.rest("PUT", put.client, "too late")).status == 410
    put.answer(200, "too late", Ws_Reply="text")
    assert (await raw.closing())[0] == 1000
    raw.send(frame(PING, b"anything more?"))
    assert await raw.frame() == (PONG, b"anything more?")
    raw.send(close_frame(1000))
    await raw.end()


@covers("5.5.1-2", "6.1-1")
async def test_no_data_is_sent_after_the_answer_to_a_close(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    stage.backend.hold("PUT")
    raw.send(frame(TEXT, b"asks for a reply") + close_frame(1000))
    put = await stage.backend.take("PUT")
    assert (await raw.closing())[0] == 1000
    assert (await node.rest("PUT", put.client, "too late")).status == 410
    put.answer(200, "too late", Ws_Reply="text")
    await raw.end()


@covers("5.5.1-3")
@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x03\xe9bye", b"\x0b\xb8", b"\x13\x87" + b"x" * 123])
async def test_a_close_is_answered_with_its_own_code(stage: Stage, payload: bytes) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(frame(CLOSE, payload))
    opcode, answer = await raw.frame()
    assert (opcode, answer[:2]) == (CLOSE, payload[:2])
    await raw.end()


@covers("5.5.1-3")
async def test_the_answer_to_a_close_is_not_answered(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    client = (await stage.backend.take("POST")).client
    await node.rest("DELETE", client)
    assert (await raw.closing())[0] == 1000
    raw.send(close_frame(1000))
    await raw.end()


@covers("5.5.1-3", "5.5.1-4")
async def test_two_sides_that_close_at_the_same_time_send_one_close_each(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    client = (await stage.backend.take("POST")).client
    raw.transport.pause_reading()
    await node.rest("DELETE", client, '{"code": 4000}')
    raw.send(close_frame(4001))
    raw.transport.resume_reading()
    assert await raw.closing() == (4000, "")
    await raw.end()


@covers("5.5.1-4")
@pytest.mark.parametrize("who", ["client", "backend"])
async def test_the_server_closes_tcp_at_once_after_both_closes(stage: Stage, who: str) -> None:
    node = await stage.node(handshake_timeout=600_000)
    raw = await node.upgraded()
    client = (await stage.backend.take("POST")).client
    if who == "backend":
        await node.rest("DELETE", client)
        assert (await raw.closing())[0] == 1000
    raw.send(close_frame(1000))
    if who == "client":
        assert (await raw.closing())[0] == 1000
    await raw.end()
    assert node.statistics.accepted_connections == 0, "the socket is closed, and not only its half"


@covers("5.5.2-1", "5.5.3-1")
@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(125)), b"\xff\xfe"])
async def test_a_ping_is_answered_with_its_payload(stage: Stage, payload: bytes) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(frame(PING, payload))
    assert await raw.frame() == (PONG, payload)


@covers("5.5.2-1", "5.5.3-1")
async def test_many_pings_are_answered_in_order(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    payloads = [b"%d" % number for number in range(200)]
    raw.send(b"".join(frame(PING, payload) for payload in payloads))
    assert [await raw.frame() for _ in payloads] == [(PONG, payload) for payload in payloads]


@covers("5.5.2-1")
async def test_a_ping_is_answered_while_the_backend_is_slow(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    stage.backend.hold("PUT")
    raw.send(frame(TEXT, b"slow"))
    await stage.backend.take("PUT")
    raw.send(frame(PING, b"quick"))
    assert await raw.frame() == (PONG, b"quick")


@covers("5.5.2-1")
async def test_the_latest_ping_of_a_slow_reader_is_eventually_answered(stage: Stage) -> None:
    node = await stage.node(send_buffer=1000)
    raw = await node.upgraded(receive=4096)
    client = (await stage.backend.take("POST")).client
    while (await node.rest("PUT", client, b"x" * 200_000)).status == 200:
        pass
    raw.send(frame(PING, b"older") + frame(PING, b"latest") + frame(TEXT, b"the pings were read"))
    await stage.backend.take("PUT")
    heard = []
    while (await node.information(client))["buffered"]:
        heard.append(await raw.frame())
    raw.send(close_frame(1000))
    while CLOSE not in [opcode for opcode, _ in heard]:
        heard.append(await raw.frame())
    assert (PONG, b"latest") in heard


@covers("5.5.2-1", "7.1.7-2")
async def test_a_ping_after_a_close_is_not_answered(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(close_frame(1000) + frame(PING, b"late"))
    assert (await raw.closing())[0] == 1000
    await raw.end()


@covers("5.6-1")
@pytest.mark.parametrize("text", ["é", "€", "🙂", "\U0010ffff", "\0", "\ufeff", "κόσμε"])
async def test_a_text_is_validated_as_a_whole_however_it_is_fragmented(stage: Stage, text: str) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    payload = text.encode()
    for cut in range(len(payload) + 1):
        raw.send(frame(TEXT, payload[:cut], fin=False) + frame(PING) + frame(CONTINUATION, payload[cut:]))
        assert (await stage.backend.take("PUT")).text == text


@covers("5.6-1", "8.1-1")
@pytest.mark.parametrize("fast", [True, False])
def test_a_text_that_ends_within_a_character_fails_unlike_a_binary_message(fast: bool) -> None:
    for size in (1, 2, 3):
        cut = "🙂".encode()[:size]
        in_two = frame(TEXT, cut, fin=False) + frame(CONTINUATION)
        for data in (frame(TEXT, cut), in_two):
            (refused,) = received(data, fast=fast)
            assert isinstance(refused, Violation)
            assert refused.code == BAD_TEXT
        assert received(frame(BINARY, cut), fast=fast) == [Message(False, cut)]


@covers("5.8-1", "6.2-1")
def test_every_first_byte_of_a_frame_is_handled_as_the_table_of_opcodes_says() -> None:
    alone, begun = set(), set()
    for first in range(256):
        results = received(bytes([first, 0x80]) + MASK)
        if not results:
            begun.add(first)
        elif not isinstance(results[0], Violation):
            alone.add(first)
    assert alone == {0x81, 0x82, 0x88, 0x89, 0x8A}
    assert begun == {0x01, 0x02}
