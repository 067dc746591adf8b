"""The requests to a gateway as values, without any I/O: `Client` and `AsyncClient` send the same ones."""

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote, urlencode

from wsaas.backend import addresses, results
from wsaas.backend.answers import NORMAL_CLOSURE, Data, check_close, check_group, encode_data
from wsaas.backend.errors import HEAD, READING, GatewayError, from_answer
from wsaas.backend.results import CloseResult, ConnectionInfo, Page, PublishResult, SendResult

T = TypeVar("T")

Sent = tuple[Mapping[str, str], bytes]
"""Headers and body of a request."""

PAGE: Final = 1000
"""Connections on a page: as many as the gateway allows."""

TEXT: Final = {"Content-Type": "text/plain; charset=utf-8"}
BINARY: Final = {"Content-Type": "application/octet-stream"}
JSON: Final = {"Content-Type": "application/json"}
NDJSON: Final = {"Content-Type": "application/x-ndjson"}

_OK: Final = 200
_TRACEPARENT: Final = re.compile(
    r"(?!ff)(?!00-.{49}-..-)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-+\--~]{0,255})?"
)
_VISIBLE: Final = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request. `read`: returns the result from the JSON of a 200. `reads_only`: it can be repeated without harm."""

    method: str
    url: str
    read: Callable[[Mapping[str, Any]], T]
    headers: Mapping[str, str]
    content: bytes = b""

    @property
    def reads_only(self) -> bool:
        """Whether it changes nothing, so that it can be repeated although it may have arrived."""
        return self.method in READING

    def result(self, status: int, headers: Mapping[str, str], body: bytes) -> T:
        """Return the result in an answer. Raises `GatewayError`. `headers`: by name in lower case."""
        try:
            content: Any = json.loads(body) if body else {}
        except ValueError:
            content = None
        if status != _OK:
            raise from_answer(self.method, status, headers, content)
        try:
            return self.read(content)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise GatewayError("the answer is 200, but not that of a gateway", status=status) from None


class Calls:
    """Makes the requests to one gateway, or to several nodes.

    `base_url`: the address of the REST API, by default only what a `ws_uri` leads to. `nodes`: addresses of further
    nodes, each with a port or a range of ports. `by_id`: everything goes to `base_url`, also what is for another host;
    that is how it is on a Unix socket.
    """

    def __init__(self, base_url: str | None, token: str | None, nodes: Iterable[str] = (), *, by_id: bool) -> None:
        """Check the addresses. Raises `ValueError`."""
        self._base = None if base_url is None else addresses.base_url(base_url)
        self._by_id = by_id
        self._gateways = addresses.Gateways([*nodes, *([] if base_url is None else [base_url])])
        # Of several, separated by commas as in the setting, any will do.
        self._token = token.split(",")[0].strip() if token else ""
        if self._token and not _VISIBLE.fullmatch(self._token):
            raise ValueError("the token must be visible ASCII characters, as in CONTROL_TOKEN")
        if self._token and not (self._gateways or by_id):
            raise ValueError("with a token, a base_url is needed: the token must not go wherever a ws_uri leads to")

    def push(self, client: str, data: Data, traceparent: str | None = None) -> Call[None]:
        """Send a message to a client."""
        headers, content = _message(data)
        more = {} if traceparent is None else {"traceparent": _trace(traceparent)}
        return self._call("PUT", self._client(client), results.read_nothing, ({**headers, **more}, content))

    def disconnect(self, client: str, code: int = NORMAL_CLOSURE, reason: str = "") -> Call[None]:
        """Close a client."""
        return self._call("DELETE", self._client(client), results.read_nothing, _close(code, reason))

    def info(self, client: str) -> Call[ConnectionInfo]:
        """Ask for what is known of a client."""
        return self._call("GET", self._client(client), results.read_connection)

    def exists(self, client: str) -> Call[None]:
        """Ask whether a client is connected."""
        return self._call(HEAD, self._client(client), results.read_nothing)

    def join(self, client: str, group: str) -> Call[None]:
        """Add a client to a group."""
        return self._call("PUT", self._membership(client, group), results.read_nothing)

    def leave(self, client: str, group: str) -> Call[None]:
        """Remove a client from a group."""
        return self._call("DELETE", self._membership(client, group), results.read_nothing)

    def publish(
        self, group: str | None, data: Data, exclude: Iterable[str] = (), *, close_slow: bool = False
    ) -> Call[PublishResult]:
        """Send a message to the members of a group, or to all clients (None)."""
        path = "/connections" if group is None else f"/groups/{_group(group)}"
        query = {"except": ",".join(map(addresses.client_id, _several(exclude))), "slow": "close" if close_slow else ""}
        return self._call("PUT", self._url(path, query), results.read_publish, _message(data))

    def disconnect_group(self, group: str, code: int = NORMAL_CLOSURE, reason: str = "") -> Call[CloseResult]:
        """Close the members of a group."""
        return self._call("DELETE", self._url(f"/groups/{_group(group)}"), results.read_close, _close(code, reason))

    def send(self, messages: Iterable[tuple[Iterable[str], Data]]) -> Call[SendResult]:
        """Send messages, each to the clients with it."""
        lines = [json.dumps({"to": list(_several(to)), **_json_message(data)}) for to, data in messages]
        return self._call("POST", self._url("/send"), results.read_send, (NDJSON, "\n".join(lines).encode()))

    def connections(
        self, after: str | None = None, limit: int = PAGE, connected_before: datetime | None = None, *, ending: bool
    ) -> Call[Page]:
        """Ask for a page of connections."""
        query = {
            "after": after or "",
            "limit": str(limit),
            "connected_before": "" if connected_before is None else _rfc3339(connected_before),
            "state": "ending" if ending else "",
        }
        return self._call("GET", self._url("/connections", query), results.read_page)

    def members(self, group: str, after: str | None = None, limit: int = PAGE) -> Call[Page]:
        """Ask for a page of the members of a group."""
        query = {"after": after or "", "limit": str(limit)}
        return self._call("GET", self._url(f"/groups/{_group(group)}", query), results.read_page)

    def _call(self, method: str, url: str, read: Callable[[Mapping[str, Any]], T], sent: Sent = ({}, b"")) -> Call[T]:
        own = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        return Call(method, url, read, {**own, **sent[0]}, sent[1])

    def _url(self, path: str, query: Mapping[str, str] | None = None) -> str:
        if self._base is None:
            raise ValueError("this request is about no single client: it needs a base_url, such as localhost:8080")
        parameters = urlencode({name: value for name, value in (query or {}).items() if value}, safe=",:")
        return f"{self._base}{path}{parameters and '?'}{parameters}"

    def _membership(self, client: str, group: str) -> str:
        """Return the URL of a client in a group. The gateway that has the client is where its `ws_uri` leads to."""
        base, _, connection_id = self._client(client).rpartition("/")
        return f"{base}/groups/{_group(group)}/connections/{connection_id}"

    def _client(self, client: str) -> str:
        """Return the URL of a client, from its `ws_uri` or id. A `ws_uri` that leads to an unknown host is refused."""
        if self._by_id or addresses.is_client_id(client):
            return self._url(f"/{addresses.client_id(client)}")
        return self._gateways.url(client)


def _several(clients: Iterable[str]) -> Iterable[str]:
    if isinstance(clients, str):
        raise TypeError(f"the clients are the string {clients[:80]!r}: expected a list of them")
    return clients


def _group(name: str) -> str:
    """Return the segment of a path. Dots alone would be removed from the path, as in a file system."""
    segment = quote(check_group(name), safe="~:@!")
    return segment if segment.strip(".") else segment.replace(".", "%2E")


def _message(data: Data) -> Sent:
    """Return headers and body of a message."""
    return TEXT if isinstance(data, str) else BINARY, encode_data(data)


def _json_message(data: Data) -> Mapping[str, str]:
    encoded = encode_data(data)
    return {"text": data} if isinstance(data, str) else {"base64": b64encode(encoded).decode()}


def _trace(traceparent: str) -> str:
    """Return a `traceparent` that the gateway will read (W3C Trace Context). Raises `ValueError`."""
    if not _TRACEPARENT.fullmatch(traceparent):
        raise ValueError(f"the traceparent is {traceparent[:80]!r}: expected 00-<32 hex digits>-<16 hex digits>-01")
    return traceparent


def _close(code: int, reason: str) -> Sent:
    check_close(code, reason)
    return JSON, json.dumps({"code": code, "reason": reason}).encode()


def _rfc3339(time: datetime) -> str:
    if time.tzinfo is None:
        raise ValueError("the time has no time zone")
    return time.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
