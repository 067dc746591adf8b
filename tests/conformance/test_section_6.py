"""Section 6: sending and receiving messages."""

import pytest

from tests.conformance.requirements import covers
from tests.conformance.wire import MANY, closing, received
from tests.support.clients import upgrade
from tests.support.frames import BINARY, CONTINUATION, PONG, TEXT, frame
from tests.support.stage import Stage
from wsaas.events import Message


@covers("6.2-1", "6.2-5")
@pytest.mark.parametrize("size", MANY)
async def test_messages_of_every_length_are_unmasked(stage: Stage, size: int) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    payload = (bytes(range(256)) * 257)[:size]
    raw.send(frame(BINARY, payload))
    assert (await stage.backend.take("PUT")).body == payload


@covers("6.2-5")
@pytest.mark.parametrize("mask", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1", b"\x81\x05Hi"])
@pytest.mark.parametrize("size", [*range(9), 126, 65536])
def test_any_mask_is_removed_byte_by_byte(size: int, mask: bytes) -> None:
    payload = (bytes(range(256)) * 257)[:size]
    whole = frame(BINARY, payload)
    start = len(whole) - size - 4
    masked = whole[:start] + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    for fast in (True, False):
        assert received(masked, fast=fast) == [Message(False, payload)]


@covers("6.2-5")
async def test_the_example_of_a_masked_text_is_decoded(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(bytes.fromhex("81 85 37fa213d 7f9f4d5158"))
    assert (await stage.backend.take("PUT")).text == "Hello"


@covers("6.2-4", "5.4-5", "6.2-3")
async def test_a_frame_after_a_complete_message_starts_a_new_one(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b") + frame(BINARY, b"c", fin=False))
    raw.send(frame(CONTINUATION, b"d") + frame(TEXT, b"e"))
    puts = [await stage.backend.take("PUT") for _ in range(3)]
    assert [(put.body, put.headers["content-type"].partition("/")[0]) for put in puts] == [
        (b"ab", "text"),
        (b"cd", "application"),
        (b"e", "text"),
    ]


@covers("6.2-2")
async def test_an_unsolicited_pong_is_not_answered(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(frame(PONG) + frame(PONG, b"x" * 125))
    await closing(raw)
    assert stage.backend.count("PUT") == 0


@covers("6.1-1", "6.1-5", "5.4-2")
async def test_a_push_before_the_101_is_sent_after_it(stage: Stage) -> None:
    node = await stage.node()
    stage.backend.hold("POST")
    raw = await node.raw()
    raw.send(upgrade())
    call = await stage.backend.take("POST")
    for number in range(3):
        assert (await node.rest("PUT", call.client, f"{number}")).status == 200
    call.ok()
    assert (await raw.answer()).status == 101, "nothing came before it"
    assert [await raw.frame() for _ in range(3)] == [(TEXT, b"0"), (TEXT, b"1"), (TEXT, b"2")]


@covers("6.1-1")
async def test_a_push_to_a_client_that_is_refused_is_never_sent(stage: Stage) -> None:
    node = await stage.node()
    stage.backend.hold("POST")
    raw = await node.raw()
    raw.send(upgrade())
    call = await stage.backend.take("POST")
    assert (await node.rest("PUT", call.client, "for later")).status == 200
    call.answer(403)
    assert (await raw.answer()).status == 403
    await raw.end()
    assert (await node.rest("PUT", call.client, "too late")).status == 410


@covers("6.1-3", "6.1-5", "5.6-1")
@pytest.mark.parametrize(("kind", "opcode"), [("text", TEXT), ("binary", BINARY)])
async def test_a_reply_is_sent_with_the_opcode_of_its_type(stage: Stage, kind: str, opcode: int) -> None:
    node = await stage.node()
    stage.backend.on["PUT"] = lambda call: call.answer(200, "é", Ws_Reply=kind)
    raw = await node.upgraded()
    raw.send(frame(TEXT, b"hello"))
    assert await raw.frame() == (opcode, "é".encode())


@covers("6.1-5")
async def test_accepted_pushes_are_sent_before_a_later_close(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    client = (await stage.backend.take("POST")).client
    for number in range(20):
        assert (await node.rest("PUT", client, f"{number}" * 1000)).status == 200
    await node.rest("DELETE", client)
    for number in range(20):
        assert await raw.frame() == (TEXT, f"{number}".encode() * 1000)
    assert (await raw.closing())[0] == 1000
