"""How connections end: the client gets the right close code, and the backend one DELETE."""

import asyncio
import struct

import pytest

from tests.support.clients import RawClient
from tests.support.frames import CLOSE, PONG, TEXT, close_frame, frame
from tests.support.stage import Stage, received_close
from tests.support.waiting import wait_until, with_timeout


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 4999])
async def test_the_code_and_reason_of_the_client_are_echoed_and_reported_in_the_delete(stage: Stage, code: int) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(close_frame(code, "Grüße"))
    assert (await raw.closing())[0] == code
    await raw.end()
    delete = await stage.backend.take("DELETE")
    assert delete.json["code"] == code
    assert delete.json["reason"] == "Grüße"
    assert delete.json["ws_uri"] == delete.ws_uri
    assert 0 <= delete.json["duration"] < 60_000
    assert (delete.json["messages_in"], delete.json["messages_out"]) == (0, 0)


async def test_a_close_without_a_code_is_1005(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(frame(CLOSE))
    assert await raw.frame() == (CLOSE, b"")
    assert (await stage.backend.take("DELETE")).json["code"] == 1005


async def test_a_connection_that_ends_without_a_close_is_1006(stage: Stage) -> None:
    node = await stage.node()
    for end in (RawClient.close, RawClient.half_close, RawClient.reset):
        raw = await node.upgraded()
        end(raw)
        assert (await stage.backend.take("DELETE")).json["code"] == 1006


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        ("", 1000, ""),
        ("{}", 1000, ""),
        ('{"code": 4001, "reason": "bye ü"}', 4001, "bye ü"),
        ('{"code": 3000}', 3000, ""),
        ('{"code": 4999, "reason": "' + "x" * 123 + '"}', 4999, "x" * 123),
        ('{"reason": "only"}', 1000, "only"),
    ],
)
async def test_the_backend_closes_a_client(stage: Stage, body: str, code: int, reason: str) -> None:
    node = await stage.node()
    client, name = await node.admit()
    answer = await node.rest("DELETE", name, body)
    assert (answer.status, answer.code) == (200, "OK")
    assert await received_close(client) == (code, reason)
    delete = await stage.backend.take("DELETE")
    assert (delete.json["code"], delete.json["reason"]) == (code, reason)
    for method in ("DELETE", "PUT", "GET"):
        answer = await node.rest(method, name)
        assert (answer.status, answer.code) == (410, "GONE")
    assert await node.drain()
    assert stage.backend.count("DELETE") == 1


