"""The state that the protocols of all accepted connections share."""

import asyncio
import math

from wsaas.clock import Clock
from wsaas.counters import Counters
from wsaas.memory.limit import NO_MEMORY_LIMIT, MemoryLimit
from wsaas.run_queue import RunQueue
from wsaas.sessions.address_limit import NO_ADDRESS_LIMIT, AddressLimit
from wsaas.settings import Settings
from wsaas.transport.timeouts import Timeouts


class ServerContext:
    """Settings, time, time-outs and the limits of the node.

    `run_queue`: the connections that have more work than their share of a turn of the loop. `ping_interval`: seconds of
    silence after which a client is pinged, and then seconds within which it has to answer. It is half of `WS_TIMEOUT`,
    or infinity without a time-out.
    """

    __slots__ = ("addresses", "clock", "counters", "memory", "ping_interval", "run_queue", "settings", "timeouts")

    def __init__(  # noqa: PLR0913, PLR0917 - it only keeps them
        self,
        settings: Settings,
        clock: Clock,
        timeouts: Timeouts,
        run_queue: RunQueue,
        memory: MemoryLimit = NO_MEMORY_LIMIT,
        addresses: AddressLimit = NO_ADDRESS_LIMIT,
        counters: Counters | None = None,
    ) -> None:
        """Keep the values."""
        self.addresses = addresses
        self.clock = clock
        self.counters = counters or Counters()
        self.memory = memory
        self.ping_interval = settings.ws_timeout / 2 or math.inf
        self.run_queue = run_queue
        self.settings = settings
        self.timeouts = timeouts

    def for_settings(self, settings: Settings) -> "ServerContext":
        """Return the context of a listener with other settings."""
        return ServerContext(
            settings, self.clock, self.timeouts, self.run_queue, self.memory, self.addresses, self.counters
        )

    def closing_deadline(self) -> float:
        """Return the deadline (monotonic seconds) of a connection that starts to close now."""
        return self.clock.now() + self.settings.handshake_timeout

    def half_close(self, transport: asyncio.Transport) -> float:
        """Send what is buffered and the end of the stream; return the deadline for the peer to close.

        The peer is still read until then. Closing a socket with unread bytes resets the connection, and the peer may
        then lose the last bytes that were sent to it (RFC 9112 section 9.6).
        """
        transport.write_eof()
        return self.closing_deadline()
