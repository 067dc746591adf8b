"""A gateway over its memory limit: clients that use much memory are throttled, others are not."""

import asyncio
from pathlib import Path

import pytest

from tests.support.backend import Call
from tests.support.clients import RawClient
from tests.support.frames import BINARY, TEXT, frame
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.stage import Stage
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

MIB = 1 << 20
LIMIT = 80 * MIB


async def start_gateway(stage: Stage, log: Path) -> GatewayProcess:
    """Start a gateway with `LIMIT`. Its shortest time-out sets the interval at which it samples its memory."""
    process = gateway_process(stage, log, max_memory=LIMIT, handshake_timeout=1000)
    return await stage.stack.enter_async_context(process)


async def echo(client: RawClient, text: bytes) -> None:
    client.send(frame(TEXT, text))
    assert await client.frame() == (TEXT, text)


async def test_clients_with_unfinished_messages_are_throttled_and_then_new_clients_refused(
    stage: Stage, tmp_path: Path
) -> None:
    stage.backend.on["PUT"] = lambda call: call.answer(200, call.body, Ws_Reply="text")
    node = await start_gateway(stage, tmp_path / "log")
    honest = await node.upgraded()
    await echo(honest, b"before")
    unfinished = frame(BINARY, b"x" * MIB)[:-1]
    most = 0
    hostile: list[RawClient] = []
    status = 101
    # Without the limit, they would use 400 MiB.
    while status == 101 and len(hostile) < 400:
        raw, status = await node.try_upgrade()
        hostile.append(raw)
        if status == 101:
            raw.send(unfinished)
        if len(hostile) % 20 == 0:
            await echo(honest, b"during the attack")
        most = max(most, node.program.memory())
    while status == 101:
        await asyncio.sleep(0.1)
        most = max(most, node.program.memory())
        _, status = await node.try_upgrade()
    assert status == 503
    await echo(honest, b"over the limit")
    assert most < LIMIT + 64 * MIB
    said = node.program.said()
    assert said.index("the clients that use the most are throttled") < said.index("new clients are refused")
    for raw in hostile:
        raw.reset()
    await wait_until(lambda: "within MAX_MEMORY again" in node.program.said())
    await echo(await node.upgraded(), b"after")
    await echo(honest, b"after")


async def test_messages_that_the_backend_rejects_do_not_exceed_the_memory_limit(stage: Stage, tmp_path: Path) -> None:
    stage.backend.on["PUT"] = lambda call: call.answer(500)
    node = await start_gateway(stage, tmp_path / "log")
    status, clients = 101, list[RawClient]()
    while status == 101:
        raw, status = await node.try_upgrade()
        clients.append(raw)
        if status == 101:
            raw.send(frame(BINARY, b"x" * MIB) * 2)
        assert len(clients) < 500
        assert node.program.memory() < LIMIT + 64 * MIB
    assert status == 503
    # The received messages are delivered, and new clients are accepted again.
    stage.backend.on["PUT"] = Call.ok
    await wait_until(lambda: "within MAX_MEMORY again" in node.program.said())
    await node.upgraded()
