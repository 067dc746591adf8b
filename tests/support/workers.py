"""A worker without a supervisor, and a supervisor with fake workers, both in this process."""

import asyncio
import json
import os
import socket
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from tests.support.ports import free_port
from tests.support.stage import Stage
from tests.support.waiting import wait_until, with_timeout
from wsaas import settings
from wsaas.worker_place import WorkerPlace
from wsaas.workers.launcher import Launcher
from wsaas.workers.supervisor import Supervisor
from wsaas.workers.worker import Worker


class ChannelEnd:
    """One end of a channel, as the other side sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, stage: Stage, sock: socket.socket) -> "ChannelEnd":
        """Use `sock` until the end of the test."""
        end = cls(*await asyncio.open_connection(sock=sock))
        stage.stack.push_async_callback(end.close)
        return end

    def send(self, **message: Any) -> None:
        self._writer.write(json.dumps(message).encode() + b"\n")

    def send_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    async def take(self) -> Any:
        """Return the next message; None at the end."""
        line = await with_timeout(self._reader.readline())
        return json.loads(line) if line else None

    async def close(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


class LoneWorker:
    """A worker in this process. The test is its supervisor."""

    def __init__(self, stage: Stage, chosen: settings.Settings, place: WorkerPlace, channel: ChannelEnd) -> None:
        self.channel = channel
        self.place = place
        self.port = chosen.ws_hostname.port
        self.worker = Worker(chosen, place, asyncio.get_running_loop())
        self.task = asyncio.ensure_future(self.worker.run())
        stage.stack.push_async_callback(self.end)

    async def listen(self) -> str:
        """Let it listen; return the prefix of its ids."""
        prefix: str = (await self.channel.take())["worker"]
        self.channel.send(peers={prefix: 0}, version=1)
        assert await self.channel.take() == {"knows": 1}
        self.channel.send(listen=True)
        assert await self.channel.take() == {"listening": [f"127.0.0.1:{self.port}"]}
        return prefix

    async def status(self) -> int:
        """Wait for its end; return its exit status."""
        return await with_timeout(self.task)

    async def end(self) -> None:
        """Stop it if it runs."""
        if not self.task.done():
            self.channel.send(stop=True)
        await self.status()


async def lone_worker(
    stage: Stage,
    folder: Path,
    lock: int | None = None,
    *,
    sockets: Mapping[str, Sequence[int]] | None = None,
    metrics: int | None = None,
    **chosen: Any,
) -> LoneWorker:
    """Start a worker, with its private socket and its journal in `folder`, of which it inherits `lock`.

    It inherits `sockets` and `metrics`, too. The backend of `stage` runs.
    """
    if not stage.backend.port:
        await stage.backend.start()
    ours, theirs = socket.socketpair()
    given = {
        "api_uri": f"{stage.backend.authority}/hook",
        "ws_hostname": f"127.0.0.1:{free_port()}",
        "drain_timeout": "5000",
        "workers": "2",
        **{name: str(value) for name, value in chosen.items()},
    }
    loaded = settings.of_worker(settings.load(given, {}), 0)
    place = WorkerPlace(
        index=0,
        count=2,
        channel=theirs.detach(),
        folder=str(folder),
        journal=f"{loaded.journal}.1" if loaded.journal else str(folder / "journal.1"),
        is_journal_kept=loaded.journal is not None,
        lock=lock,
        sockets=sockets or {},
        metrics=metrics,
    )
    return LoneWorker(stage, loaded, place, await ChannelEnd.open(stage, ours))


class FakeWorker:
    """The process of a worker, and its end of the channel."""

    def __init__(self, place: WorkerPlace, pid: int, channel: ChannelEnd) -> None:
        self.channel = channel
        self.kills = 0
        self.pid = pid
        self.place = place
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        return await self._code

    def kill(self) -> None:
        self.kills += 1
        self.end(-9)

    def end(self, code: int = 0) -> None:
        """End the process, if it runs, with an exit status, or with a signal as a negative number."""
        if not self._code.done():
            self._code.set_result(code)

    async def join(self, prefix: str) -> None:
        """Announce itself; acknowledge the table."""
        self.channel.send(worker=prefix)
        await self.learn(prefix)

    async def learn(self, prefix: str) -> dict[str, int]:
        """Take a table with `prefix` in it, and acknowledge it; return it."""
        while prefix not in (message := await self.channel.take()).get("peers", ()):
            pass
        self.channel.send(knows=message["version"])
        peers: dict[str, int] = message["peers"]
        return peers

    async def answer_pings(self, count: int | None = None) -> None:
        """Answer `count` pings, or all; ignore other messages."""
        while count is None or count > 0:
            if await self.channel.take() == {"ping": True}:
                self.channel.send(pong=True)
                count = None if count is None else count - 1

    async def listen(self) -> None:
        """Wait for the permission to listen, and say that it does."""
        while (await self.channel.take()) != {"listen": True}:
            pass
        self.channel.send(listening=[])


class FakeLauncher(Launcher):
    """Starts fake workers. `errors`: what the next starts raise."""

    def __init__(self, stage: Stage) -> None:
        super().__init__({}, {}, {})
        self.errors: list[OSError] = []
        self.flags: Mapping[str, str] = {}
        self.started: list[FakeWorker] = []
        self._in_order = asyncio.Lock()
        self._stage = stage

    async def launch(self, place: WorkerPlace, flags: Mapping[str, str]) -> Process:
        if self.errors:
            raise self.errors.pop(0)
        self.flags = flags
        async with self._in_order:
            sock = socket.socket(fileno=os.dup(place.channel))
            worker = FakeWorker(place, 1000 + len(self.started), await ChannelEnd.open(self._stage, sock))
            self.started.append(worker)
        return cast(Process, worker)

    async def take(self, number: int) -> FakeWorker:
        """Return the worker that was started after `number` others."""
        await wait_until(lambda: len(self.started) > number, f"worker {number} to be started")
        return self.started[number]


def fake_supervisor(
    stage: Stage, sockets: Mapping[str, Sequence[int]] | None = None, **chosen: Any
) -> tuple[Supervisor, FakeLauncher]:
    """Return a supervisor of two fake workers. `sockets`: descriptors of open sockets by address."""
    given = {"api_uri": "127.0.0.1:9/hook", "ws_hostname": f"127.0.0.1:{free_port()}", "workers": "2"}
    given |= {name: str(value) for name, value in chosen.items()}
    launcher = FakeLauncher(stage)
    return Supervisor(settings.load(given, {}), launcher, sockets or {}), launcher
