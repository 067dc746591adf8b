"""Detects whether a slow peer still reads the bytes that are buffered for it."""

import asyncio
import fcntl
import socket
import termios
from struct import unpack
from typing import Final, NamedTuple

TCP_INFO: Final[int | None] = getattr(socket, "TCP_INFO", None)
"""The socket option that tells how many bytes the peer has acknowledged (tcp(7)); None if the system lacks it."""

_SIZE: Final = 128
_BYTES_ACKED: Final = slice(120, 128)
"""Position of `tcpi_bytes_acked` in `struct tcp_info` of Linux."""


class _Sent(NamedTuple):
    """Bytes that the peer has acknowledged, and bytes in the kernel that it has not acknowledged yet."""

    acknowledged: int
    queued: int


class SendProgress:
    """Whether a peer acknowledges the bytes that were buffered when this object was created.

    On Linux, the kernel counts the bytes that the peer has acknowledged. Elsewhere, and on Unix sockets, only the send
    buffer of this process shows progress.
    """

    __slots__ = ("_acknowledged", "_buffered", "_transport", "remaining")

    def __init__(self, transport: asyncio.Transport) -> None:
        """Watch the bytes that are buffered now. `remaining`: those that the peer has not acknowledged."""
        self._transport = transport
        sent = _sent(transport)
        self._acknowledged = sent and sent.acknowledged
        self._buffered = transport.get_write_buffer_size()
        self.remaining = self._buffered + (sent.queued if sent else 0)

    def has_advanced(self) -> bool:
        """Return whether `remaining` has decreased since the last call, or since this object was created."""
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
    """Ask the kernel; return None if it does not count acknowledged bytes."""
    sock = transport.get_extra_info("socket")
    if TCP_INFO is None or sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    info = sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, _SIZE)
    if len(info) < _SIZE:
        # An older kernel does not count them.
        return None
    # SIOCOUTQ of tcp(7). Python knows the same number only as TIOCOUTQ, its name for terminals.
    (queued,) = unpack("=i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))
    return _Sent(int.from_bytes(info[_BYTES_ACKED], "little"), queued)
