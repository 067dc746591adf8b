"""Headers of the PROXY protocol, as proxies send them."""

from ipaddress import ip_address
from struct import pack

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
UNKNOWN = b"PROXY UNKNOWN\r\n"


def v1(source: str) -> bytes:
    """Return a header of version 1 for a client at `source`."""
    family, destination = ("TCP6", "2001:db8::ffff") if ":" in source else ("TCP4", "192.0.2.255")
    return f"PROXY {family} {source} {destination} 50000 443\r\n".encode()


def v2(source: str, more: bytes = b"") -> bytes:
    """Return a header of version 2 for a client at `source`, with the extensions `more`."""
    address = ip_address(source)
    family = 0x11 if address.version == 4 else 0x21
    body = address.packed + bytes(len(address.packed)) + pack("!HH", 50000, 443) + more
    return SIGNATURE + bytes([0x21, family]) + pack("!H", len(body)) + body


def v2_unix(path: bytes) -> bytes:
    """Return a header of version 2 for a client of the proxy's Unix socket at `path`."""
    return SIGNATURE + b"\x21\x31" + pack("!H", 216) + bytes(108) + path.ljust(108, b"\x00")
