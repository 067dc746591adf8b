"""What the protocols of all client-facing sockets share."""

import asyncio
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from wsaas.clock import Clock
from wsaas.delivery.webhook import DELETE_PATIENCE
from wsaas.memory.limit import NO_MEMORY_LIMIT, MemoryLimit
from wsaas.sessions.address_limit import NO_ADDRESS_LIMIT, AddressLimit
from wsaas.settings import Settings
from wsaas.transport.run_queue import RunQueue
from wsaas.transport.timeouts import Timeouts


@dataclass(frozen=True)
class ServerContext:
    """Settings, time, time-outs and the limits of the node."""

    settings: Settings
    clock: Clock
    timeouts: Timeouts
    memory: MemoryLimit = NO_MEMORY_LIMIT
    addresses: AddressLimit = NO_ADDRESS_LIMIT

    @cached_property
    def patience(self) -> float:
        """Seconds after which a quiet client is pinged, and after which one that does not answer is given up."""
        return self.settings.ws_timeout / 2 or math.inf

    @cached_property
    def last_messages_window(self) -> float:
        """Seconds that the backend has for what a client sent before it answers a Close, when the client is held back.

        As long as a DELETE is retried.
        """
        return DELETE_PATIENCE * self.settings.api_retry

    @cached_property
    def run_queue(self) -> RunQueue:
        """Where connections with more work than their share of a turn of the loop wait for the next."""
        return RunQueue(self.clock)

    def closing_deadline(self) -> float:
        """Return when a client that is told to close has had its time."""
        return self.clock.now() + self.settings.handshake_timeout


class TransportWrapper(asyncio.Transport):
    """What a transport over another one passes on to that, which is `_raw`."""

    __slots__ = ("_raw",)

    _raw: asyncio.Transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Ask the transport below."""
        return self._raw.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait in the transport below."""
        return self._raw.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set how many bytes may wait there before `pause_writing`."""
        self._raw.set_write_buffer_limits(high, low)

    def is_closing(self) -> bool:
        """Return whether it is closed, or about to be."""
        return self._raw.is_closing()

    def can_write_eof(self) -> bool:
        """Say yes."""
        return True


def peer_address(transport: asyncio.BaseTransport) -> str:
    """Return the address of the other end of a connection, empty where a Unix socket hides it."""
    peer = transport.get_extra_info("peername")
    return peer[0] if isinstance(peer, tuple) else ""
