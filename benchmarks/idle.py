"""What an idle client costs: the gateway's own memory, before and after many clients came."""

import asyncio
from argparse import ArgumentParser
from collections.abc import Sequence

import uvloop

from benchmarks.framing import frame
from benchmarks.rig import AT_ONCE, HANDSHAKE, Client, Rig, gateway
from wsaas.websocket.deflate import deflate

MESSAGE = b"\x81\x85\x00\x00\x00\x00hello"
OFFER = HANDSHAKE[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
FIN_DEFLATED_TEXT, MASKED = 0xC1, 0x80


def deflated_frame(size: int) -> bytes:
    """Return one text frame of `size` bytes that deflate to less than 126, masked with zeros."""
    payload = deflate(b"x" * size)
    return bytes([FIN_DEFLATED_TEXT, MASKED | len(payload), 0, 0, 0, 0]) + payload


async def join(rig: Rig, number: int, *, talk: bool, size: int) -> None:
    """Open `number` clients, which stay. `talk`: each sends a message, all at once; `size`: one of so many bytes."""
    clients = await rig.connect_many(number, lambda _: None)
    for client in clients if talk else ():
        client.transport.write(MESSAGE)
    for first in range(0, number if size else 0, AT_ONCE):
        message = deflated_frame(size) if Client.handshake is OFFER else frame(size)
        await send(rig, clients[first : first + AT_ONCE], message)
    # One more handshake behind all messages: they are done when it is.
    await rig.connect(lambda _: None)


async def send(rig: Rig, clients: list[Client], message: bytes) -> None:
    """Let each of `clients` send `message`, and the backend take it."""
    taken = asyncio.Semaphore(0)
    rig.seen.on_put = taken.release
    for client in clients:
        client.transport.write(message)
    for _ in clients:
        await taken.acquire()


async def measure(number: int, *, talk: bool, size: int, tls: bool) -> None:
    """Print what `number` idle clients cost."""
    compression = "on" if Client.handshake is OFFER else "off"
    async with gateway(tls=tls, WS_TIMEOUT="0", COMPRESSION=compression) as rig:
        # The first few make what all share: buffers, the pool's connections, imported code.
        await join(rig, AT_ONCE, talk=talk, size=size)
        before = rig.memory()
        await join(rig, number, talk=talk, size=size)
        after = rig.memory()
    said = ["with TLS"] * tls + ["with compression"] * (compression == "on")
    if talk or size:
        said.append(f"that each sent a message of {size or 5} bytes")
    print(f"{' '.join([str(number), 'idle clients', *said])}: {(after - before) / number:.0f} bytes each")
    print(f"(gateway {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after; proportional set size)")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the case."""
    parser = ArgumentParser(prog="python -m benchmarks idle", description="Memory per idle client.")
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--talk", action="store_true", help="each client sends a short message first, all at once")
    parser.add_argument("--size", type=int, default=0, help="each sends one of so many bytes, a hundred at a time")
    parser.add_argument("--tls", action="store_true", help="clients come by TLS")
    parser.add_argument("--compression", action="store_true", help="messages are deflated")
    chosen = parser.parse_args(arguments)
    if chosen.compression:
        Client.handshake = OFFER
    uvloop.run(measure(chosen.clients, talk=chosen.talk, size=chosen.size, tls=chosen.tls))
