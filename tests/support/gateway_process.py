"""A gateway in another process, which can be killed, and whose memory and descriptors can be measured."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.support.clients import Answer, RawClient, upgrade
from tests.support.ports import free_port
from tests.support.program import Program, gateway_program
from tests.support.resources import open_files, resident_memory
from tests.support.stage import Stage
from tests.support.waiting import wait_until, with_timeout


class GatewayProcess:
    """A gateway that runs as `program`, in front of the backend of `stage`."""

    def __init__(self, stage: Stage, program: Program, port: int) -> None:
        self.stage = stage
        self.program = program
        self.port = port

    @property
    def resident(self) -> int:
        """Its resident memory in bytes."""
        return resident_memory(self.program.pid)

    @property
    def descriptors(self) -> int:
        """The number of its open files."""
        return open_files(self.program.pid)

    async def stop(self) -> int:
        """Stop it by a signal; return its exit status."""
        self.program.terminate()
        return await self.program.wait()

    async def raw(self, port: int = 0) -> RawClient:
        """Open a bare connection."""
        connecting = asyncio.open_connection("127.0.0.1", port or self.port, limit=64 * 1024)
        raw = RawClient(*await with_timeout(connecting))
        self.stage.stack.callback(raw.close)
        return raw

    async def try_upgrade(self, path: str = "/", *headers: str) -> tuple[RawClient, int]:
        """Open a connection and send a handshake; return it and the status of the answer."""
        raw = await self.raw()
        raw.send(upgrade(path, *headers))
        return raw, (await raw.answer()).status

    async def upgraded(self, path: str = "/", *headers: str) -> RawClient:
        """Open a bare connection that has its 101."""
        raw, status = await self.try_upgrade(path, *headers)
        assert status == 101
        return raw

    async def ask(self, request: bytes, port: int = 0) -> Answer:
        """Send `request` on a new connection; return the answer."""
        raw = await self.raw(port)
        raw.send(request)
        try:
            return await raw.answer()
        finally:
            raw.close()

    def silent(self, count: int, port: int = 0) -> list[socket.socket]:
        """Open connections that send nothing."""
        sockets = []
        for _ in range(count):
            sock = socket.socket()
            self.stage.stack.callback(sock.close)
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(("127.0.0.1", port or self.port))
            sockets.append(sock)
        return sockets


@contextlib.asynccontextmanager
async def gateway_process(stage: Stage, log: Path, **options: Any) -> AsyncIterator[GatewayProcess]:
    """Run a gateway in another process, in front of the backend of `stage` unless a setting names another one.

    `options`: settings, or `prefix` and `descriptors` of `gateway_program`.
    """
    if not stage.backend.port and "api_uri" not in options:
        await stage.backend.start()
    port = free_port()
    limits = {name: options.pop(name) for name in ("prefix", "descriptors") if name in options}
    api_uri = options.pop("api_uri", f"{stage.backend.authority}/hook")
    program = gateway_program(api_uri, port, log, options, **limits)
    try:
        await program.start()
        yield GatewayProcess(stage, program, port)
    finally:
        await stage.stack.aclose()
        program.kill()
        await wait_until(lambda: not stage.backend.connections)
