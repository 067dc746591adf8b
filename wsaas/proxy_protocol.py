"""Reads the header with which a proxy begins a connection: the PROXY protocol of HAProxy, versions 1 and 2.

Specification: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from wsaas.access import canonical_form

MAX_V1: Final = 107
"""Maximum number of bytes of a header of version 1 (section 2.1)."""

MAX_V2: Final = 4096
"""Maximum number of bytes of a header of version 2. The addresses take 52 of them, those of Unix sockets 232. The rest
is for extensions, which are skipped. The specification allows for 64 KiB."""

V1_SIGNATURE: Final = b"PROXY "
V2_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
V2_FIXED: Final = 16
"""Bytes of a header of version 2 before the addresses."""

LOCAL: Final = 0x20
PROXY: Final = 0x21
"""Version 2 and one of its commands."""

TCP4: Final = 0x11
TCP6: Final = 0x21
UNIX_STREAM: Final = 0x31
"""Address family and transport protocol, for version 2."""

_ADDRESSES: Final[dict[int, tuple[int, int]]] = {TCP4: (4, 12), TCP6: (16, 36), UNIX_STREAM: (0, 216)}
"""Bytes of the address of the client, and of all addresses and ports."""

_MAX_FAMILY: Final = 3
_MAX_TRANSPORT: Final = 2
_V1_WORDS: Final = 6
_MAX_PORT: Final = 65535
_PORT: Final = re.compile(rb"0|[1-9][0-9]{0,4}")


class ProxyHeader:
    """A complete header.

    `size`: its number of bytes. `address`: of the client, empty for a Unix socket; None if the connection is one of the
    proxy itself, such as a health check, or if the proxy does not know the client.
    """

    __slots__ = ("address", "size")

    def __init__(self, size: int, address: str | None) -> None:
        """Keep the values."""
        self.address = address
        self.size = size


def read_header(data: bytes) -> ProxyHeader | None:
    """Return the header at the start of `data`, None if it is not complete yet.

    Raises `ValueError`, whose text says what is wrong.
    """
    if data[: len(V2_SIGNATURE)] == V2_SIGNATURE[: len(data)]:
        return _read_v2(data)
    if data[: len(V1_SIGNATURE)] == V1_SIGNATURE[: len(data)]:
        return _read_v1(data)
    raise ValueError("it does not begin with a header of the PROXY protocol")


def _read_v1(data: bytes) -> ProxyHeader | None:
    """Read a line such as `PROXY TCP4 203.0.113.9 192.0.2.1 50000 443` (section 2.1)."""
    end = data.find(b"\r\n", 0, MAX_V1)
    if end < 0:
        if len(data) >= MAX_V1:
            raise ValueError(f"its header has no line end within {MAX_V1} bytes")
        return None
    words = data[:end].split(b" ")
    family = words[1]
    if family == b"UNKNOWN":
        # Whatever follows is to be ignored.
        return ProxyHeader(end + 2, None)
    if family not in {b"TCP4", b"TCP6"} or len(words) != _V1_WORDS or not all(map(_is_port, words[4:])):
        raise ValueError("its header of version 1 is malformed")
    source, _ = (_parse_address(word, is_ipv6=family == b"TCP6") for word in words[2:4])
    return ProxyHeader(end + 2, source)


def _is_port(word: bytes) -> bool:
    return _PORT.fullmatch(word) is not None and int(word) <= _MAX_PORT


def _parse_address(word: bytes, *, is_ipv6: bool) -> str:
    try:
        text = word.decode("ascii")
        # A zone has a meaning only on the machine of the proxy, and may contain any text.
        if "%" not in text:
            return canonical_form(IPv6Address(text) if is_ipv6 else IPv4Address(text))
    except ValueError:
        pass
    raise ValueError("its header of version 1 contains an invalid address")


def _read_v2(data: bytes) -> ProxyHeader | None:
    """Read a binary header (section 2.2)."""
    if len(data) < V2_FIXED:
        return None
    command, family, length = data[12], data[13], int.from_bytes(data[14:V2_FIXED], "big")
    size = V2_FIXED + length
    if command not in {LOCAL, PROXY}:
        raise ValueError(f"its header has an unknown version and command, 0x{command:02x}")
    if size > MAX_V2:
        raise ValueError(f"its header has {size} bytes, more than {MAX_V2}")
    if command == PROXY and (family >> 4 > _MAX_FAMILY or family & 0xF > _MAX_TRANSPORT):
        raise ValueError(f"its header has an unknown address family and transport, 0x{family:02x}")
    if len(data) < size:
        return None
    if command == LOCAL or family not in _ADDRESSES:
        return ProxyHeader(size, None)
    source, needed = _ADDRESSES[family]
    if length < needed:
        raise ValueError("its header of version 2 has incomplete addresses")
    if not source:
        return ProxyHeader(size, "")
    return ProxyHeader(size, canonical_form(ip_address(data[V2_FIXED : V2_FIXED + source])))
