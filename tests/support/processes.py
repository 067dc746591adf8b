"""A node of several workers, each in a process of its own."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

from tests.support.clients import Answer, RawClient, upgrade
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.stage import Stage
from tests.support.waiting import wait_until
from wsaas.sessions.registry import PREFIX_LENGTH

WORKERS = 3
AT_A_TIME = 50
"""Clients that connect at the same time."""

MAX_CLIENTS = 300
"""So many clients reach each of three workers, whatever the ports that they connect from."""


class Client:
    """A client that was accepted."""

    def __init__(self, raw: RawClient, name: str, ws_uri: str) -> None:
        self.name = name
        self.raw = raw
        self.ws_uri = ws_uri

    @property
    def worker(self) -> str:
        """What its id has in common with those of the clients of the same worker."""
        return self.name[:PREFIX_LENGTH]

    @property
    def port(self) -> int:
        """The port in its `ws_uri`."""
        return int(self.ws_uri.partition("/")[0].rpartition(":")[2])


class WorkersNode:
    """A node of several workers."""

    def __init__(self, process: GatewayProcess) -> None:
        self.backend = process.stage.backend
        self.process = process
        self.program = process.program
        self._paths = count()

    def pid(self, number: int) -> int:
        """Return the latest process of a worker (from 1 on)."""
        return int(re.findall(rf"worker {number} is process (\d+)", self.program.said())[-1])

    def pids(self) -> list[int]:
        return [self.pid(number + 1) for number in range(WORKERS)]

    async def connect(self, raw: RawClient | None = None) -> Client:
        """Connect a client."""
        path = f"/{next(self._paths)}"
        raw = raw or await self.process.raw()
        raw.send(upgrade(path))
        assert (await raw.answer()).status == 101
        posts = [call for call in self.backend.calls if call.method == "POST"]
        post = next(post for post in posts if post.json["request"]["path"] == path)
        return Client(raw, post.client, post.ws_uri)

    async def connect_many(self, number: int) -> list[Client]:
        """Connect `number` clients, some at a time."""
        clients: list[tuple[str, RawClient]] = []
        for _ in range(0, number, AT_A_TIME):
            raws = await asyncio.gather(*(self.process.raw() for _ in range(AT_A_TIME)))
            clients += [(f"/{next(self._paths)}", raw) for raw in raws]
            for path, raw in clients[-AT_A_TIME:]:
                raw.send(upgrade(path))
            for raw in raws:
                assert (await raw.answer()).status == 101
        posts = {call.json["request"]["path"]: call for call in self.backend.calls if call.method == "POST"}
        return [Client(raw, posts[path].client, posts[path].ws_uri) for path, raw in clients]

    async def spread(self, opened: Callable[[], Awaitable[RawClient]] | None = None) -> list[Client]:
        """Connect clients until each worker has two; return them. `opened` opens their connections."""
        opened = opened or self.process.raw
        clients: list[Client] = []
        while not self._is_spread(clients):
            assert len(clients) < MAX_CLIENTS, "the kernel does not distribute the connections"
            clients.append(await self.connect(await opened()))
        return clients

    def _is_spread(self, clients: list[Client]) -> bool:
        workers = [client.worker for client in clients]
        return len(set(workers)) == WORKERS and all(workers.count(each) > 1 for each in workers)

    async def ask(self, method: str, target: str, body: bytes = b"", port: int = 0) -> Answer:
        """Make a REST request on a new connection."""
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        return await self.process.ask(head.encode() + body, port)

    async def kill_worker_of(self, client: Client, number: int = signal.SIGKILL) -> None:
        """Send a signal to the worker that holds `client`."""
        before = self.program.said().count(" is process ")
        # The one whose clients are gone: workers are not asked for their prefixes.
        for pid in self.pids():
            if client.worker in prefixes(pid):
                os.kill(pid, number)
                break
        else:
            raise AssertionError(client.worker)
        await wait_until(lambda: self.program.said().count(" is process ") > before, "a successor")

    async def deletes(self, clients: list[Client]) -> None:
        """Wait for the DELETE of each of `clients`; each must come once, and none of another client."""
        names = [client.name for client in clients]
        await self.backend.wait(lambda: self.backend.count("DELETE") >= len(names))
        found = [call.headers["ce-id"] for call in self.backend.calls if call.method == "DELETE"]
        assert sorted(found) == sorted(f"{name}:end" for name in names)


def prefixes(pid: int) -> str:
    """Return the listening Unix sockets of a process, whose names contain the prefix of its ids."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(str(descriptor.readlink())[8:-1])
    lines = Path(f"/proc/{pid}/net/unix").read_text().splitlines()
    return "\n".join(line for line in lines if line.split()[6] in inodes)


def is_alive(pid: int) -> bool:
    """Return whether a process runs, and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextlib.asynccontextmanager
async def workers(stage: Stage, log: Path, **options: Any) -> AsyncIterator[WorkersNode]:
    """Run a node of three workers. Its log is the file `log`."""
    # It does not wait for long for clients that do not answer its Close.
    async with gateway_process(stage, log, **{"workers": WORKERS, "handshake_timeout": 1000, **options}) as process:
        yield WorkersNode(process)