async def test_pushes_before_a_close_are_delivered_before_it(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    assert (await node.rest("PUT", name, "last words")).status == 200
    assert (await node.rest("DELETE", name)).status == 200
    assert (await node.rest("PUT", name, "too late")).status == 410
    assert (await node.rest("DELETE", name)).status == 410
    assert await raw.frame() == (TEXT, b"last words")
    assert (await raw.closing())[0] == 1000


async def test_while_the_backend_closes_a_client_its_messages_are_still_delivered(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    await node.rest("DELETE", name)
    assert (await node.information(name))["state"] == "closing"
    raw.send(frame(TEXT, b"on its way already") + close_frame(1000))
    assert (await raw.closing())[0] == 1000
    await raw.end()
    assert (await stage.backend.take("PUT")).text == "on its way already"
    assert (await stage.backend.take("DELETE")).json["messages_in"] == 1


async def test_a_client_that_does_not_answer_a_close_is_dropped(stage: Stage) -> None:
    node = await stage.node(handshake_timeout=300)
    raw = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    await node.rest("DELETE", name, '{"code": 4000}')
    assert (await raw.closing())[0] == 4000
    raw.send(frame(PONG))
    assert await raw.rest() == b""
    assert (await stage.backend.take("DELETE")).json["code"] == 4000


async def test_both_sides_may_close_at_once(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    await node.rest("DELETE", name, '{"code": 4000}')
    raw.send(close_frame(4001))
    assert (await raw.closing())[0] == 4000
    await raw.end()
    assert (await stage.backend.take("DELETE")).json["code"] == 4000


async def test_requests_about_a_closed_client_get_410_at_once(stage: Stage) -> None:
    node = await stage.node()
    stage.backend.hold("DELETE")
    client, name = await node.admit()
    await client.close()
    delete = await stage.backend.take("DELETE")
    for method in ("PUT", "GET", "HEAD", "DELETE"):
        assert (await node.rest(method, name)).status == 410
    delete.ok()


async def test_a_silent_client_is_pinged_then_closed_with_1001(stage: Stage) -> None:
    node = await stage.node(ws_timeout=600)
    raw = await node.upgraded()
    loop = asyncio.get_running_loop()
    start = loop.time()
    assert await raw.frame() == (9, b"")
    pinged = loop.time() - start
    assert await raw.closing() == (1001, "timeout")
    closed = loop.time() - start
    await raw.end()
    assert 0.25 <= pinged < closed
    assert closed >= 0.55
    delete = await stage.backend.take("DELETE")
    assert (delete.json["code"], delete.json["reason"]) == (1001, "timeout")


async def test_a_silent_client_that_answers_pings_stays_connected(stage: Stage) -> None:
    node = await stage.node(ws_timeout=300)
    client, name = await node.admit()
    await asyncio.sleep(1.5)
    assert (await node.information(name))["state"] == "open"
    await client.send("still here")
    assert (await stage.backend.take("PUT")).text == "still here"


async def test_a_client_that_only_sends_is_not_pinged(stage: Stage) -> None:
    node = await stage.node(ws_timeout=1000)
    raw = await node.upgraded()
    for _ in range(15):
        raw.send(frame(PONG))
        await asyncio.sleep(0.1)
    assert (await stage.backend.take("POST")).client
    raw.send(close_frame(1000))
    assert (await raw.closing())[0] == 1000, "no ping came before"


async def test_ws_timeout_0_turns_pings_off(stage: Stage) -> None:
    node = await stage.node(ws_timeout=0, handshake_timeout=200)
    raw = await node.upgraded()
    assert (await stage.backend.take("POST")).json["timeout"] == 0
    await asyncio.sleep(0.7)
    raw.send(close_frame(1000))
    assert (await raw.closing())[0] == 1000


async def test_a_timed_out_client_that_does_not_read_is_dropped(stage: Stage) -> None:
    node = await stage.node(ws_timeout=300, handshake_timeout=300)
    raw = await node.upgraded(receive=4096)
    name = (await stage.backend.take("POST")).client
    while (await node.rest("PUT", name, "x" * 200_000)).status == 200:
        pass
    delete = await stage.backend.take("DELETE")
    assert (delete.json["code"], delete.json["reason"]) == (1001, "timeout")
    await wait_until(lambda: node.statistics.accepted_connections == 0)
    raw.reset()


@pytest.mark.parametrize(
    ("code", "broken"),
    [
        (1007, frame(TEXT, b"\xff")),
        (1007, frame(TEXT, b"\xc3", fin=False) + frame(0, b"x")),
        (1007, frame(TEXT, "cut ü".encode()[:-1])),
        (1007, frame(CLOSE, b"\x03\xe8\xff")),
        (1002, frame(TEXT, b"unmasked", masked=False)),
        (1002, frame(TEXT, b"reserved", reserved=4)),
        (1002, frame(3, b"unknown opcode")),
        (1002, frame(11, b"unknown control")),
        (1002, frame(9, b"x" * 126)),
        (1002, frame(9, b"x", fin=False)),
        (1002, frame(0, b"nothing to go on with")),
        (1002, frame(TEXT, b"a", fin=False) + frame(TEXT, b"b")),
        (1002, frame(CLOSE, b"\x03")),
        (1002, close_frame(1005)),
        (1002, close_frame(999)),
        (1002, close_frame(1004)),
        (1002, close_frame(1006)),
        (1002, close_frame(2999)),
        (1002, close_frame(5000)),
        (1002, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (1002, b"\x81\xfe\0\x05\0\0\0\0hello"),
        (1002, b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"),
    ],
)
async def test_a_protocol_violation_is_answered_with_its_close_code(stage: Stage, code: int, broken: bytes) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(frame(TEXT, b"good") + broken)
    assert (await raw.closing())[0] == code
    raw.send(frame(TEXT, b"goes nowhere"))
    await raw.end()
    raw.close()
    delete = await stage.backend.take("DELETE")
    assert delete.json["code"] == code
    assert [call.method for call in stage.backend.calls] == ["POST", "PUT", "DELETE"]


async def test_a_close_code_registered_after_the_rfc_is_accepted(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(frame(CLOSE, struct.pack("!H", 1014)))
    assert (await raw.closing())[0] == 1014
    assert (await stage.backend.take("DELETE")).json["code"] == 1014


async def test_the_delete_reports_the_close_on_the_wire_and_the_undelivered_messages(stage: Stage) -> None:
    node = await stage.node(api_retry=300)
    stage.backend.on["PUT"] = lambda call: call.answer(500)
    client, name = await node.admit()
    await client.send("1")
    await client.send("2")
    await stage.backend.take("PUT")
    assert (await node.rest("DELETE", name, '{"code": 4001, "reason": "moved"}')).status == 200
    await with_timeout(client.wait_closed())
    assert (client.close_code, client.close_reason) == (4001, "moved")
    delete = await stage.backend.take("DELETE")
    assert (delete.json["code"], delete.json["reason"]) == (4001, "moved")
    assert (delete.json["messages_in"], delete.json["undelivered"]) == (2, 2)


async def test_a_client_that_answers_no_ping_is_timed_out_although_it_reads_pushes(stage: Stage) -> None:
    node = await stage.node(ws_timeout=400)
    raw = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    delete = asyncio.ensure_future(stage.backend.take("DELETE"))
    while not delete.done():
        # The client reads pushes and pings, and sends nothing.
        await node.rest("PUT", name, b"x" * 10_000)
        await with_timeout(raw.reader.read(1 << 20))
    assert (delete.result().json["code"], delete.result().json["reason"]) == (1001, "timeout")
