"""The state that the protocols of all accepted connections share."""

import asyncio
import math
from dataclasses import dataclass, field
from functools import cached_property

from wsaas.clock import Clock
from wsaas.counters import Counters
from wsaas.memory.limit import NO_MEMORY_LIMIT, MemoryLimit
from wsaas.run_queue import RunQueue
from wsaas.sessions.address_limit import NO_ADDRESS_LIMIT, AddressLimit
from wsaas.settings import Settings
from wsaas.transport.timeouts import Timeouts


@dataclass(frozen=True)
class ServerContext:
    """Settings, time, time-outs and the limits of the node.

    `run_queue`: the connections that have more work than their share of a turn of the loop.
    """

    settings: Settings
    clock: Clock
    timeouts: Timeouts
    run_queue: RunQueue
    memory: MemoryLimit = NO_MEMORY_LIMIT
    addresses: AddressLimit = NO_ADDRESS_LIMIT
    counters: Counters = field(default_factory=Counters)

    @cached_property
    def ping_interval(self) -> float:
        """Seconds of silence after which a client is pinged, and then seconds within which it has to answer.

        Half of `WS_TIMEOUT`, or infinity without a time-out.
        """
        return self.settings.ws_timeout / 2 or math.inf

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
