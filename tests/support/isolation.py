"""A node in a network of its own, with two ways to the rest of the machine, one of which can lose all packets."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

from tests.support.made_network import made, run

NOBODY = "02:00:00:00:00:01"
"""A hardware address that nobody has. Packets to it are lost without a trace."""

_NUMBERS = count()


class Isolation:
    """A network for one node. The rest of the machine is `.1` in both networks, the node is `.2`.

    `unreliable`, `reliable`: the beginning of the addresses of the network that can be cut, and of the other one.
    """

    # For benchmarks (RFC 2544).
    unreliable = "198.18.0."
    reliable = "198.19.0."

    def __init__(self) -> None:
        # The kernel removes a network some time after the command has ended.
        number = f"{os.getpid() % 10_000}{next(_NUMBERS)}"
        self._name = f"wsaas-i{number}"
        self._link = f"wi{number}"

    @property
    def prefix(self) -> Sequence[str]:
        """The prefix of a command that runs in this network."""
        return ["ip", "netns", "exec", self._name]

    def open(self) -> None:
        """Make the network."""
        run(f"ip netns add {self._name}")
        run(f"ip link add {self._link} type veth peer name {self._link}p netns {self._name}")
        for network in (self.unreliable, self.reliable):
            run(f"ip addr add {network}1/24 dev {self._link}")
            run(f"ip -n {self._name} addr add {network}2/24 dev {self._link}p")
        run(f"ip link set {self._link} up")
        run(f"ip -n {self._name} link set {self._link}p up")
        run(f"ip -n {self._name} link set lo up")

    def cut(self) -> None:
        """Lose all packets of the unreliable network, in both directions. Nobody notices but by time-outs."""
        run(f"ip neigh replace {self.unreliable}2 lladdr {NOBODY} dev {self._link} nud permanent")
        run(f"ip -n {self._name} neigh replace {self.unreliable}1 lladdr {NOBODY} dev {self._link}p nud permanent")

    def heal(self) -> None:
        """Stop that."""
        run(f"ip neigh del {self.unreliable}2 dev {self._link}")
        run(f"ip -n {self._name} neigh del {self.unreliable}1 dev {self._link}p")

    def close(self) -> None:
        """Remove the network, and its link with it."""
        subprocess.run(f"ip netns del {self._name}".split(), check=False, capture_output=True)


@contextmanager
def isolation() -> Iterator[Isolation]:
    """Make a network for one node."""
    found = Isolation()
    with made(found):
        yield found
