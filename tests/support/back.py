"""Servers of a backend behind a proxy of `deploy`, and a gateway in front of it."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from tests.support.deployed_proxy import DeployedProxy, back
from tests.support.ports import free_port
from tests.support.stage import Node, Stage


class Servers:
    """Two servers of one backend, by aiohttp: they return messages, and remember them by client."""

    def __init__(self) -> None:
        self.ports = [free_port(), free_port()]
        self.messages: dict[str, list[str]] = defaultdict(list)
        self.served = [0, 0]
        self._runners: dict[int, web.AppRunner] = {}

    @property
    def authorities(self) -> list[str]:
        """Where they listen."""
        return [f"127.0.0.1:{port}" for port in self.ports]

    async def start(self, number: int) -> None:
        """Start one of them."""

        async def handle(request: web.Request) -> web.Response:
            self.served[number] += 1
            body = await request.read()
            if request.method != "PUT":
                return web.json_response({"code": "OK"})
            self.messages[request.headers["ce-subject"]].append(body.decode())
            # Some of them are being handled when it stops.
            await asyncio.sleep(HANDLING_S)
            return web.Response(body=body, headers={"Ws-Reply": "text"})

        application = web.Application(client_max_size=4 << 20)
        application.router.add_route("*", "/hook", handle)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.ports[number]).start()
        self._runners[number] = runner

    async def stop(self, number: int) -> None:
        """Stop one of them as a signal would: it finishes its requests, and closes idle connections."""
        if number in self._runners:
            await self._runners.pop(number).cleanup()


HANDLING_S = 0.005


@asynccontextmanager
async def two_servers() -> AsyncIterator[Servers]:
    """Run two servers."""
    servers = Servers()
    try:
        for number in range(2):
            await servers.start(number)
        yield servers
    finally:
        for number in range(2):
            await servers.stop(number)


@asynccontextmanager
async def behind(
    stage: Stage,
    folder: Path,
    file: str,
    backends: list[str],
    *,
    changes: dict[str, str] | None = None,
    **settings: object,
) -> AsyncIterator[tuple[Node, DeployedProxy]]:
    """Run a gateway whose backend is behind a proxy; return both. `changes`: what is replaced in its file."""
    proxy = back(file, folder, backends)
    proxy.replace_if_there(changes or {})
    async with proxy.running():
        node = await stage.node(backend=None, api_uri=f"127.0.0.1:{proxy.ports[0]}/hook", **settings)
        yield node, proxy
        # While the proxy can still deliver its DELETEs.
        assert await node.drain()
