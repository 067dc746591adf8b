"""The opening handshake (RFC 6455 section 4): parses an upgrade request to a `Handshake`, and writes the 101."""

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha1
from typing import Final

from wsaas.access import ANY_ORIGIN, Origins
from wsaas.errors import BadRequest, Forbidden, UpgradeRequired
from wsaas.grammar import TOKEN_BYTES
from wsaas.http import trace_context
from wsaas.http.request import Request
from wsaas.http.trace_context import TRACEPARENT, TraceContext
from wsaas.websocket.deflate import Agreement, Offer, negotiate, offers

VERSION: Final = b"13"
UPGRADE: Final = b"websocket"
UPGRADE_ADVICE: Final = (
    "let it speak HTTP/1.1 and pass Upgrade and Connection on (nginx: proxy_http_version 1.1; "
    'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";)'
)
"""How to configure a proxy that does neither by default, such as nginx."""

# RFC 6455 section 4.4 requires the first of these headers, RFC 9110 section 15.5.22 the others.
_SUPPORTED: Final = (("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket"), ("Connection", "Upgrade"))
COMMON_EXTENSIONS: Final = 64
COMMON_EXTENSIONS_SIZE: Final = 256
"""How many values of `Sec-WebSocket-Extensions` are cached, and the maximum size of a cached value in bytes."""

_FORWARDED: Final = frozenset({"x-forwarded-port", "x-forwarded-proto"})
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
_TOKEN: Final = re.compile(TOKEN_BYTES)


@dataclass(slots=True)
class Handshake:
    """A valid handshake request.

    `headers`: lower-case names to values, decoded as UTF-8 or else Latin-1; the values of repeated headers are joined.
    `agreement`: the parameters of permessage-deflate, None without compression. `trace`: None without a valid one.
    """

    key: bytes
    path: str
    query: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    subprotocols: list[str]
    authorization: bytes | None = field(repr=False)
    agreement: Agreement | None = None
    trace: TraceContext | None = None


def drop_forwarded(handshake: Handshake) -> None:
    """Drop what the headers of `handshake` say about how the client reached a proxy, for a client that is no proxy."""
    handshake.headers = {name: value for name, value in handshake.headers.items() if name not in _FORWARDED}


def is_handshake(request: Request) -> bool:
    """Return whether `request` is a handshake, valid or not."""
    return request.upgrade or UPGRADE in map(bytes.lower, request.tokens(b"upgrade"))


def lost_upgrade(request: Request) -> bool:
    """Return whether `request` is a handshake from which a proxy dropped `Upgrade` or `Connection`.

    Both are hop-by-hop headers (RFC 9110 section 7.6.1), which a proxy drops unless it is configured for WebSockets.
    """
    headers = request.headers
    return (
        request.method == b"GET"
        and not request.upgrade
        and (b"sec-websocket-key" in headers or b"sec-websocket-version" in headers)
    )


def upgrade_lost() -> UpgradeRequired:
    """Return the error for a request with a `lost_upgrade`."""
    return UpgradeRequired(
        f"A proxy in front dropped the Upgrade of this WebSocket handshake: {UPGRADE_ADVICE}.", *_SUPPORTED
    )


def read(request: Request, origins: Origins = ANY_ORIGIN, *, compression: bool = False) -> Handshake:
    """Parse a handshake. `compression`: accept an offer of permessage-deflate.

    Raises `BadRequest` for an invalid handshake, `UpgradeRequired` for a version other than 13 or a `lost_upgrade`,
    and `Forbidden` for an `Origin` (RFC 6454) that `origins` does not allow.
    """
    if request.method != b"GET" or request.version != "1.1":
        raise BadRequest(
            f"A WebSocket handshake is a GET of HTTP/1.1. If a proxy in front sent this: {UPGRADE_ADVICE}."
        )
    if not request.upgrade:
        if lost_upgrade(request):
            raise upgrade_lost()
        raise BadRequest("A WebSocket handshake needs Connection: Upgrade.")
    headers = request.headers
    version = headers.get(b"sec-websocket-version")
    if version is None:
        raise BadRequest("A WebSocket handshake needs Sec-WebSocket-Version.")
    if version != VERSION:
        raise UpgradeRequired("Only WebSocket version 13 is supported.", *_SUPPORTED)
    key = headers.get(b"sec-websocket-key")
    if key is None or not _KEY.fullmatch(key):
        raise BadRequest("A WebSocket handshake needs one Sec-WebSocket-Key of 16 bytes in base64.")
    subprotocols = _subprotocols(request) if b"sec-websocket-protocol" in headers else []
    origin = headers.get(b"origin")
    if origin is not None and not origins.allow(origin.decode("latin-1")):
        raise Forbidden("This origin may not connect.")
    extensions = headers.get(b"sec-websocket-extensions")
    offered = () if extensions is None else _offers(extensions)
    path, _, query = request.target.decode("latin-1").partition("?")
    return Handshake(
        key=key,
        path=path,
        query=query,
        headers=request.text_headers(),
        subprotocols=subprotocols,
        authorization=headers.get(b"authorization"),
        agreement=negotiate(offered) if compression else None,
        trace=trace_context.read(headers) if TRACEPARENT in headers else None,
    )


def _subprotocols(request: Request) -> list[str]:
    names = request.tokens(b"sec-websocket-protocol")
    if not names:
        raise _empty("Sec-WebSocket-Protocol")
    if not all(map(_TOKEN.fullmatch, names)) or len(set(names)) < len(names):
        raise BadRequest("Sec-WebSocket-Protocol must list distinct names.")
    return [name.decode() for name in names]


def _offers(value: bytes) -> tuple[Offer, ...]:
    """Parse `Sec-WebSocket-Extensions`. All clients of one kind send the same."""
    return common_extensions(value) if len(value) <= COMMON_EXTENSIONS_SIZE else _extensions(value)


def _extensions(value: bytes) -> tuple[Offer, ...]:
    try:
        extensions = offers(value.decode("latin-1"))
    except ValueError:
        raise BadRequest("Sec-WebSocket-Extensions is malformed.") from None
    if not extensions:
        raise _empty("Sec-WebSocket-Extensions")
    return tuple(extensions)


common_extensions: Final = lru_cache(COMMON_EXTENSIONS)(_extensions)


def _empty(name: str) -> BadRequest:
    """Return the error for the list header `name` without members (RFC 6455 section 4.3)."""
    return BadRequest(f"{name} must not be empty.")


def select_subprotocol(named: str | None, offered: Sequence[str], preferred: Sequence[str]) -> str | None:
    """Return the subprotocol for the 101: `named` by the backend, else the first of `preferred` that is in `offered`.

    Raises `ValueError` if the client did not offer `named` (RFC 6455 section 4.2.2).
    """
    if named is not None:
        if named not in offered:
            raise ValueError(named)
        return named
    for name in preferred:
        if name in offered:
            return name
    return None


def accept(handshake: Handshake, subprotocol: str | None) -> bytes:
    """Return the 101 that answers `handshake` (RFC 6455 section 4.2.2)."""
    digest = b64encode(sha1(handshake.key + _GUID, usedforsecurity=False).digest())
    chosen = f"Sec-WebSocket-Protocol: {subprotocol}\r\n".encode() if subprotocol else b""
    if handshake.agreement:
        chosen += f"Sec-WebSocket-Extensions: {handshake.agreement.response}\r\n".encode()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + digest
        + b"\r\n"
        + chosen
        + b"\r\n"
    )
