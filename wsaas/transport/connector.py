"""Opens connections to the backend, over TCP or TLS, each within `API_TIMEOUT`.

`resolver` finds the addresses of its name, anew for each connection, and `happy_eyeballs` the one that answers.

The only owner of the tasks that this takes. A connect that fails leaves no reference cycle: while the backend is down
there may be thousands a second, and a full garbage collection is rare (see `memory.GcScheduler`). Hence no
`asyncio.wait_for` (up to Python 3.11 its frame holds the future whose exception holds the frame), and no exception
that is both stored in a future and raised with that future in a local variable.
"""

import asyncio
import math
import ssl
from collections.abc import Callable
from functools import partial
from typing import cast

from wsaas.clock import GRACE_S, STALL_S
from wsaas.settings import Settings
from wsaas.transport.certificates import Certificates
from wsaas.transport.client_tls import ClientTLSTransport
from wsaas.transport.happy_eyeballs import Attempts, HappyEyeballs, adopt, connect_only
from wsaas.transport.resolver import Resolver
from wsaas.transport.socket_address import SocketAddress, format_address, has_zone

Make = Callable[[], asyncio.Protocol]
OnError = Callable[[Exception], None]


class TimeLimit:
    """Cancels the task that it is made in after `seconds`, which are counted from its first step.

    Counted from before that, a cancellation could come so early that the task does not run at all.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """Start. `is_over`: the task is cancelled for this reason."""
        self._loop = loop
        self._task = cast("asyncio.Task[None]", asyncio.current_task())
        self._timer = loop.call_later(seconds, self._end, loop.time() + seconds)
        self.is_over = False

    def cancel(self) -> None:
        """Let the task go on for ever."""
        self._timer.cancel()

    def _end(self, due: float) -> None:
        if self._loop.time() - due >= STALL_S:
            self._timer = self._loop.call_later(GRACE_S, self._end, math.inf)
        else:
            self.is_over = True
            self._task.cancel()


class Connector:
    """Connects to the host and port of `API_URI`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: Settings, certificates: Certificates) -> None:
        """Open nothing yet. `certificates` says whether the backend speaks TLS, and whom to trust."""
        self._loop = loop
        self._backend = settings.api_uri
        self._resolver = Resolver(loop, settings.api_uri.host, settings.api_uri.port)
        self._happy_eyeballs = HappyEyeballs(loop)
        self._timeout = settings.api_timeout
        self._certificates = certificates
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pending(self) -> int:
        """How many connections are neither open nor failed."""
        return len(self._tasks)

    def open(self, make: Make, failed: OnError) -> None:
        """Start to connect; return at once.

        `make` is called for a protocol when the TCP connection is open. `failed` is called with the error, whose text
        names each address that was tried and the cause: `OSError` (the name does not resolve, refused, unreachable),
        `ssl.SSLError`, or `TimeoutError` after `API_TIMEOUT`, name resolution included.
        """
        task = self._loop.create_task(self._connect(make, failed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop whatever is under way. Neither `make` nor `failed` is called for it any more."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _connect(self, make: Make, failed: OnError) -> None:
        attempts, limit = Attempts(self._loop), TimeLimit(self._loop, self._timeout)
        try:
            if (tls := self._certificates.backend) is None:
                await self._connect_tcp(make, attempts)
            else:
                await self._connect_tls(make, tls, attempts)
        except asyncio.CancelledError:
            if not limit.is_over:
                raise
            failed(TimeoutError(f"no connection within {self._timeout:g} s: {self._describe(attempts)}"))
        except Exception as error:  # noqa: BLE001 - whatever it was, an exchange waits for this connection
            if attempts.winner is not None and isinstance(error, OSError):
                _add_address(error, attempts.winner)
            failed(error)
        finally:
            limit.cancel()

    def _describe(self, attempts: Attempts) -> str:
        """Return what was waited for when the time was over."""
        if attempts.winner is not None:
            return f"the TLS handshake is not done ({format_address(attempts.winner)})"
        return str(attempts) or f"no DNS server answers for {self._backend.host}"

    async def _connect_tcp(self, make: Make, attempts: Attempts) -> None:
        addresses = await self._resolver.resolve()
        if len(addresses) == 1 and not has_zone(addresses[0][4]):
            await connect_only(addresses[0], attempts, make)
        else:
            await adopt(self._loop, await self._happy_eyeballs.connect(addresses, attempts), make)

    async def _connect_tls(self, make: Make, tls: ssl.SSLContext, attempts: Attempts) -> None:
        shaken = self._loop.create_future()
        try:
            await self._connect_tcp(partial(_over_tls, make, tls, self._certificates.backend_name, shaken), attempts)
            await shaken
        finally:
            # Aborts a handshake that is still under way.
            shaken.cancel()
            # An error from it refers to this frame, which must not refer to it.
            del shaken


def _add_address(error: OSError, address: SocketAddress) -> None:
    """Add `address`, to which a connection was open when `error` came, to its text."""
    if error.strerror:
        error.strerror += f" ({format_address(address)})"
    else:
        error.args = (f"{error} ({format_address(address)})",)


def _over_tls(make: Make, tls: ssl.SSLContext, name: str, shaken: "asyncio.Future[None]") -> ClientTLSTransport:
    return ClientTLSTransport(make(), tls, name, shaken)
