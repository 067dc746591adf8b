"""What an idle client costs: the gateway's own memory, before and after many clients came."""

from argparse import ArgumentParser
from collections.abc import Sequence

import uvloop

from benchmarks.rig import AT_ONCE, gateway

MESSAGE = b"\x81\x85\x00\x00\x00\x00hello"


async def measure(number: int, *, talk: bool) -> None:
    """Print what `number` idle clients cost."""
    async with gateway(WS_TIMEOUT="0") as rig:
        # The first few make what all share: buffers, the pool's connections, imported code.
        clients = await rig.connect_many(AT_ONCE, lambda _: None)
        for client in clients if talk else ():
            client.transport.write(MESSAGE)
        before = rig.memory()
        clients = await rig.connect_many(number, lambda _: None)
        for client in clients if talk else ():
            client.transport.write(MESSAGE)
        # One more handshake behind all messages: they are done when it is.
        await rig.connect(lambda _: None)
        after = rig.memory()
    talked = " that each sent a message" if talk else ""
    print(f"{number} idle clients{talked}: {(after - before) / number:.0f} bytes each")
    print(f"(gateway {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after; proportional set size)")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the case."""
    parser = ArgumentParser(prog="python -m benchmarks idle", description="Memory per idle client.")
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--talk", action="store_true", help="each client sends one message first")
    chosen = parser.parse_args(arguments)
    uvloop.run(measure(chosen.clients, talk=chosen.talk))
