"""Bodies of refused requests are not buffered: a request is decided once its head is complete."""

import asyncio
from pathlib import Path

from tests.support.clients import RawClient
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.ports import free_port
from tests.support.stage import Stage
from tests.support.waiting import wait_until, with_timeout

MIB = 1024 * 1024
CONNECTIONS = 1000
SIZE = MIB - 1
HEAD = f"PUT /{{}} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {SIZE + 1}\r\n\r\n"
NOBODY = "A" * 30


async def park(gateway: GatewayProcess, path: str, status: int, port: int = 0) -> RawClient:
    """Send a body without its last byte; return the connection, whose request was refused with `status`."""
    raw = await gateway.raw(port)
    raw.send(HEAD.format(path).encode())
    assert (await raw.answer()).status == status
    raw.send(b"x" * SIZE)
    await with_timeout(raw.writer.drain())
    return raw


async def test_a_thousand_parked_bodies_take_no_memory(stage: Stage, tmp_path: Path) -> None:
    control = free_port()
    async with gateway_process(
        stage, tmp_path / "log", control_listen=f"127.0.0.1:{control}", keep_alive_timeout=60_000
    ) as gateway:
        before = gateway.resident
        parked = []
        for number in range(0, CONNECTIONS, 50):
            paths = [("nothing", 404, control), (NOBODY, 410, control), (NOBODY, 404, gateway.port)]
            some = [paths[each % 3] for each in range(number, number + 50)]
            parked += await asyncio.gather(*(park(gateway, *each) for each in some))
        # Once the requests behind the bodies are answered, the bodies were read.
        for raw in parked:
            raw.send(b"x" + b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n" + HEAD.format("nothing").encode())
        for raw in parked:
            assert [(await raw.answer()).status for _ in range(2)] == [404, 404]
        assert gateway.resident - before < 32 * MIB


async def test_parked_bodies_without_a_token_take_no_memory(stage: Stage, tmp_path: Path) -> None:
    async with gateway_process(stage, tmp_path / "log", control_token="s3cret") as gateway:
        before = gateway.resident
        for _ in range(4):
            await asyncio.gather(*(park(gateway, NOBODY, 401) for _ in range(50)))
        await wait_until(lambda: gateway.resident - before < 16 * MIB)
