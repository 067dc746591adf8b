"""The client of the REST API that waits for its answers. Needs `pip install 'wsaas[backend]'`."""

import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

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


class Client:
    """Reaches the clients of a gateway. Threads may share it; processes may not, as with all pools.

    A client is named by its `ws_uri` or its id. Methods raise a `GatewayError`, and `ValueError` for arguments that the
    gateway would refuse.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        token: str | None = None,
        nodes: Iterable[str] = (),
        retries: int = 0,
        **options: "Unpack[Options]",
    ) -> None:
        """Make a client without connections.

        `base_url`: where the REST API is, such as `localhost:8080`. `token`: the `CONTROL_TOKEN`.
        `nodes`: further gateways (`WS_HOSTNAME`) that a `ws_uri` may lead to, and the ports of workers, such as
        `10.0.0.5:8081-8084`. A `ws_uri` with another scheme, host, port or path is refused, so that the token cannot
        be drawn to another server. `retries`: how often a request is sent again that was not carried out.
        """
        self._calls = make_calls(base_url, token, nodes, options)
        self._retries = retries
        transport = options.get("transport") or httpx2.HTTPTransport(**transport_options(options))
        self._http = httpx2.Client(transport=transport, **client_options(options))

    def __enter__(self) -> "Self":
        """Return the client, which is closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the client."""
        self.close()

    def close(self) -> None:
        """Close all connections to the gateway."""
        self._http.close()

    def push(self, ws_uri: str, data: Data, *, traceparent: str | None = None) -> None:
        """Send a message to a client: `str` as text, bytes as binary."""
        self._send(self._calls.push(ws_uri, data, traceparent))

    def disconnect(self, ws_uri: str, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Close the WebSocket of a client, with 1000 or 3000 to 4999 and a reason of up to 123 bytes."""
        self._send(self._calls.disconnect(ws_uri, code, reason))

    def info(self, ws_uri: str) -> ConnectionInfo:
        """Return what the gateway knows about a client."""
        return self._send(self._calls.info(ws_uri))

    def exists(self, ws_uri: str) -> bool:
        """Return whether a client is connected."""
        try:
            self._send(self._calls.exists(ws_uri))
        except Gone:
            return False
        return True

    def join(self, ws_uri: str, group: str) -> None:
        """Add a client to a group. It may be a member already."""
        self._send(self._calls.join(ws_uri, group))

    def leave(self, ws_uri: str, group: str) -> None:
        """Remove a client from a group."""
        self._send(self._calls.leave(ws_uri, group))

    def publish(
        self, group: str, data: Data, *, exclude: Iterable[str] = (), close_slow: bool = False
    ) -> PublishResult:
        """Send a message to the members of a group, except to the clients in `exclude`.

        Clients that do not read are skipped, or closed with `close_slow`.
        """
        return self._send(self._calls.publish(group, data, exclude, close_slow=close_slow))

    def broadcast(self, data: Data, *, exclude: Iterable[str] = (), close_slow: bool = False) -> PublishResult:
        """Send a message to all clients, as `publish` does to some."""
        return self._send(self._calls.publish(None, data, exclude, close_slow=close_slow))

    def disconnect_group(self, group: str, code: int = NORMAL_CLOSURE, reason: str = "") -> CloseResult:
        """Close all members of a group."""
        return self._send(self._calls.disconnect_group(group, code, reason))

    def send(self, to: Iterable[str], data: Data) -> SendResult:
        """Send a message to several clients with one request."""
        return self._send(self._calls.send([(to, data)]))

    def send_batch(self, messages: Iterable[tuple[Iterable[str], Data]]) -> SendResult:
        """Send messages with one request, each to several clients: `[([ws_uri, …], data), …]`."""
        return self._send(self._calls.send(messages))

    def connections(
        self,
        *,
        after: str | None = None,
        limit: int = PAGE,
        connected_before: datetime | None = None,
        ending: bool = False,
    ) -> Page:
        """Return a page of all connections.

        `after`: the `next` of the page before. `ending`: those that have ended, whose DELETE is not acknowledged yet.
        """
        return self._send(self._calls.connections(after, limit, connected_before, ending=ending))

    def members(self, group: str, *, after: str | None = None, limit: int = PAGE) -> Page:
        """Return a page of the members of a group."""
        return self._send(self._calls.members(group, after, limit))

    def iter_connections(
        self, *, connected_before: datetime | None = None, ending: bool = False
    ) -> Iterator[ConnectionInfo]:
        """Iterate over the connections on all pages. Raises `Incomplete` at the end of a list that is not complete."""
        walk = Walk()
        while walk.has_more:
            yield from walk.add(self.connections(after=walk.after, connected_before=connected_before, ending=ending))

    def iter_members(self, group: str) -> Iterator[ConnectionInfo]:
        """Iterate over the members of a group on all pages. Raises `Incomplete` as `iter_connections`."""
        walk = Walk()
        while walk.has_more:
            yield from walk.add(self.members(group, after=walk.after))

    def _send(self, call: Call[T]) -> T:
        failures = 0
        while True:
            try:
                with translated(call):
                    response = self._http.request(call.method, call.url, headers=call.headers, content=call.content)
                return call.result(response.status_code, response.headers, response.content)
            except GatewayError as error:
                failures += 1
                if failures > self._retries or not may_repeat(call, error):
                    raise
                delay = retry_delay(failures, error)
            time.sleep(delay)
