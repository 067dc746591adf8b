"""A NATS server in a network of its own, with two links, one of which can be cut."""

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.made_network import made, run
from tests.support.nats import NatsServer


class Partition:
    """Two links to the NATS server `server`, with one address of it on each."""

    def __init__(self, folder: Path) -> None:
        number = os.getpid() % 10_000
        self._name = f"wsaas-{number}"
        self._links = [f"wn{number}-{index}" for index in range(2)]
        # Addresses for documentation (RFC 5737).
        self._networks = ["198.51.100.", "203.0.113."]
        prefix = ["ip", "netns", "exec", self._name]
        self.server = NatsServer(folder, host=f"{self._networks[0]}2", prefix=prefix, listen="0.0.0.0")

    @property
    def urls(self) -> list[str]:
        """The value of `CLUSTER` for each link."""
        return [f"nats://{network}2:{self.server.port}" for network in self._networks]

    def open(self) -> None:
        """Make the network."""
        run(f"ip netns add {self._name}")
        for link, network in zip(self._links, self._networks, strict=True):
            run(f"ip link add {link} type veth peer name {link}p netns {self._name}")
            run(f"ip addr add {network}1/24 dev {link}")
            run(f"ip link set {link} up")
            run(f"ip -n {self._name} addr add {network}2/24 dev {link}p")
            run(f"ip -n {self._name} link set {link}p up")

    def cut(self) -> None:
        """Lose all packets on the second link."""
        run(f"ip link set {self._links[1]} down")

    def heal(self) -> None:
        """Stop that."""
        run(f"ip link set {self._links[1]} up")

    def close(self) -> None:
        """Remove the network, and its links with it."""
        subprocess.run(f"ip netns del {self._name}".split(), check=False, capture_output=True)


@asynccontextmanager
async def partition(folder: Path) -> AsyncIterator[Partition]:
    """Run a NATS server behind two links."""
    found = Partition(folder)
    with made(found):
        try:
            await found.server.start()
            yield found
        finally:
            found.server.kill()
