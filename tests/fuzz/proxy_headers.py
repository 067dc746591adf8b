"""Target: the header of the PROXY protocol, against a second reading of the specification."""

import re
import socket
import struct
from contextlib import suppress
from ipaddress import ip_address

from wsaas.proxy_protocol import read_header

REFUSED = "refused"
INCOMPLETE = "incomplete"
Outcome = tuple[int, str | None] | str

_PORT = rb"(?:0|[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_LINE = re.compile(
    rb"PROXY (?:UNKNOWN(?: .*)?|TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) %b %b)" % (_PORT, _PORT), re.DOTALL
)
_START = b"\r\n\r\n\x00\r\nQUIT\n"


def proxy_headers(data: bytes) -> None:
    """Read `data` whole, and as it arrives byte by byte."""
    found = read(data)
    assert found == expected(data), (found, expected(data))
    for end in range(len(data)):
        early = read(data[:end])
        assert early in (INCOMPLETE, found), (end, early, found)


def read(data: bytes) -> Outcome:
    """Return what becomes of `data`."""
    try:
        header = read_header(data)
    except ValueError:
        return REFUSED
    return INCOMPLETE if header is None else (header.size, header.address)


def expected(data: bytes) -> Outcome:
    """Return what should become of it."""
    if data.startswith(_START[: max(1, len(data))]):
        return _binary(data)
    if data.startswith(b"PROXY "):
        return _line(data)
    return INCOMPLETE if b"PROXY ".startswith(data) else REFUSED


def _line(data: bytes) -> Outcome:
    line, mark, _ = data[:107].partition(b"\r\n")
    if not mark:
        return INCOMPLETE if len(data) < 107 else REFUSED
    found = _LINE.fullmatch(line)
    if found is None:
        return REFUSED
    if found[1] is None:
        return len(line) + 2, None
    family = socket.AF_INET if found[1] == b"4" else socket.AF_INET6
    with suppress(OSError):
        for text in (found[3], found[2]):
            packed = socket.inet_pton(family, text.decode())
        return len(line) + 2, _shown(packed)
    return REFUSED


def _binary(data: bytes) -> Outcome:
    if len(data) < 16:
        return INCOMPLETE
    command, family, length = struct.unpack_from("!BBH", data, 12)
    needed = {0x11: 12, 0x21: 36, 0x31: 216}.get(family, 0)
    is_known = command == 0x20 or (command == 0x21 and family >> 4 <= 3 and family & 15 <= 2)
    if not is_known or length > 4080:
        return REFUSED
    if len(data) < 16 + length:
        return INCOMPLETE
    if command == 0x20 or not needed:
        return 16 + length, None
    if length < needed:
        return REFUSED
    size = {0x11: 4, 0x21: 16, 0x31: 0}[family]
    return 16 + length, _shown(data[16 : 16 + size])


def _shown(packed: bytes) -> str:
    if packed[:12] == bytes(10) + b"\xff\xff":
        packed = packed[12:]
    return str(ip_address(packed)) if packed else ""
