"""A node that is over its memory limit, in a process of its own: who holds much pays for it, and nobody else."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.chaos import processes
from tests.chaos.processes import Program, quiet_port
from tests.support.backend import Call
from tests.support.stage import BINARY, TEXT, Raw, Stage, frame, until, upgrade

MIB = 1 << 20
LIMIT = 80 * MIB


class Node:
    """A gateway in a process of its own, before the stage's backend."""

    def __init__(self, stage: Stage, program: Program, port: int) -> None:
        self.stage = stage
        self.program = program
        self.port = port

    async def shake_hands(self) -> tuple[Raw, int]:
        """Open a client; return it and the status that it got."""
        raw = Raw(*await asyncio.open_connection("127.0.0.1", self.port, limit=64 * 1024))
        self.stage.stack.callback(raw.close)
        raw.send(upgrade())
        return raw, (await raw.answer()).status

    async def client(self) -> Raw:
        raw, status = await self.shake_hands()
        assert status == 101
        return raw


Start = Callable[[], Awaitable[Node]]


@pytest.fixture
def start(stage: Stage, tmp_path: Path) -> Start:
    @asynccontextmanager
    async def life(program: Program) -> AsyncIterator[None]:
        try:
            await program.start()
            yield
        finally:
            program.kill()
            await until(lambda: not stage.backend.links)

    async def start() -> Node:
        await stage.backend.start()
        port = quiet_port()
        api_uri = f"{stage.backend.authority}/hook"
        # The shortest time-out sets the pace at which the memory is looked at.
        settings = {"max_memory": LIMIT, "handshake_timeout": 1000}
        program = processes.gateway(api_uri, port, tmp_path / "log", **settings)
        await stage.stack.enter_async_context(life(program))
        return Node(stage, program, port)

    return start


async def echo(client: Raw, text: bytes) -> None:
    client.send(frame(TEXT, text))
    assert await client.frame() == (TEXT, text)


async def test_clients_that_hold_unfinished_messages_are_throttled_and_then_new_ones_refused(
    stage: Stage, start: Start
) -> None:
    stage.backend.on["PUT"] = lambda call: call.answer(200, call.body, Ws_Reply="text")
    node = await start()
    honest = await node.client()
    await echo(honest, b"before")
    unfinished = frame(BINARY, b"x" * MIB)[:-1]
    most = 0
    hostile: list[Raw] = []
    status = 101
    # They would hold 400 MiB, but for the limit.
    while status == 101 and len(hostile) < 400:
        raw, status = await node.shake_hands()
        hostile.append(raw)
        if status == 101:
            raw.send(unfinished)
        if len(hostile) % 20 == 0:
            await echo(honest, b"while it comes")
        most = max(most, node.program.memory())
    while status == 101:
        await asyncio.sleep(0.1)
        most = max(most, node.program.memory())
        _, status = await node.shake_hands()
    assert status == 503
    await echo(honest, b"over the limit")
    assert most < LIMIT + 64 * MIB
    said = node.program.said()
    assert said.index("clients that hold much are throttled") < said.index("new ones are refused")
    for raw in hostile:
        raw.reset()
    await until(lambda: "within MAX_MEMORY again" in node.program.said())
    await echo(await node.client(), b"after")
    await echo(honest, b"after")


async def test_messages_that_the_backend_does_not_take_do_not_use_more_memory_than_there_is(
    stage: Stage, start: Start
) -> None:
    stage.backend.on["PUT"] = lambda call: call.answer(500)
    node = await start()
    status, clients = 101, list[Raw]()
    while status == 101:
        raw, status = await node.shake_hands()
        clients.append(raw)
        if status == 101:
            raw.send(frame(BINARY, b"x" * MIB) * 2)
        assert len(clients) < 500
        assert node.program.memory() < LIMIT + 64 * MIB
    assert status == 503
    # What was taken from clients is delivered, and then there is room for others.
    stage.backend.on["PUT"] = Call.ok
    await until(lambda: "within MAX_MEMORY again" in node.program.said())
    await node.client()
