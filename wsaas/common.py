"""What the protocols of all client-facing sockets share: settings, time, and who sweeps them."""

import asyncio
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from wsaas.clock import Clock
from wsaas.memory_limit import NO_MEMORY_LIMIT, MemoryLimit
from wsaas.run_queue import RunQueue
from wsaas.settings import Settings
from wsaas.webhook import DELETE_PATIENCE


class Swept(Protocol):
    """Something that has to be looked after from time to time."""

    def sweep(self, now: float) -> None:
        """Do what is due at `now` (monotonic seconds)."""

    def finish(self) -> None:
        """Send what is buffered, but not for ever, and close."""


class Sweeper(Protocol):
    """Looks after what is watched."""

    def watch(self, what: Swept) -> None:
        """Sweep `what` from now on."""

    def forget(self, what: Swept) -> None:
        """Sweep `what` no more; harmless when it is not watched."""


@dataclass(frozen=True)
class Common:
    """What all edges share."""

    settings: Settings
    clock: Clock
    sweeper: Sweeper
    memory: MemoryLimit = NO_MEMORY_LIMIT

    @cached_property
    def patience(self) -> float:
        """Seconds after which a quiet client is pinged, and after which one that does not answer is given up."""
        return self.settings.ws_timeout / 2000 or math.inf

    @cached_property
    def last_messages_window(self) -> float:
        """Seconds that the backend has for what a client sent before it answers a Close, when the client is held back.

        As long as a DELETE is retried.
        """
        return DELETE_PATIENCE * self.settings.api_retry / 1000

    @cached_property
    def run_queue(self) -> RunQueue:
        """Where connections with more work than their share of a turn of the loop wait for the next."""
        return RunQueue(self.clock)

    def closing_deadline(self) -> float:
        """Return when a client that is told to close has had its time."""
        return self.clock.now() + self.settings.handshake_timeout / 1000


def peer_address(transport: asyncio.BaseTransport) -> str:
    """Return the address of the other end of a connection, empty where a Unix socket hides it."""
    peer = transport.get_extra_info("peername")
    return peer[0] if isinstance(peer, tuple) else ""
