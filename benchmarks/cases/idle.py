"""The memory that an idle client takes in the gateway: what many clients add to it, divided by their number.

With `--target` the clients are those of the load generator instead, and other gateways can be measured as well.
"""

import asyncio
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

import uvloop

from benchmarks.cases import compare
from benchmarks.machine import raise_descriptor_limit
from benchmarks.rig import AT_ONCE, Client, Rig, gateway
from benchmarks.targets.wsaas import Wsaas
from benchmarks.wire import HANDSHAKE, compressed_text, frame, text

COMPRESSION_OFFER = HANDSHAKE[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"


async def add_clients(rig: Rig, number: int, chosen: Namespace) -> None:
    """Open `number` clients that stay, and let each send the messages that were `chosen`."""
    handshake = COMPRESSION_OFFER if chosen.compression else HANDSHAKE
    clients = await rig.connect_many(number, handshake)
    if chosen.talk:
        for client in clients:
            client.transport.write(frame(b"hello"))
    if chosen.size:
        message = compressed_text(b"x" * chosen.size) if chosen.compression else text(chosen.size)
        for first in range(0, number, AT_ONCE):
            await send(rig, clients[first : first + AT_ONCE], message)
    # The handshake of one more client follows all messages: once it is done, they are too.
    await rig.connect()


async def send(rig: Rig, clients: list[Client], message: bytes) -> None:
    """Let each of `clients` send `message`; return when the backend has received all of them."""
    received = asyncio.Semaphore(0)
    rig.state.on_put = received.release
    for client in clients:
        client.transport.write(message)
    for _ in clients:
        await received.acquire()


async def measure(chosen: Namespace) -> None:
    """Print the memory that one idle client takes."""
    settings = {"WS_TIMEOUT": "0", "COMPRESSION": "on" if chosen.compression else "off"}
    target = Wsaas(compiled=chosen.compiled, settings=settings)
    if target.missing():
        raise SystemExit(f"{target.name} has to be installed: {target.install}")
    async with gateway(target, tls=chosen.tls) as rig:
        # The first clients make what all of them share: buffers, connections to the backend, imported modules.
        await add_clients(rig, AT_ONCE, chosen)
        before = rig.memory()
        await add_clients(rig, chosen.clients, chosen)
        after = rig.memory()
    words = [f"{chosen.clients} idle clients"]
    words += ["with TLS"] * chosen.tls + ["with compression"] * chosen.compression
    if chosen.talk or chosen.size:
        words.append(f"after a message of {chosen.size or 5} bytes from each")
    print(f"{' '.join(words)}: {(after - before) / chosen.clients:.0f} bytes each")
    print(f"(proportional set size of the gateway: {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after)")


def main(arguments: Sequence[str]) -> None:
    """Run the case."""
    if any(argument.partition("=")[0] == "--target" for argument in arguments):
        compare(["idle"], arguments)
        return
    parser = ArgumentParser(prog="python -m benchmarks idle", description=__doc__)
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--talk", action="store_true", help="each client first sends a short message, all at once")
    parser.add_argument("--size", type=int, default=0, help="each sends a message of this many bytes, 100 at a time")
    parser.add_argument("--tls", action="store_true", help="clients connect over TLS")
    parser.add_argument("--compiled", action="store_true", help="measure wsaas+compiled")
    parser.add_argument("--compression", action="store_true", help="messages are compressed")
    raise_descriptor_limit()
    uvloop.run(measure(parser.parse_args(arguments)))
