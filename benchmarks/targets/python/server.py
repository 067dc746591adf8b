"""The contract of WSaaS in plain aiohttp: `server.py PORT BACKEND_PORT CONNECTIONS`."""

import asyncio
import json
import secrets
import sys
from collections import deque

import uvloop
from aiohttp import ClientError, ClientSession, DummyCookieJar, TCPConnector, WSMsgType, web

HOST = "127.0.0.1"
LARGEST = 16 << 20
OK = b'{"code":"OK"}'
GONE = b'{"code":"GONE"}'
Event = tuple[str, str, bytes]


class Client:
    """One WebSocket. Its requests to the backend are sent in order, one at a time."""

    def __init__(self, node: "Node", authorization: str | None) -> None:
        """Give it an id."""
        self.node = node
        self.id = secrets.token_urlsafe(16)
        self.ws_uri = f"{node.hostname}/{self.id}"
        self.socket = web.WebSocketResponse(compress=False, max_msg_size=LARGEST, autoping=True)
        self.headers = {"Ws-Uri": self.ws_uri}
        if authorization is not None:
            self.headers["Authorization"] = authorization
        self.queue: deque[Event] = deque()
        self.teller: asyncio.Task[None] | None = None

    async def tell(self, method: str, content_type: str, body: bytes) -> tuple[int, bytes]:
        """Send one request; return the answer's status (0: there was none) and body."""
        headers = {**self.headers, "Content-Type": content_type}
        try:
            async with self.node.session.request(method, self.node.backend, data=body, headers=headers) as response:
                return response.status, await response.read()
        except (ClientError, asyncio.TimeoutError):
            return 0, b""

    def enqueue(self, method: str, content_type: str, body: bytes) -> None:
        """Send a request to the backend once all earlier ones are answered."""
        self.queue.append((method, content_type, body))
        if self.teller is None:
            self.teller = asyncio.create_task(self.work())

    async def work(self) -> None:
        """Empty the queue."""
        while self.queue:
            status, _ = await self.tell(*self.queue.popleft())
            if not status:
                await self.socket.close(code=1011)
        self.teller = None


class Node:
    """All clients, and the two sides of the gateway."""

    def __init__(self, port: int, backend_port: int, connections: int) -> None:
        """Begin without clients."""
        self.hostname = f"{HOST}:{port}"
        self.backend = f"http://{HOST}:{backend_port}/"
        self.clients: dict[str, Client] = {}
        connector = TCPConnector(limit=connections)
        self.session = ClientSession(connector=connector, cookie_jar=DummyCookieJar(), auto_decompress=False)

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """A client connects."""
        client = Client(self, request.headers.get("Authorization"))
        wanted = {"path": request.path, "headers": dict(request.headers)}
        body = json.dumps({"ws_uri": client.ws_uri, "id": client.id, "request": wanted}).encode()
        status, answer = await client.tell("POST", "application/json", body)
        if status != web.HTTPOk.status_code or json.loads(answer).get("code") != "OK":
            return web.Response(status=403)
        await client.socket.prepare(request)
        self.clients[client.id] = client
        try:
            async for message in client.socket:
                if message.type == WSMsgType.TEXT:
                    client.enqueue("PUT", "text/plain; charset=utf-8", message.data.encode())
                elif message.type == WSMsgType.BINARY:
                    client.enqueue("PUT", "application/octet-stream", message.data)
        finally:
            del self.clients[client.id]
            gone = {"ws_uri": client.ws_uri, "code": client.socket.close_code}
            client.enqueue("DELETE", "application/json", json.dumps(gone).encode())
        return client.socket

    async def push(self, request: web.Request) -> web.Response:
        """The backend has a message for a client."""
        client = self.clients.get(request.match_info["id"])
        if client is None:
            return web.Response(status=410, body=GONE, content_type="application/json")
        body = await request.read()
        if request.content_type.startswith("text/"):
            await client.socket.send_str(body.decode())
        else:
            await client.socket.send_bytes(body)
        return web.Response(body=OK, content_type="application/json")

    async def close(self, request: web.Request) -> web.Response:
        """The backend wants a client closed."""
        client = self.clients.get(request.match_info["id"])
        if client is None:
            return web.Response(status=410, body=GONE, content_type="application/json")
        await client.socket.close()
        return web.Response(body=OK, content_type="application/json")


async def serve(port: int, backend_port: int, connections: int) -> None:
    """Serve until killed."""
    node = Node(port, backend_port, connections)
    application = web.Application(client_max_size=LARGEST)
    application.router.add_put("/{id}", node.push)
    application.router.add_delete("/{id}", node.close)
    application.router.add_get("/{path:.*}", node.connect)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, port, backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(*map(int, sys.argv[1:])))
