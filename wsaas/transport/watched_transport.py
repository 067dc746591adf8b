"""The transport of a watched client: reports what is written to it."""

import asyncio
from collections.abc import Callable
from typing import Any


class WatchedTransport(asyncio.Transport):
    """Passes all calls on to `transport`, so it can be put in front of it at any time, and removed.

    It has the methods that the gateway calls.
    """

    __slots__ = ("_report", "transport")

    def __init__(self, transport: asyncio.Transport, report: Callable[[bytes], None]) -> None:
        """Call `report` with what is written."""
        self._report = report
        self.transport = transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data`, and report it."""
        self.transport.write(data)
        self._report(bytes(data))

    def get_write_buffer_size(self) -> int:
        """Return how many bytes are buffered."""
        return self.transport.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the limits at which the protocol is paused and resumed."""
        self.transport.set_write_buffer_limits(high, low)

    def pause_reading(self) -> None:
        """Stop reading."""
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self.transport.resume_reading()

    def is_closing(self) -> bool:
        """Return whether the transport is closing or closed."""
        return self.transport.is_closing()

    def write_eof(self) -> None:
        """Send what is buffered, and the end of the stream."""
        self.transport.write_eof()

    def close(self) -> None:
        """Send what is buffered, and close."""
        self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        self.transport.abort()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let `protocol` take over."""
        self.transport.set_protocol(protocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known about the socket."""
        return self.transport.get_extra_info(name, default)
