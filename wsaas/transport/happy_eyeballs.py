"""Connects to the address of a host that answers first (Happy Eyeballs, RFC 8305)."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Any, Final, cast

from aiohappyeyeballs import start_connection

from wsaas.transport.resolver import AddressInfo
from wsaas.transport.socket_address import SocketAddress, format_address, with_zone

DELAY_S: Final = 0.25
"""Seconds after which the next address is tried in parallel (RFC 8305 section 8)."""

DEMOTION_S: Final = 60.0
"""Seconds for which an address that failed, or was too slow, is tried last. So a dead route costs `DELAY_S` only once,
not for each connection. The other addresses keep the order of the resolver, which may use it to balance the load."""

MAX_ADDRESSES: Final = 8
"""Maximum number of addresses that are tried for one connection."""


class Attempts:
    """The results for all addresses that were tried for one connection, in the order of the attempts.

    `start_connection` gets this object as its event loop, since its own error may not name all addresses.

    `errors`: by address, None if it has not failed. `winner`: the connected address.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Connect the sockets with `loop`."""
        self._loop = loop
        self._raised: list[BaseException] = []
        self.errors: dict[SocketAddress, OSError | None] = {}
        self.winner: SocketAddress | None = None

    def make_socket(self, info: Any) -> socket.socket:
        """Return the socket for an attempt."""
        family, kind, protocol, _, address = cast(AddressInfo, info)
        self.errors[address] = None
        try:
            return socket.socket(family, kind, protocol)
        except OSError as error:
            self._failed(address, error)
            raise

    async def sock_connect(self, sock: socket.socket, address: SocketAddress) -> None:
        """Connect `sock` to `address`."""
        try:
            await self._loop.sock_connect(sock, with_zone(address))
        except BaseException as error:
            self._failed(address, error)
            raise
        self.winner = self.winner or address

    async def create_connection(self, info: AddressInfo, factory: Callable[[], asyncio.Protocol]) -> None:
        """Connect the protocol that `factory` returns to the only address."""
        address = info[4]
        self.errors[address] = None
        try:
            await self._loop.create_connection(factory, str(address[0]), int(address[1]))
        except BaseException as error:
            self._failed(address, error)
            raise
        self.winner = address

    def clear(self) -> None:
        """Break the reference cycles of `start_connection`, whose frames and errors refer to each other."""
        for error in self._raised:
            error.__traceback__ = None
        self._raised.clear()

    def __str__(self) -> str:
        """Return causes and addresses: `connection refused (127.0.0.1:80), no answer ([2001:db8::1]:80)`."""
        return ", ".join(
            f"{describe_cause(error)} ({format_address(address)})" for address, error in self.errors.items()
        )

    def error(self) -> OSError:
        """Return one error for all attempts: of their type if they all have the same, else an `OSError`."""
        kinds = {type(error) for error in self.errors.values() if error is not None}
        kind = kinds.pop() if len(kinds) == 1 else OSError
        return kind(str(self))

    def _failed(self, address: SocketAddress, error: BaseException) -> None:
        self._raised.append(error)
        if isinstance(error, OSError):
            self.errors[address] = OSError(*error.args)


class HappyEyeballs:
    """Connects to one of the addresses of a host. Addresses that did not answer lately are tried last."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Connect with `loop`."""
        self._loop = loop
        self._demoted_until: dict[SocketAddress, float] = {}

    async def connect(self, addresses: list[AddressInfo], attempts: Attempts) -> socket.socket:
        """Return a socket that is connected to one of `addresses`. Raises `OSError` if all of them fail.

        The results are recorded in `attempts`, even if the task is cancelled.
        """
        order = self._order(addresses)
        try:
            return await start_connection(
                order,
                happy_eyeballs_delay=DELAY_S,
                interleave=0,
                loop=cast(asyncio.AbstractEventLoop, attempts),
                socket_factory=attempts.make_socket,
            )
        except OSError:
            error = attempts.error()
        finally:
            attempts.clear()
            self._remember(attempts)
        try:
            raise error
        finally:
            # The traceback of the error refers to this frame: without this, a reference cycle.
            del error

    def _order(self, addresses: list[AddressInfo]) -> list[AddressInfo]:
        """Return the addresses to try. Families alternate (RFC 8305 section 4), and demoted addresses come last."""
        now = self._loop.time()
        known = {info[4] for info in addresses}
        self._demoted_until = {each: end for each, end in self._demoted_until.items() if each in known and now < end}
        first = [info for info in addresses if info[4] not in self._demoted_until]
        last = [info for info in addresses if info[4] in self._demoted_until]
        return [*interleave(first), *interleave(last)][:MAX_ADDRESSES]

    def _remember(self, attempts: Attempts) -> None:
        end = self._loop.time() + DEMOTION_S
        is_beaten = True
        for address, error in attempts.errors.items():
            if address == attempts.winner:
                self._demoted_until.pop(address, None)
                # The following addresses were tried later, so they were not slower.
                is_beaten = False
            elif is_beaten or error is not None:
                self._demoted_until[address] = end


async def connect_only(info: AddressInfo, attempts: Attempts, factory: Callable[[], asyncio.Protocol]) -> None:
    """Connect the protocol that `factory` returns to `info`, the only address. Raises `OSError`.

    This takes half the time of `HappyEyeballs`. It is not for addresses with a zone, which uvloop would look up in a
    thread.
    """
    try:
        await attempts.create_connection(info, factory)
    except OSError:
        error = attempts.error()
    else:
        return
    finally:
        attempts.clear()
    try:
        raise error
    finally:
        # As in `HappyEyeballs.connect`.
        del error


async def adopt(loop: asyncio.AbstractEventLoop, sock: socket.socket, factory: Callable[[], asyncio.Protocol]) -> None:
    """Make a transport of the connected `sock` for the protocol that `factory` returns.

    The protocol may close its transport at once. uvloop then closes the descriptor, but it detaches the socket object
    only when `create_connection` returns. If the protocol were called before that, the socket object would later close
    the same descriptor, which another connection may use by then.
    """
    try:
        transport, _ = await loop.create_connection(_Paused, sock=sock)
    except asyncio.CancelledError:
        # The transport owns the descriptor already, and has closed it.
        sock.detach()
        raise
    protocol = factory()
    transport.set_protocol(protocol)
    transport.resume_reading()
    protocol.connection_made(transport)


class _Paused(asyncio.Protocol):
    """Reads nothing until another protocol replaces it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).pause_reading()


def interleave(addresses: list[AddressInfo]) -> Iterator[AddressInfo]:
    """Return `addresses` with alternating families, beginning with the first address."""
    families: dict[int, list[AddressInfo]] = {}
    for info in addresses:
        families.setdefault(info[0], []).append(info)
    return (info for turn in zip_longest(*families.values()) for info in turn if info is not None)


def describe_cause(error: OSError | None) -> str:
    """Return why an attempt failed, in lower case; None stands for one that has not failed yet."""
    if error is None:
        return "no answer"
    text = os.strerror(error.errno) if error.errno else str(error)
    return text[:1].lower() + text[1:]
