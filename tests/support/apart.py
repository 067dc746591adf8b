"""A gateway in a process of its own: for what a process has only one of, its memory and its descriptors."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from tests.chaos.processes import Program
from tests.support.backend import within
from tests.support.stage import Answer, Raw, Stage, free_port


class Apart:
    """A gateway with at most `descriptors` open files, before the backend of `stage`.

    `prefix`: the beginning of a command that runs it, as `sudo` does.
    """

    def __init__(
        self, stage: Stage, log: Path, descriptors: int = 0, prefix: Sequence[str] = (), **chosen: Any
    ) -> None:
        self.stage = stage
        self.port = free_port()
        given = {
            "API_URI": f"{stage.backend.authority}/hook",
            "WS_HOSTNAME": f"127.0.0.1:{self.port}",
            **{name.upper(): str(value) for name, value in chosen.items()},
        }
        limit = f"ulimit -n {descriptors}; " if descriptors else ""
        root = Path(__file__).parent.parent.parent
        environment = {**given, "PYTHONPATH": str(root)}
        command = [*prefix, "sh", "-c", f'{limit}exec "$@"', "sh", sys.executable, "-m", "wsaas"]
        self.program = Program(command, log, environment)

    @property
    def resident(self) -> int:
        """Bytes of memory that it has resident."""
        pages = int(Path(f"/proc/{self.program.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def descriptors(self) -> int:
        """How many open files it has."""
        return len(list(Path(f"/proc/{self.program.pid}/fd").iterdir()))

    async def stop(self) -> int:
        """Let it stop; return its exit status."""
        self.program.ask_to_stop()
        return await self.program.ended()

    async def raw(self, port: int = 0) -> Raw:
        """Open a bare connection."""
        raw = Raw(*await within(asyncio.open_connection("127.0.0.1", port or self.port)))
        self.stage.stack.callback(raw.close)
        return raw

    async def ask(self, request: bytes, port: int = 0) -> Answer:
        """Send `request` on a connection of its own; return the answer."""
        raw = await self.raw(port)
        raw.send(request)
        try:
            return await raw.answer()
        finally:
            raw.close()

    def silent(self, count: int, port: int = 0) -> list[socket.socket]:
        """Open connections that say nothing."""
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
async def apart(
    stage: Stage, log: Path, descriptors: int = 0, prefix: Sequence[str] = (), **chosen: Any
) -> AsyncIterator[Apart]:
    """Run a gateway in a process of its own."""
    if not stage.backend.port:
        await stage.backend.start()
    gateway = Apart(stage, log, descriptors, prefix, **chosen)
    await gateway.program.start()
    try:
        yield gateway
    finally:
        await stage.stack.aclose()
        gateway.program.kill()
