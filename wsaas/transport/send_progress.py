"""Whether a slow peer is taking the bytes that wait for it."""

import asyncio
import fcntl
import socket
import termios
from struct import unpack
from typing import NamedTuple

TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)
"""The socket option that tells what the peer acknowledged (tcp(7)); None where the system has none."""

_SIZE = 128
_BYTES_ACKED = slice(120, 128)
"""Where `struct tcp_info` of Linux has the bytes that the peer acknowledged."""


class _Sent(NamedTuple):
    """Bytes that the peer acknowledged so far, and those that wait for that in the kernel."""

    acknowledged: int
    queued: int


class SendProgress:
    """Follows the bytes that wait for a peer at one moment, until it has taken them all.

    On Linux, the kernel knows how many bytes the peer has acknowledged. Elsewhere, and on Unix sockets, only a send
    buffer of this process that became shorter shows progress.
    """

    __slots__ = ("_acknowledged", "_buffered", "_transport", "remaining")

    def __init__(self, transport: asyncio.Transport) -> None:
        """Start with what waits now. `remaining`: how many bytes of it the peer has not taken yet."""
        self._transport = transport
        sent = _sent(transport)
        self._acknowledged = sent and sent.acknowledged
        self._buffered = transport.get_write_buffer_size()
        self.remaining = self._buffered + (sent.queued if sent else 0)

    def made(self) -> bool:
        """Return whether the peer took some of what is `remaining` since the last call, or since this was made."""
        remaining, taken = self.remaining, self._taken()
        self.remaining -= taken
        return remaining > 0 and taken > 0

    def _taken(self) -> int:
        """Return how many bytes the peer took since the last call."""
        acknowledged, buffered = self._acknowledged, self._buffered
        self._buffered = self._transport.get_write_buffer_size()
        sent = _sent(self._transport)
        if sent is None or acknowledged is None:
            return max(0, buffered - self._buffered)
        self._acknowledged = sent.acknowledged
        return sent.acknowledged - acknowledged


def _sent(transport: asyncio.Transport) -> _Sent | None:
    """Ask the kernel; return None where it does not tell."""
    sock = transport.get_extra_info("socket")
    if TCP_INFO is None or sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    info = sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, _SIZE)
    if len(info) < _SIZE:
        # An older kernel, which tells less.
        return None
    # SIOCOUTQ of tcp(7), by the name that the constant has for terminals.
    (queued,) = unpack("=i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))
    return _Sent(int.from_bytes(info[_BYTES_ACKED], "little"), queued)
