"""Opens connections to one destination, such as the backend, over TCP, TLS or a Unix socket, in a limited time each.

The name of the host is resolved for each connection (see `resolver`). The first address that answers is used (see
`happy_eyeballs`).

A failed attempt leaves no reference cycle: while the destination is down there may be thousands a second, and full
garbage collections are rare (see `memory.gc_scheduler`). This is why there is no `asyncio.wait_for` (up to Python 3.11,
its frame and the exception in its future refer to each other), and why no exception from a future is raised in a frame
that still refers to this future.
"""

import asyncio
import math
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

from wsaas.clock import GRACE_S, NO_TIMER, STALL_S, Timer
from wsaas.transport.client_tls import ClientTLSTransport
from wsaas.transport.happy_eyeballs import Attempts, HappyEyeballs, adopt, connect_only
from wsaas.transport.resolver import Resolver
from wsaas.transport.socket_address import SocketAddress, format_address, has_zone
from wsaas.transport.unix_backend import connect_unix

ProtocolFactory = Callable[[], asyncio.Protocol]
OnError = Callable[[Exception], None]


class TimeLimit:
    """Cancels the task that calls `start` after `seconds`.

    The task has to start its own limit: if it were cancelled before its first step, it would not run at all. After a
    stall of the process, the task gets `GRACE_S` more.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """Prepare a limit of `seconds`. `is_over`: whether the limit has cancelled the task."""
        self._loop = loop
        self._seconds = seconds
        self._timer: Timer = NO_TIMER
        self.is_over = False

    def start(self) -> None:
        """Start the timer for the current task."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._timer = self._loop.call_later(self._seconds, self._end, task, self._loop.time() + self._seconds)

    def cancel(self) -> None:
        """Stop the timer."""
        self._timer.cancel()

    def _end(self, task: "asyncio.Task[None]", due: float) -> None:
        if self._loop.time() - due >= STALL_S:
            self._timer = self._loop.call_later(GRACE_S, self._end, task, math.inf)
        else:
            self.is_over = True
            task.cancel()


@dataclass(frozen=True, slots=True)
class Destination:
    """Where connections go, each opened within `timeout` seconds.

    `tls`: returns the TLS context for the next connection, None for plain TCP. `socket`: the path of a Unix socket, to
    which they go instead of `host` and `port`.
    """

    host: str
    port: int
    tls: Callable[[], ssl.SSLContext | None]
    timeout: float
    socket: str = ""

    @property
    def server_name(self) -> str:
        """The name that the certificate must have. It has no final dot (RFC 6066 section 3) and no IPv6 zone."""
        return self.host.removesuffix(".").partition("%")[0]


class Connector:
    """Connects to one destination."""

    def __init__(self, loop: asyncio.AbstractEventLoop, destination: Destination) -> None:
        """Prepare to connect to `destination`."""
        self._loop = loop
        self._destination = destination
        self._resolver = Resolver(loop, destination.host, destination.port)
        self._happy_eyeballs = HappyEyeballs(loop)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pending(self) -> int:
        """The number of connections that are being opened."""
        return len(self._tasks)

    def open(self, factory: ProtocolFactory, on_error: OnError) -> None:
        """Start to connect and return at once.

        When the connection is open, `factory` is called to make its protocol. If the connection or the TLS
        handshake fails, `on_error` is called with an `OSError` (name not resolved, connection refused, unreachable), an
        `ssl.SSLError`, or a `TimeoutError` after the time limit. The text of the error names each address that
        was tried, and the cause.
        """
        task = self._loop.create_task(self._connect(factory, on_error))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel all pending connections. Neither `factory` nor `on_error` is called any more."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _connect(self, factory: ProtocolFactory, on_error: OnError) -> None:
        attempts, limit = Attempts(self._loop), TimeLimit(self._loop, self._destination.timeout)
        limit.start()
        try:
            if self._destination.socket:
                await connect_unix(self._loop, self._destination.socket, factory)
            elif (tls := self._destination.tls()) is None:
                await self._connect_tcp(factory, attempts)
            else:
                await self._connect_tls(factory, tls, attempts)
        except asyncio.CancelledError:
            if not limit.is_over:
                raise
            on_error(TimeoutError(f"no connection within {self._destination.timeout:g} s: {self._describe(attempts)}"))
        except Exception as error:  # noqa: BLE001 - a request waits for this connection and must learn of any error
            if attempts.winner is not None and isinstance(error, OSError):
                _add_address(error, attempts.winner)
            on_error(error)
        finally:
            limit.cancel()

    def _describe(self, attempts: Attempts) -> str:
        """Return what was not done in time."""
        if attempts.winner is not None:
            return f"the TLS handshake is not done ({format_address(attempts.winner)})"
        if self._destination.socket:
            return f"the listener does not accept it (unix:{self._destination.socket})"
        return str(attempts) or f"no DNS server answers for {self._destination.host}"

    async def _connect_tcp(self, factory: ProtocolFactory, attempts: Attempts) -> None:
        addresses = await self._resolver.resolve()
        if len(addresses) == 1 and not has_zone(addresses[0][4]):
            await connect_only(addresses[0], attempts, factory)
        else:
            await adopt(self._loop, await self._happy_eyeballs.connect(addresses, attempts), factory)

    async def _connect_tls(self, factory: ProtocolFactory, tls: ssl.SSLContext, attempts: Attempts) -> None:
        handshake_done = self._loop.create_future()
        try:
            await self._connect_tcp(
                partial(_over_tls, factory, tls, self._destination.server_name, handshake_done), attempts
            )
            await handshake_done
        finally:
            # Aborts a handshake that is still under way.
            handshake_done.cancel()
            # The error of this future refers to this frame: without this, a reference cycle.
            del handshake_done


def _add_address(error: OSError, address: SocketAddress) -> None:
    """Add the connected `address` to the text of `error`."""
    if error.strerror:
        error.strerror += f" ({format_address(address)})"
    else:
        error.args = (f"{error} ({format_address(address)})",)


def _over_tls(
    factory: ProtocolFactory, tls: ssl.SSLContext, name: str, handshake_done: "asyncio.Future[None]"
) -> ClientTLSTransport:
    return ClientTLSTransport(factory(), tls, name, handshake_done)
