"""Hostile clients beside the honest ones: floods, poison, stalls, parked bodies, half-closed connections, abrupt ends.

The audit does not check what they receive, only the order of their events, and one DELETE for each that may have been
accepted. The name of a client, `hostile-KIND-NUMBER`, selects how the backend treats it.
"""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from random import Random
from typing import cast

from tests.chaos.link import Address
from tests.support.clients import RESET, upgrade
from tests.support.frames import PING, TEXT, frame

BURST = 32 * 1024
"""Bytes of a flood that are written at once. More follows once the gateway has read them."""

SMALL_BURST = 6 * 1024
"""The same for a flood whose frames each cause a request to the backend."""

BODY = (1 << 20) - 1
MAX_LIFETIME_S = 6.0
"""The longest life of a hostile connection in seconds; the gateway's time-outs are shorter."""

TINY = frame(TEXT, b"x")
EMPTY_PAIR = b"\x01\x80" + bytes(4) + b"\x80\x80" + bytes(4)
EMPTY_MANY = b"\x01\x80" + bytes(4) + (b"\x00\x80" + bytes(4)) * 500 + b"\x80\x80" + bytes(4)


class Connection(asyncio.Protocol):
    """A connection that ignores all but the first answer. `is_deaf`: it does not read further."""

    def __init__(self, *, is_deaf: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self.answered: asyncio.Future[bytes] = loop.create_future()
        self.ended = asyncio.Event()
        self.transport: asyncio.Transport
        self._is_deaf = is_deaf
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        if not self.answered.done():
            self.answered.set_result(data)
            if self._is_deaf:
                self.transport.pause_reading()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self.answered.done():
            self.answered.set_result(b"")
        self.ended.set()
        self._writable.set()

    async def write(self, data: bytes) -> None:
        """Write; return once the kernel has taken all data, or the connection has ended."""
        if not self.ended.is_set():
            self.transport.write(data)
            await self._writable.wait()

    def reset(self) -> None:
        """Reset the connection."""
        if (sock := self.transport.get_extra_info("socket")) is not None and not self.ended.is_set():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()


class HalfClosedTls(Connection):
    """A TLS client that sends a few messages and a close_notify, and keeps the connection open."""

    def __init__(self, name: str, context: ssl.SSLContext) -> None:
        super().__init__()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")
        self._steps = iter((self._tls.do_handshake, self._send_handshake, self._send_messages, self._tls.unwrap))
        self._step: Callable[[], object] = next(self._steps)
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._continue()

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        self._continue()

    def _send_handshake(self) -> None:
        self._tls.write(upgrade("/", f"Authorization: Bearer {self._name}"))

    def _send_messages(self) -> None:
        if b"\r\n\r\n" not in self._tls.read(1 << 16):
            raise ssl.SSLWantReadError
        self._tls.write(TINY * 20)

    def _continue(self) -> None:
        with suppress(ssl.SSLError, StopIteration):
            while True:
                self._step()
                self._step = next(self._steps)
        if data := self._outgoing.read():
            self.transport.write(data)


class HostileClients:
    """All hostile clients: a number of connections at a time, of all kinds in turn, until `stop`."""

    def __init__(self, addresses: Sequence[Address], seed: int, tls: ssl.SSLContext | None) -> None:
        """`addresses`: of the gateway, which may change. Each connection chooses one."""
        self.counts: Counter[str] = Counter()
        self.live: list[str] = []
        """Ids of some connections that were open recently."""
        self._is_stopping = False
        self._numbers = count()
        self._addresses = addresses
        self._seed = seed
        self._tls = tls
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, number: int) -> None:
        self._is_stopping = False
        kinds = [*KINDS, "halftls"] if self._tls else [*KINDS]
        self._tasks = [asyncio.ensure_future(self._keep(kinds[each % len(kinds)], each)) for each in range(number)]

    async def stop(self) -> None:
        """End all connections."""
        # Before Python 3.12, wait_for drops a cancellation that comes together with the result.
        self._is_stopping = True
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    def check(self) -> None:
        """Raise the exception of a failed client."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def _keep(self, kind: str, place: int) -> None:
        chance = Random(f"hostile {self._seed} {place}")
        while not self._is_stopping:
            await asyncio.sleep(chance.uniform(0, 0.5))
            name = f"hostile-{kind}-{next(self._numbers)}"
            made = partial(HalfClosedTls, name, self._tls) if kind == "halftls" and self._tls else None
            try:
                connection = await self.connect(chance.choice(self._addresses), kind, made)
            except OSError:
                continue
            self.counts[kind] += 1
            try:
                await asyncio.wait_for(self._act(kind, connection, name, chance), MAX_LIFETIME_S)
            except asyncio.TimeoutError:
                pass
            finally:
                connection.reset() if chance.random() < 0.5 else connection.transport.abort()

    async def connect(self, address: Address, kind: str, make: Callable[[], Connection] | None) -> Connection:
        loop = asyncio.get_running_loop()
        tls = None if kind == "halftls" else self._tls
        _, connection = await loop.create_connection(
            make or (lambda: Connection(is_deaf=kind == "deaf")), *address, ssl=tls
        )
        return connection

    async def _act(self, kind: str, connection: Connection, name: str, chance: Random) -> None:
        if kind == "halftls":
            await connection.ended.wait()
        elif kind in HTTP:
            await HTTP[kind](self, connection, chance)
        else:
            await connection.write(upgrade("/", f"Authorization: Bearer {name}"))
            if (await connection.answered).startswith(b"HTTP/1.1 101"):
                await SOCKETS[kind](connection, chance)

    # Without a handshake.

    async def half_a_handshake(self, connection: Connection, chance: Random) -> None:
        request = upgrade("/")
        await connection.write(request[: chance.randrange(len(request))])
        await connection.ended.wait()

    async def parked_body(self, connection: Connection, chance: Random) -> None:
        target = chance.choice(("no/such/path", "A" * 30, *self.live[:5]))
        head = f"PUT /{target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {BODY}\r\n\r\n"
        await connection.write(head.encode() + b"." * (BODY - 1))
        await connection.ended.wait()

    async def requests(self, connection: Connection, chance: Random) -> None:
        request = b"GET /no/such/path HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        await flood(connection, chance, request, BURST // 4)

    async def chunks(self, connection: Connection, chance: Random) -> None:
        head = b"PUT /no/such/path HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        await connection.write(head)
        await flood(connection, chance, b"1\r\n.\r\n", BURST)

    async def half_a_connection(self, connection: Connection, _chance: Random) -> None:
        await connection.write(b"GET /no/such/path HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nPUT ")
        if connection.transport.can_write_eof():
            # A gateway that was just killed has reset the connection.
            with suppress(OSError):
                connection.transport.write_eof()
        await connection.ended.wait()


# With one.


async def flood(connection: Connection, chance: Random, data: bytes, size: int = BURST) -> None:
    """Write `data` repeatedly in bursts, and possibly leave the last burst unfinished."""
    for _ in range(chance.randrange(1, 6)):
        await connection.write(data * (size // len(data)))
        await asyncio.sleep(chance.uniform(0, 0.6))
    if chance.random() < 0.5:
        connection.transport.write(data * (size // len(data)))


async def pings(connection: Connection, chance: Random) -> None:
    await flood(connection, chance, frame(PING))


async def fragments(connection: Connection, chance: Random) -> None:
    await flood(connection, chance, EMPTY_MANY)


async def empty_messages(connection: Connection, chance: Random) -> None:
    await flood(connection, chance, EMPTY_PAIR, 2 * SMALL_BURST)


async def messages(connection: Connection, chance: Random) -> None:
    await flood(connection, chance, TINY, SMALL_BURST)


async def mixed(connection: Connection, chance: Random) -> None:
    """Reset the connection while the gateway has unread frames and answers pings."""
    await flood(connection, chance, frame(PING) + TINY * 20, SMALL_BURST)


async def dropped(connection: Connection, _chance: Random) -> None:
    """Keep sending while the connection is closed because the backend refused the first message."""
    while not connection.ended.is_set():
        await connection.write(TINY * (BURST // len(TINY)))
        await asyncio.sleep(0.1)


async def one_message(connection: Connection, _chance: Random) -> None:
    await connection.write(TINY * 3)
    await connection.ended.wait()


async def wait(connection: Connection, _chance: Random) -> None:
    await connection.ended.wait()


async def half_a_socket(connection: Connection, chance: Random) -> None:
    await connection.write(TINY * chance.randrange(20))
    if connection.transport.can_write_eof():
        connection.transport.write_eof()
    await connection.ended.wait()


HTTP: dict[str, Callable[[HostileClients, Connection, Random], Awaitable[None]]] = {
    "stall": HostileClients.half_a_handshake,
    "parked": HostileClients.parked_body,
    "requests": HostileClients.requests,
    "chunks": HostileClients.chunks,
    "halfhttp": HostileClients.half_a_connection,
}
SOCKETS: dict[str, Callable[[Connection, Random], Awaitable[None]]] = {
    "pings": pings,
    "fragments": fragments,
    "empty": empty_messages,
    "messages": messages,
    "mixed": mixed,
    "dropped": dropped,
    "poison500": one_message,
    "poisonhung": one_message,
    "poisonmute": one_message,
    "post500": wait,
    "posthung": wait,
    "deaf": wait,
    "halfsocket": half_a_socket,
}
KINDS = (*SOCKETS, *HTTP, *["parked"] * 4, *["deaf"] * 2)
"""Each kind once, and several of the kinds that use memory."""
