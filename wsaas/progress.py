"""Whether a slow peer is taking the bytes that wait for it."""

import asyncio
import socket
from struct import unpack_from
from typing import NamedTuple

TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)
"""The socket option that tells what the peer acknowledged (tcp(7)); None where the system has none."""

_SIZE = 148
_UNACKED, _BYTES_ACKED, _NOTSENT = 24, 120, 144
"""Where `struct tcp_info` of Linux has segments in flight, bytes acknowledged, and bytes not sent yet."""


class _Sent(NamedTuple):
    """Bytes that the peer acknowledged so far, and whether any others wait in the kernel."""

    acknowledged: int
    waiting: bool


class SendProgress:
    """Compares what a peer had taken at one moment with what it has taken later.

    On Linux, the kernel knows how many bytes the peer has acknowledged. Elsewhere, and on Unix sockets, only a send
    buffer of this process that became shorter shows progress.
    """

    __slots__ = ("_acknowledged", "_buffered", "_transport", "waiting")

    def __init__(self, transport: asyncio.Transport) -> None:
        """Remember what the peer has taken so far. `waiting`: bytes wait for it, in this process or in the kernel."""
        self._transport = transport
        self._acknowledged, queued = _sent(transport)
        self._buffered = transport.get_write_buffer_size()
        self.waiting = queued or self._buffered > 0

    def made(self) -> bool:
        """Return whether the peer took any bytes since the last call, or since this was made."""
        acknowledged, buffered = self._acknowledged, self._buffered
        self._acknowledged, _ = _sent(self._transport)
        self._buffered = self._transport.get_write_buffer_size()
        return self._acknowledged > acknowledged or self._buffered < buffered


def _sent(transport: asyncio.Transport) -> _Sent:
    sock = transport.get_extra_info("socket")
    if TCP_INFO is None or sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return _Sent(0, waiting=False)
    info = sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, _SIZE)
    if len(info) < _SIZE:
        # An older kernel, which tells less.
        return _Sent(0, waiting=False)
    (segments,) = unpack_from("=I", info, _UNACKED)
    (acknowledged,) = unpack_from("=Q", info, _BYTES_ACKED)
    (unsent,) = unpack_from("=I", info, _NOTSENT)
    return _Sent(acknowledged, waiting=bool(segments or unsent))
