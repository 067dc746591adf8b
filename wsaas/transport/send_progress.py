"""Detects whether a slow peer still reads the bytes that are buffered for it."""

import asyncio
import fcntl
import socket
import termios
from struct import unpack
from typing import NamedTuple

TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)
"""The socket option for the bytes that the peer acknowledged (tcp(7)); None where the system has none."""

_SIZE = 128
_BYTES_ACKED = slice(120, 128)
"""Where `struct tcp_info` of Linux has the bytes that the peer acknowledged."""


class _Sent(NamedTuple):
    """Bytes that the peer has acknowledged, and bytes in the kernel that it has not."""

    acknowledged: int
    queued: int


class SendProgress:
    """The progress of the bytes that were buffered for a peer at one time.

    On Linux, the kernel counts the bytes that the peer has acknowledged. Elsewhere, and on Unix sockets, only the send
    buffer of this process shows progress.
    """

    __slots__ = ("_acknowledged", "_buffered", "_transport", "remaining")

    def __init__(self, transport: asyncio.Transport) -> None:
        """Start with what is buffered now. `remaining`: bytes of it that the peer has not acknowledged."""
        self._transport = transport
        sent = _sent(transport)
        self._acknowledged = sent and sent.acknowledged
        self._buffered = transport.get_write_buffer_size()
        self.remaining = self._buffered + (sent.queued if sent else 0)

    def made(self) -> bool:
        """Return whether `remaining` became less since the last call, or since this was made."""
        remaining, taken = self.remaining, self._taken()
        self.remaining -= taken
        return remaining > 0 and taken > 0

    def _taken(self) -> int:
        """Return how many bytes the peer acknowledged since the last call."""
        acknowledged, buffered = self._acknowledged, self._buffered
        self._buffered = self._transport.get_write_buffer_size()
        sent = _sent(self._transport)
        if sent is None or acknowledged is None:
            return max(0, buffered - self._buffered)
        self._acknowledged = sent.acknowledged
        return sent.acknowledged - acknowledged


def _sent(transport: asyncio.Transport) -> _Sent | None:
    """Ask the kernel; return None where it has no count."""
    sock = transport.get_extra_info("socket")
    if TCP_INFO is None or sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    info = sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, _SIZE)
    if len(info) < _SIZE:
        # An older kernel, without this count.
        return None
    # SIOCOUTQ of tcp(7), by the name that the constant has for terminals.
    (queued,) = unpack("=i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))
    return _Sent(int.from_bytes(info[_BYTES_ACKED], "little"), queued)
