"""Honest clients, which record what they send and receive. Each has one connection, which may end in any way."""

import asyncio
import socket
import ssl
import struct
import time
from collections.abc import Sequence
from random import Random
from typing import cast

from tests.chaos.audit import Life
from tests.chaos.link import Address
from tests.chaos.publishers import FLOOD, ROOMS
from tests.support.clients import RESET, upgrade
from tests.support.frames import BINARY, CLOSE, PING, PONG, TEXT, close_frame, frame

TIMEOUT_S = 30.0
"""Seconds that a client waits for an answer, across kills and restarts."""

MEAN_INTERVAL_S = 0.05
"""Mean seconds between two messages of one client."""

COMMAND_SHARE = 0.15
"""Share of the messages that join or leave a group."""

DROWSY_SHARE = 0.06
"""Share of the clients that do not read for a while, so that the gateway finds them slow."""

DROWSY_SEGMENT, DROWSY_BUFFER = 1400, 4096
"""Bytes. Both keep the buffers of the kernel small: it makes them megabytes for the large segments of loopback."""


class Client(asyncio.Protocol):
    """A WebSocket client on bare TCP, which records its messages in `life`."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """The status of the answer to the handshake, 0 without an answer."""
        self.ended = asyncio.Event()
        self._buffer = b""
        self._close = b""
        self._received = asyncio.Event()
        self._is_closing = False
        self._is_mute = False
        self._transport: asyncio.Transport

    # Receiving.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(upgrade(f"/{self.life.name}", f"Authorization: Bearer {self.life.name}"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self.life.admitted:
            head, mark, rest = self._buffer.partition(b"\r\n\r\n")
            if not mark or self.status.done():
                return
            status = int(head.split(b" ", 2)[1])
            self.status.set_result(status)
            if status != 101:
                self.life.end = f"refused {status}"
                return
            self.life.admitted_at = time.monotonic_ns()
            self.life.admitted = True
            self._buffer = rest
        while self._take_frame():
            pass

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self.life.end:
            self.life.end = self._close.decode() or "lost"
        if not self.status.done():
            self.status.set_result(0)
        self.ended.set()
        self._received.set()

    def _take_frame(self) -> bool:
        buffer = self._buffer
        if len(buffer) < 2:
            return False
        opcode, length, start = buffer[0] & 0xF, buffer[1], 2
        if length > 125:
            size, form = (2, "!H") if length == 126 else (8, "!Q")
            if len(buffer) < 2 + size:
                return False
            (length,) = struct.unpack_from(form, buffer, 2)
            start += size
        if len(buffer) < start + length:
            return False
        payload, self._buffer = buffer[start : start + length], buffer[start + length :]
        self._take(opcode, payload)
        return True

    def _take(self, opcode: int, payload: bytes) -> None:
        life = self.life
        if self._close:
            life.faults.append(f"a frame {opcode} arrived after the Close")
        elif opcode in (TEXT, BINARY):
            kind, number, name = payload.decode().split(" ")[:3]
            life.received.append((kind, int(number)))
            if kind in ("p", "r"):
                if name != life.name:
                    life.faults.append(f"it received a message for {name}")
                (life.pushes if kind == "p" else life.replies).append(int(number))
            self._received.set()
        elif opcode == CLOSE:
            code = int.from_bytes(payload[:2], "big")
            self._close = b"clean" if self._is_closing and code == 1000 else b"closed %d" % code
            if not self._is_closing:
                self._transport.write(close_frame(code))
        elif opcode == PING and not self._is_mute:
            self._transport.write(frame(PONG, payload))

    # Sending.

    def send(self, *, ask: bool = False, command: str = "", padding: int = 10) -> None:
        """Send the next message. `ask`: for a reply. `command`: `+GROUP` to join a group, `-GROUP` to leave it."""
        life = self.life
        life.sent += 1
        if ask:
            life.asked.append(life.sent)
        message = f"{life.sent} {life.name} {'?' if ask else '!'} {command}{' ' if command else ''}{'.' * padding}"
        self._transport.write(frame(TEXT, message.encode()))

    async def confirm(self) -> None:
        """Ask and wait for the reply: all earlier messages are in the backend's log by then."""
        self.send(ask=True)
        await asyncio.wait_for(self._answered(self.life.sent), TIMEOUT_S)

    async def _answered(self, number: int) -> None:
        while not self.ended.is_set() and number not in self.life.replies and not self._close:
            self._received.clear()
            await self._received.wait()

    async def close(self) -> None:
        """Send a Close and wait for the end of the connection."""
        if not self._close:
            self.life.closing_at = time.monotonic_ns()
            self._is_closing = True
            self._transport.write(close_frame(1000))
        await asyncio.wait_for(self.ended.wait(), TIMEOUT_S)

    def leave(self) -> None:
        """End the connection without a Close, once all written data is sent."""
        self._give_up()
        self._transport.close()

    def reset(self) -> None:
        """Reset the connection."""
        if self.ended.is_set():
            return
        self._give_up()
        if (sock := self._transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._transport.abort()

    def reset_within_a_frame(self) -> None:
        self._transport.write(frame(TEXT, b"." * 5000)[:2000])
        self.reset()

    async def doze(self, seconds: float) -> None:
        """Read nothing for a while."""
        if not self.ended.is_set():
            self._transport.pause_reading()
            await asyncio.sleep(seconds)
            if not self._transport.is_closing():
                self._transport.resume_reading()

    async def fall_silent(self) -> None:
        """Send nothing more, not even pongs, and wait until the gateway ends the connection."""
        self._is_mute = True
        await asyncio.wait_for(self.ended.wait(), TIMEOUT_S)

    def _give_up(self) -> None:
        if not self.life.end and not self._close:
            self.life.end = "left"


class HonestClients:
    """Many clients, each of which connects again and again until `stop`."""

    def __init__(self, addresses: Sequence[Address], seed: int, tls: ssl.SSLContext | None) -> None:
        """`addresses`: of the gateway, which may change. Each connection chooses one."""
        self.lives: list[Life] = []
        self.refused_connects = 0
        self._addresses = addresses
        self._seed = seed
        self._tls = tls
        self._is_stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._waves = 0

    def start(self, number: int) -> None:
        """Start `number` clients."""
        self._is_stopping = False
        self._waves += 1
        self._tasks = [
            asyncio.ensure_future(self._connect_repeatedly(f"{self._waves}-{each}")) for each in range(number)
        ]

    async def stop(self) -> None:
        """Wait until each client has ended its connection."""
        self._is_stopping = True
        await asyncio.gather(*self._tasks)

    async def hold(self, number: int) -> list[Client]:
        """Connect clients that stay; return them. There has to be somebody who accepts them."""
        held: list[Client] = []
        while len(held) < number:
            self._waves += 1
            life = Life(f"{self._waves}-quiet", address=self._addresses[len(held) % len(self._addresses)])
            client = Client(life)
            self.lives.append(life)
            await self._connect(client, is_drowsy=False)
            # The backend refuses some.
            if await asyncio.wait_for(asyncio.shield(client.status), TIMEOUT_S) == 101:
                held.append(client)
            else:
                client.leave()
                await client.ended.wait()
        return held

    def check(self) -> None:
        """Raise the exception of a failed client."""
        for task in self._tasks:
            if task.done() and not self._is_stopping:
                task.result()
                raise AssertionError("a client stopped by itself")

    async def _connect_repeatedly(self, name: str) -> None:
        chance = Random(f"{self._seed} {name}")
        await asyncio.sleep(chance.uniform(0, 1))
        number = 0
        while not self._is_stopping:
            number += 1
            address = chance.choice(self._addresses)
            life = Life(f"{name}-{number}", address=address)
            client = Client(life)
            is_drowsy = chance.random() < DROWSY_SHARE
            try:
                await self._connect(client, is_drowsy=is_drowsy)
            except OSError:
                self.refused_connects += 1
                await asyncio.sleep(chance.uniform(0.05, 0.3))
                continue
            self.lives.append(life)
            try:
                await self._live(client, chance, is_drowsy=is_drowsy)
            except asyncio.TimeoutError:
                life.faults.append(f"it timed out after {life.sent} messages and {len(life.replies)} replies")
                client.reset()
            await client.ended.wait()

    async def _connect(self, client: Client, *, is_drowsy: bool) -> None:
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        try:
            sock.setblocking(False)
            if is_drowsy:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, DROWSY_SEGMENT)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, DROWSY_BUFFER)
            await loop.sock_connect(sock, client.life.address)
        except BaseException:
            sock.close()
            raise
        host = "127.0.0.1" if self._tls else None
        await loop.create_connection(lambda: client, sock=sock, ssl=self._tls, server_hostname=host)

    async def _live(self, client: Client, chance: Random, *, is_drowsy: bool) -> None:
        if chance.random() < 0.03:
            await asyncio.sleep(chance.choice((0, 0, 0.002, 0.01)))
            client.leave() if chance.random() < 0.5 else client.reset()
            return
        if await asyncio.wait_for(asyncio.shield(client.status), TIMEOUT_S) != 101:
            client.leave()
            await asyncio.sleep(chance.uniform(0.05, 0.3))
            return
        if is_drowsy:
            client.send(ask=True, command=f"+{FLOOD}")
            await client.doze(chance.uniform(0.5, 2))
        for _ in range(chance.randrange(30)):
            if client.ended.is_set() or self._is_stopping:
                break
            big = chance.random() < 0.02
            client.send(
                ask=chance.random() < 0.1,
                command=chance.choice("++-") + chance.choice(ROOMS) if chance.random() < COMMAND_SHARE else "",
                padding=chance.randrange(70_000) if big else 10,
            )
            if chance.random() < 0.8:
                await asyncio.sleep(chance.expovariate(1 / MEAN_INTERVAL_S))
        await self._end(client, chance)

    async def _end(self, client: Client, chance: Random) -> None:
        way = chance.random()
        if way < 0.5:
            await client.confirm()
            await client.close()
        elif way < 0.75:
            # Messages may still be under way.
            await client.close()
        elif way < 0.83:
            client.leave()
        elif way < 0.91:
            client.reset()
        elif way < 0.99:
            client.reset_within_a_frame()
        else:
            await client.fall_silent()
