"""What the protocols of all client-facing sockets share."""

import asyncio
import math
from dataclasses import dataclass
from functools import cached_property

from wsaas.clock import Clock
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
    def ping_interval(self) -> float:
        """Seconds without anything from a client after which it is pinged, and that it then has to answer.

        That is half of `WS_TIMEOUT`; infinity without one.
        """
        return self.settings.ws_timeout / 2 or math.inf

    @cached_property
    def run_queue(self) -> RunQueue:
        """The connections that have more work than their share of a turn of the loop."""
        return RunQueue(self.clock)

    def closing_deadline(self) -> float:
        """Return the time, in monotonic seconds, by which a connection that closes now has to be closed."""
        return self.clock.now() + self.settings.handshake_timeout

    def half_close(self, transport: asyncio.Transport) -> float:
        """Send what is buffered and the end of the stream; return the deadline up to which the peer is still read.

        A socket that is closed while bytes wait in it to be read is reset, and a reset may overtake the last bytes that
        were sent (RFC 9112 section 9.6).
        """
        transport.write_eof()
        return self.closing_deadline()
