"""Section 7: closing and failing a connection, and the close codes."""

import asyncio
import struct

import pytest

from tests.conformance.requirements import covers
from tests.conformance.wire import failure
from tests.support.clients import upgrade
from tests.support.frames import CLOSE, PING, PONG, TEXT, close_frame, frame
from tests.support.stage import Stage
from tests.support.waiting import wait_until
from wsaas.reason import Reason

RESERVED = [1005, 1006, 1015]
VIOLATIONS = {
    "a frame without a mask": (1002, frame(TEXT, b"x", masked=False)),
    "a reserved bit": (1002, frame(TEXT, b"x", reserved=4)),
    "an unknown opcode": (1002, frame(3, b"x")),
    "a Close with a code that is none": (1002, close_frame(999)),
    "a text that is none": (1007, frame(TEXT, b"\xff")),
    "a message that is too large": (1009, frame(TEXT, b"x" * 2000)),
}


@covers("7.1.2-1")
@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        ("", 1000, ""),
        ('{"code": 4001}', 4001, ""),
        ('{"code": 3000, "reason": "so long, 世界"}', 3000, "so long, 世界"),
    ],
)
async def test_the_backend_closes_with_its_code_and_reason(stage: Stage, body: str, code: int, reason: str) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    client = (await stage.backend.take("POST")).client
    assert (await node.rest("DELETE", client, body)).status == 200
    assert await raw.closing() == (code, reason)


@covers("7.1.2-1")
async def test_a_stop_closes_with_1001(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    stopping = asyncio.ensure_future(node.drain())
    assert await raw.closing() == (1001, "going away")
    raw.send(close_frame(1001))
    await raw.end()
    assert await stopping


@covers("7.1.7-1", "10.7-1")
@pytest.mark.parametrize("what", VIOLATIONS)
async def test_a_failed_connection_gets_a_close_with_a_reason_and_is_closed(stage: Stage, what: str) -> None:
    node = await stage.node(max_message_size=1000)
    code, broken = VIOLATIONS[what]
    assert await failure(node, frame(TEXT, b"good") + broken) == code
    assert (await stage.backend.take("DELETE")).json["code"] == code


@covers("7.1.7-1")
async def test_a_failed_connection_is_closed_although_the_client_keeps_it_open(stage: Stage) -> None:
    node = await stage.node(handshake_timeout=200)
    raw = await node.upgraded()
    raw.send(frame(3))
    assert (await raw.closing())[0] == 1002
    await raw.end()
    await wait_until(lambda: node.statistics.accepted_connections == 0, "the socket to be closed")


@covers("7.1.7-2")
@pytest.mark.parametrize("what", VIOLATIONS)
async def test_data_after_a_failure_is_not_processed(stage: Stage, what: str) -> None:
    node = await stage.node(max_message_size=1000)
    raw = await node.upgraded()
    code, broken = VIOLATIONS[what]
    behind = frame(TEXT, b"goes nowhere") + frame(PING, b"unanswered") + close_frame(4000)
    raw.send(frame(TEXT, b"good") + broken + behind)
    assert (await raw.closing())[0] == code
    raw.send(behind)
    await raw.end()
    raw.close()
    delete = await stage.backend.take("DELETE")
    assert delete.json["code"] == code
    assert [call.text for call in stage.backend.calls if call.method == "PUT"] == ["good"]


@covers("7.1.7-2")
async def test_a_failure_while_closing_sends_no_second_close(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    client = (await stage.backend.take("POST")).client
    await node.rest("DELETE", client, '{"code": 4000}')
    assert await raw.closing() == (4000, "")
    raw.send(frame(3) + frame(PING, b"unanswered") + close_frame(4000))
    await raw.end()
    assert (await stage.backend.take("DELETE")).json["code"] == 4000


@covers("7.2.2-1")
@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (upgrade(key="short"), 400),
        (upgrade(version="8"), 426),
        (upgrade("/", "Origin: https://evil.example"), 403),
    ],
)
async def test_a_refused_handshake_ends_the_connection(stage: Stage, asked: bytes, status: int) -> None:
    node = await stage.node(allowed_origins="https://good.example", handshake_timeout=200)
    raw = await node.raw()
    raw.send(asked)
    assert (await raw.answer()).status == status
    await raw.end()
    await wait_until(lambda: node.statistics.accepted_connections == 0, "the socket to be closed")


@covers("7.2.2-1")
@pytest.mark.parametrize(("answered", "status"), [(401, 401), (404, 404), (500, 502), (418, 502)])
async def test_a_client_refused_by_the_backend_is_disconnected(stage: Stage, answered: int, status: int) -> None:
    stage.backend.on["POST"] = lambda call: call.answer(answered)
    node = await stage.node(handshake_timeout=600_000)
    raw = await node.raw()
    raw.send(upgrade())
    assert (await raw.answer()).status == status
    await raw.end()
    await wait_until(lambda: node.statistics.accepted_connections == 0, "the socket to be closed")


@covers("7.4.1-1", "7.4.1-2", "7.4.1-3")
@pytest.mark.parametrize("code", RESERVED)
async def test_a_reserved_code_is_neither_accepted_nor_echoed(stage: Stage, code: int) -> None:
    node = await stage.node()
    assert await failure(node, frame(CLOSE, struct.pack("!H", code) + b"why")) == 1002


@covers("7.4.1-1", "7.4.1-2", "7.4.1-3", "5.5.1-1")
@pytest.mark.parametrize("code", [*RESERVED, 0, 999, 1001, 1004, 1011, 1016, 2999, 5000, 65536, -1])
async def test_the_backend_cannot_send_a_reserved_code(stage: Stage, code: int) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    client = (await stage.backend.take("POST")).client
    answer = await node.rest("DELETE", client, f'{{"code": {code}}}')
    assert (answer.status, answer.code) == (400, "BAD_CLOSE")
    raw.send(frame(PING))
    assert await raw.frame() == (PONG, b""), "it is still open"


@covers("7.4.1-1")
async def test_a_close_without_a_code_is_answered_without_one(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(frame(CLOSE))
    assert await raw.frame() == (CLOSE, b"")
    await raw.end()
    assert (await stage.backend.take("DELETE")).json["code"] == 1005


@covers("7.4.1-2", "7.4.1-1", "7.4.1-3")
def test_no_close_code_of_the_gateway_is_reserved() -> None:
    never_sent = {Reason.CLIENT_CLOSED, Reason.CLIENT_LOST, Reason.REFUSED, Reason.GATEWAY_LOST}
    assert {reason for reason in Reason if reason.code in RESERVED} == never_sent


@covers("7.1.7-1")
async def test_a_connection_without_a_close_is_1006_in_the_delete_and_never_sent(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.half_close()
    await raw.end()
    assert (await stage.backend.take("DELETE")).json["code"] == 1006
