"""Gateways behind a proxy of `deploy`, and clients that connect through it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import websockets

from tests.support.certificate_authority import CertificateAuthority
from tests.support.clients import Answer
from tests.support.deployed_proxy import DeployedProxy, front
from tests.support.ports import free_port
from tests.support.stage import Node, Stage, close_quietly
from tests.support.waiting import wait_until, with_timeout

CLIENT = "127.0.0.2"
"""Where clients are; the proxy connects from 127.0.0.1, the gateways are at 127.0.1.1 and 127.0.1.2."""


PAUSE_S = 0.002


class Front:
    """A running proxy in front of gateways."""

    def __init__(self, stage: Stage, proxy: DeployedProxy, tls: ssl.SSLContext) -> None:
        self.stage = stage
        self.proxy = proxy
        self.tls = tls

    @property
    def port(self) -> int:
        """The port for clients."""
        return self.proxy.ports[0]

    @property
    def control_port(self) -> int:
        """The port of the REST API."""
        return self.proxy.ports[1]

    async def connect(self, path: str = "/", **options: Any) -> websockets.ClientConnection:
        """Connect a client by TLS. It sends no pings."""
        options = {"ping_interval": None, "ssl": self.tls, "local_addr": (CLIENT, 0), **options}
        connecting = websockets.connect(f"wss://127.0.0.1:{self.port}{path}", **options)
        client: websockets.ClientConnection = await with_timeout(connecting)
        self.stage.stack.push_async_callback(close_quietly, client)
        return client

    async def admit(self, path: str = "/") -> tuple[websockets.ClientConnection, str]:
        """Connect a client; return it and its `ws_uri`."""
        client = await self.connect(path)
        post = await self.stage.backend.take("POST")
        return client, post.ws_uri

    async def status(self, method: str, path: str, body: str = "", **headers: str) -> int:
        """Make an HTTP request as a client could; return the status."""
        answer = await ask(method, f"https://127.0.0.1:{self.port}{path}", body, ssl=self.tls, **headers)
        return answer.status


async def ask(method: str, url: str, body: str = "", *, ssl: ssl.SSLContext | bool = True, **headers: str) -> Answer:
    """Make an HTTP request on a connection of its own."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, url, data=body or None, headers=given, ssl=ssl) as answer,
    ):
        return Answer(answer.status, dict(answer.headers), await answer.read())


async def push(ws_uri: str, body: str) -> int:
    """Push a text; return the status."""
    return (await ask("PUT", f"http://{ws_uri}", body, Content_Type="text/plain")).status


async def gateways(stage: Stage, number: int, **settings: Any) -> list[Node]:
    """Start gateways as the configurations describe them, on the same two ports of different addresses."""
    clients, control = free_port(), free_port()
    nodes = []
    for host in ("127.0.1.1", "127.0.1.2")[:number]:
        control_listen = f"{host}:{control}"
        usual = {"listen": f"{host}:{clients}", "control_listen": control_listen, "ws_hostname": control_listen}
        nodes.append(await stage.node(**{**usual, "trusted_proxies": "127.0.0.1", **settings}))
    return nodes


@asynccontextmanager
async def fronted(
    stage: Stage, folder: Path, file: str, nodes: list[Node], *, changes: dict[str, str] | None = None
) -> AsyncIterator[Front]:
    """Run a proxy in front of `nodes`. `changes`: what is replaced in its file, for those that have it."""
    authority = CertificateAuthority(folder)
    # A node with one listener has the same address twice.
    addresses = [[str(each) for each in node.gateway.addresses] for node in nodes]
    proxy = front(file, folder, authority, [(each[0], each[-1]) for each in addresses])
    proxy.replace_if_there(changes or {})
    async with proxy.running():
        yield Front(stage, proxy, authority.client())


class Repeated:
    """Awaits the results of `step(0)`, `step(1)` and so on, one after the other, until it is stopped."""

    def __init__(self, step: Callable[[int], Awaitable[None]]) -> None:
        self.number = 0
        """How many there were."""
        self._step = step
        self._stopping = False
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        while not self._stopping:
            await with_timeout(self._step(self.number))
            self.number += 1
            # Others on this machine have work, too.
            await asyncio.sleep(PAUSE_S)

    async def progress(self, steps: int) -> None:
        """Wait for some more steps."""
        goal = self.number + steps
        await wait_until(lambda: self.number >= goal or self._task.done(), "some steps")

    async def stop(self) -> int:
        """Stop after the present step; return how many there were. Raises what went wrong in a step."""
        self._stopping = True
        await self._task
        return self.number
