"""Addresses in the form of the `socket` module."""

import asyncio
from typing import Final

SocketAddress = tuple[str | int, ...]
"""Host and port; for IPv6, also flow information and the number of the zone."""

IPV4_PARTS: Final = 2
_MAPPED: Final = "::ffff:"


def peer_address(transport: asyncio.BaseTransport) -> str:
    """Return the IP address of the peer of a connection, empty for a Unix socket."""
    peer = transport.get_extra_info("peername")
    if not isinstance(peer, tuple):
        return ""
    host: str = peer[0]
    # A socket that somebody else has opened may be for IPv6 and IPv4 (RFC 4291 section 2.5.5.2).
    return host[len(_MAPPED) :] if host.startswith(_MAPPED) and "." in host else host


def name_peer(address: str) -> str:
    """Return the address of a peer (see `peer_address`) for a log line."""
    return address or "a Unix socket"


def has_zone(address: SocketAddress) -> bool:
    """Return whether `address` is a link-local one with a zone (RFC 4007 section 11)."""
    return len(address) > IPV4_PARTS and bool(address[3])


def with_zone(address: SocketAddress) -> SocketAddress:
    """Return host and port, with the zone in the text of the host, where uvloop expects it."""
    host, port = address[:2]
    return (f"{host}%{address[3]}" if has_zone(address) and "%" not in str(host) else host, port)


def format_address(address: SocketAddress) -> str:
    """Return `host:port`, with an IPv6 address in brackets as in a URL."""
    host, port = with_zone(address)[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
