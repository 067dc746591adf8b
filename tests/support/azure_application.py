"""An application of Azure Web PubSub in a Node process, with the packages of Azure as they are."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.azure_tokens import KEY
from tests.support.program import Program
from tests.support.waiting import TIMEOUT_S, wait_until

SCRIPT = Path(__file__).parent / "node" / "azure.mjs"
PACKAGES = ("@azure/web-pubsub@1", "@azure/web-pubsub-express@1", "express@4", "ws@8")


class AzureApplication:
    """The application. `path`: where its middleware expects events."""

    def __init__(self, port: int, path: str) -> None:
        self.port = port
        self.path = path
        self._http = aiohttp.ClientSession(f"http://127.0.0.1:{port}", timeout=aiohttp.ClientTimeout(TIMEOUT_S))

    @property
    def api_uri(self) -> str:
        """Where events go."""
        return f"127.0.0.1:{self.port}{self.path}"

    async def close(self) -> None:
        """Close the connections of this side."""
        await self._http.close()

    async def call(self, method: str, *args: Any, group: str | None = None) -> Any:
        """Call a method of the service client, or of one of its groups; return its result, which is no error."""
        answer = await self.try_call(method, *args, group=group)
        assert "error" not in answer, answer
        return answer.get("result")

    async def try_call(self, method: str, *args: Any, group: str | None = None) -> Any:
        """Do the same; return the result, or what is known of the error."""
        target = {} if group is None else {"group": group}
        return await self._post("/call", {**target, "method": method, "args": args})

    async def connect(self, url: str, *protocols: str) -> "NodeClient":
        """Connect a client."""
        return NodeClient(self, await self._post("/connect", {"url": url, "protocols": protocols}))

    async def events(self, name: str = "") -> Any:
        """Return the events so far, all or those with this name."""
        async with self._http.get("/events") as response:
            events = await response.json()
        return [each for each in events if name in {"", each["name"]}]

    async def wait_for(self, name: str, count: int = 1) -> Any:
        """Wait until there are so many events with this name; return the last."""
        deadline = asyncio.get_running_loop().time() + TIMEOUT_S
        while len(found := await self.events(name)) < count:
            assert asyncio.get_running_loop().time() < deadline, f"no {name}: {await self.events()}"
            await asyncio.sleep(0.01)
        assert len(found) == count
        return found[-1]

    async def client(self, given: dict[str, Any]) -> Any:
        """Do something with a client; return what is known of it."""
        return await self._post("/client", given)

    async def _post(self, path: str, body: Any) -> Any:
        async with self._http.post(path, json=body) as response:
            return await response.json()


class NodeClient:
    """A client in the process of the application."""

    def __init__(self, application: AzureApplication, index: int) -> None:
        self._application = application
        self._index = index

    async def do(self, **what: Any) -> Any:
        """Send `text` or `base64`, or `close`; return what is known of the client."""
        return await self._application.client({"index": self._index, **what})

    async def wait_for(self, name: str, value: Any) -> Any:
        """Wait until what is known under a name is this; return all that is known."""
        deadline = asyncio.get_running_loop().time() + TIMEOUT_S
        while (known := await self.do())[name] != value:
            assert asyncio.get_running_loop().time() < deadline, known
            await asyncio.sleep(0.01)
        return known


@asynccontextmanager
async def azure_application(
    packages: Path, log: Path, endpoint: str, hub: str = "chat", key: str = KEY, **options: Any
) -> AsyncIterator[AzureApplication]:
    """Run the application. `packages`: the folder with them. `endpoint`: the URL of the gateway.

    `options`: of the middleware.
    """
    node = shutil.which("node")
    assert node is not None
    connection_string = f"Endpoint={endpoint};AccessKey={key};Version=1.0;"
    command = [node, "--no-warnings", str(SCRIPT), str(packages), connection_string, hub, json.dumps(options)]
    program = Program(command, log, {})
    try:
        await program.start()
        await wait_until(lambda: "\n" in program.said(), "its address")
        _, port, path = program.said().split()
        application = AzureApplication(int(port), path)
        try:
            yield application
        finally:
            await application.close()
    finally:
        program.kill()
