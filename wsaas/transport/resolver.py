"""Resolves the name of a host to its addresses.

`getaddrinfo` cannot be cancelled, and blocks for half a minute or more while a DNS server does not answer. So it runs
in a daemon thread, which delays neither other work nor the exit of the process. (The event loop's own `getaddrinfo`
uses a small pool of threads, which the process waits for at its exit, and logs an error for each lookup that fails
after its caller was cancelled.) There is at most one such thread: callers during a lookup share its result.
"""

import asyncio
import ipaddress
import socket
import threading
from contextlib import suppress
from typing import cast

AddressInfo = tuple[int, int, int, str, tuple[str | int, ...]]
"""Family, type, protocol, canonical name and socket address, as returned by `socket.getaddrinfo`."""

Result = list[AddressInfo] | socket.gaierror


class Resolver:
    """Looks up the addresses of one `host`, which may also be an IP address."""

    def __init__(self, loop: asyncio.AbstractEventLoop, host: str, port: int) -> None:
        """Prepare to look up `host`; `resolve` does it. `port`: for the socket addresses that it returns."""
        self._loop = loop
        self._host = host
        self._port = port
        self._is_name = not _is_address(host)
        self._thread: threading.Thread | None = None
        self._waiters: set[asyncio.Future[Result]] = set()

    async def resolve(self) -> list[AddressInfo]:
        """Return at least one address, in the system's order of preference (RFC 6724).

        Each call looks the name up again, to follow changes in DNS. Raises `socket.gaierror`, whose text names the
        host. There is no time-out.
        """
        result = await self._lookup() if self._is_name else self._getaddrinfo()
        if isinstance(result, list):
            return result
        try:
            raise result
        finally:
            # The traceback of the error refers to this frame: without this, a reference cycle.
            del result

    async def _lookup(self) -> Result:
        """Wait for the lookup that is running, or start one."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="wsaas-resolver", daemon=True)
            thread.start()
            self._thread = thread
        waiter: asyncio.Future[Result] = self._loop.create_future()
        self._waiters.add(waiter)
        try:
            return await waiter
        finally:
            self._waiters.discard(waiter)

    def _run(self) -> None:
        """Look up the name. Runs in the thread."""
        result = self._getaddrinfo()
        # The loop may be closed by now.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._resolved, result)

    def _resolved(self, result: Result) -> None:
        self._thread = None
        for waiter in self._waiters:
            if not waiter.done():
                # Each caller gets its own error, as an exception collects a traceback when it is raised.
                waiter.set_result(result if isinstance(result, list) else socket.gaierror(*result.args))

    def _getaddrinfo(self) -> Result:
        try:
            return cast(list[AddressInfo], socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM))
        except socket.gaierror as error:
            return socket.gaierror(_explain(self._host, error))
        except (OSError, UnicodeError) as error:
            return socket.gaierror(f"name does not resolve: {self._host} ({error})")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _explain(host: str, error: socket.gaierror) -> str:
    if error.errno == socket.EAI_AGAIN:
        return f"no DNS server answers for {host}"
    if error.errno == socket.EAI_NONAME:
        return f"name does not resolve: {host}"
    return f"name does not resolve: {host} ({error.strerror})"
