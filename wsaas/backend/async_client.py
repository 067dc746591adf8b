"""The client of the REST API for asyncio and Trio. Needs `pip install 'wsaas[backend]'`."""

from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import anyio
import httpx2

from wsaas.backend.answers import NORMAL_CLOSURE, Data
from wsaas.backend.calls import PAGE, Call
from wsaas.backend.errors import GatewayError, Gone
from wsaas.backend.results import CloseResult, ConnectionInfo, Page, PublishResult, SendResult
from wsaas.backend.sending import (
    Options,
    Walk,
    client_options,
    make_calls,
    may_repeat,
    retry_delay,
    translated,
    transport_options,
)

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio and Trio: the same methods, to be awaited. It belongs to one event loop."""

    def __init__(
        self,
        base_url: str | None = None,
        *,
        token: str | None = None,
        nodes: Iterable[str] = (),
        retries: int = 0,
        **options: "Unpack[Options]",
    ) -> None:
        """Make a client without connections. The parameters are those of `Client`."""
        self._calls = make_calls(base_url, token, nodes, options)
        self._retries = retries
        transport = options.get("transport") or httpx2.AsyncHTTPTransport(**transport_options(options))
        self._http = httpx2.AsyncClient(transport=transport, **client_options(options))

    async def __aenter__(self) -> "Self":
        """Return the client, which is closed at the end."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the client."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections to the gateway."""
        await self._http.aclose()

    async def push(self, ws_uri: str, data: Data, *, traceparent: str | None = None) -> None:
        """Send a message to a client: `str` as text, bytes as binary."""
        await self._send(self._calls.push(ws_uri, data, traceparent))

    async def disconnect(self, ws_uri: str, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Close the WebSocket of a client; see `Client.disconnect`."""
        await self._send(self._calls.disconnect(ws_uri, code, reason))

    async def info(self, ws_uri: str) -> ConnectionInfo:
        """Return what the gateway knows about a client."""
        return await self._send(self._calls.info(ws_uri))

    async def exists(self, ws_uri: str) -> bool:
        """Return whether a client is connected."""
        try:
            await self._send(self._calls.exists(ws_uri))
        except Gone:
            return False
        return True

    async def join(self, ws_uri: str, group: str) -> None:
        """Add a client to a group. It may be a member already."""
        await self._send(self._calls.join(ws_uri, group))

    async def leave(self, ws_uri: str, group: str) -> None:
        """Remove a client from a group."""
        await self._send(self._calls.leave(ws_uri, group))

    async def publish(
        self, group: str, data: Data, *, exclude: Iterable[str] = (), close_slow: bool = False
    ) -> PublishResult:
        """Send a message to the members of a group; see `Client.publish`."""
        return await self._send(self._calls.publish(group, data, exclude, close_slow=close_slow))

    async def broadcast(self, data: Data, *, exclude: Iterable[str] = (), close_slow: bool = False) -> PublishResult:
        """Send a message to all clients, as `publish` does to some."""
        return await self._send(self._calls.publish(None, data, exclude, close_slow=close_slow))

    async def disconnect_group(self, group: str, code: int = NORMAL_CLOSURE, reason: str = "") -> CloseResult:
        """Close all members of a group."""
        return await self._send(self._calls.disconnect_group(group, code, reason))

    async def send(self, to: Iterable[str], data: Data) -> SendResult:
        """Send a message to several clients with one request."""
        return await self._send(self._calls.send([(to, data)]))

    async def send_batch(self, messages: Iterable[tuple[Iterable[str], Data]]) -> SendResult:
        """Send messages with one request, each to several clients: `[([ws_uri, …], data), …]`."""
        return await self._send(self._calls.send(messages))

    async def connections(
        self,
        *,
        after: str | None = None,
        limit: int = PAGE,
        connected_before: datetime | None = None,
        ending: bool = False,
    ) -> Page:
        """Return a page of all connections; see `Client.connections`."""
        return await self._send(self._calls.connections(after, limit, connected_before, ending=ending))

    async def members(self, group: str, *, after: str | None = None, limit: int = PAGE) -> Page:
        """Return a page of the members of a group."""
        return await self._send(self._calls.members(group, after, limit))

    async def iter_connections(
        self, *, connected_before: datetime | None = None, ending: bool = False
    ) -> AsyncIterator[ConnectionInfo]:
        """Iterate over the connections on all pages. Raises `Incomplete` at the end of a list that is not complete."""
        walk = Walk()
        while walk.has_more:
            page = await self.connections(after=walk.after, connected_before=connected_before, ending=ending)
            for each in walk.add(page):
                yield each

    async def iter_members(self, group: str) -> AsyncIterator[ConnectionInfo]:
        """Iterate over the members of a group on all pages. Raises `Incomplete` as `iter_connections`."""
        walk = Walk()
        while walk.has_more:
            for each in walk.add(await self.members(group, after=walk.after)):
                yield each

    async def _send(self, call: Call[T]) -> T:
        failures = 0
        while True:
            try:
                with translated(call):
                    response = await self._http.request(
                        call.method, call.url, headers=call.headers, content=call.content
                    )
                return call.result(response.status_code, response.headers, response.content)
            except GatewayError as error:
                failures += 1
                if failures > self._retries or not may_repeat(call, error):
                    raise
                delay = retry_delay(failures, error)
            await anyio.sleep(delay)
