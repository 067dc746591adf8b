"""The opening handshake: an upgrade request to a `Handshake`, and a `Handshake` to its 101 (RFC 6455 section 4)."""

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha1

from wsaas.access import ANY_ORIGIN, Origins
from wsaas.deflate import Agreement, negotiate, offers
from wsaas.errors import BadRequest, Forbidden, UpgradeRequired
from wsaas.http1 import Request

VERSION = b"13"
UPGRADE = b"websocket"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(slots=True)
class Handshake:
    """A client's valid request for a WebSocket.

    `headers`: lower-case names, repeated ones joined; `agreement`: on deflated messages, None where there are none.
    """

    key: bytes
    path: str
    query: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    subprotocols: list[str]
    authorization: bytes | None = field(repr=False)
    agreement: Agreement | None = None


def is_handshake(request: Request) -> bool:
    """Return whether `request` means to be a handshake, a valid one or not."""
    return request.header(b"upgrade") is not None and UPGRADE in map(bytes.lower, request.tokens(b"upgrade"))


def read(request: Request, origins: Origins = ANY_ORIGIN, *, compression: bool = False) -> Handshake:
    """Return the handshake that `request` is, its messages deflated if it offers that and `compression` is on.

    Raises `BadRequest` for a broken one, `UpgradeRequired` for a version other than 13, `Forbidden` for an
    `Origin` (RFC 6454) that is not among `origins`.
    """
    if request.method != b"GET" or request.version != "1.1":
        raise BadRequest("A WebSocket handshake is a GET of HTTP/1.1.")
    if not request.upgrade:
        raise BadRequest("A WebSocket handshake needs Connection: Upgrade.")
    versions = request.values(b"sec-websocket-version")
    if not versions:
        raise BadRequest("A WebSocket handshake needs Sec-WebSocket-Version.")
    if versions != [VERSION]:
        raise UpgradeRequired("Only WebSocket version 13 is spoken here.", ("Sec-WebSocket-Version", "13"))
    keys = request.values(b"sec-websocket-key")
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise BadRequest("A WebSocket handshake needs one Sec-WebSocket-Key of 16 bytes in base64.")
    subprotocols = request.tokens(b"sec-websocket-protocol")
    if not all(map(_TOKEN.fullmatch, subprotocols)) or len(set(subprotocols)) < len(subprotocols):
        raise BadRequest("Sec-WebSocket-Protocol has to list distinct names.")
    origin = request.header(b"origin")
    if origin is not None and not origins.allow(origin.decode("latin-1")):
        raise Forbidden("This origin may not connect.")
    try:
        extensions = offers(",".join(value.decode("latin-1") for value in request.values(b"sec-websocket-extensions")))
    except ValueError:
        raise BadRequest("Sec-WebSocket-Extensions cannot be read.") from None
    path, _, query = request.target.decode("latin-1").partition("?")
    return Handshake(
        key=keys[0],
        path=path,
        query=query,
        headers=_joined(request),
        subprotocols=[name.decode() for name in subprotocols],
        authorization=request.header(b"authorization"),
        agreement=negotiate(extensions) if compression else None,
    )


def _joined(request: Request) -> dict[str, str]:
    """Join repeated headers as RFC 9110 section 5.2 allows, cookies as RFC 6265 section 5.4 writes them."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        separator = "; " if name == "cookie" else ", "
        headers[name] = f"{headers[name]}{separator}{value}" if name in headers else value
    return headers


def select_subprotocol(named: str | None, offered: Sequence[str], preferred: Sequence[str]) -> str | None:
    """Return the subprotocol of the 101: the one that the backend `named`, else the first `preferred` one on offer.

    Raises `ValueError` when the backend named one that the client did not offer (RFC 6455 section 4.2.2).
    """
    if named is not None:
        if named not in offered:
            raise ValueError(named)
        return named
    return next((name for name in preferred if name in offered), None)


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
