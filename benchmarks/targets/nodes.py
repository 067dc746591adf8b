"""WSaaS as a cluster of several nodes on this machine."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmarks.targets.base import Placement
from benchmarks.targets.workers import free_ports
from benchmarks.targets.wsaas import Wsaas
from benchmarks.wire import HOST


class Nodes(Wsaas):
    """Nodes with `CLUSTER`, as children of a shell. All clients connect to the first one.

    The REST API of each node has a port of its own: the load generator pushes to the node of a client, or to another.
    """

    def __init__(self, nodes: int, like: Wsaas, nats: str) -> None:
        """Take the package and the journal from `like`. `nats`: URL of the NATS server. One node has no cluster."""
        super().__init__(like.checkout, journal=like.journal, settings=like.settings)
        self.nodes = nodes
        self.name = f"{'1 node' if nodes == 1 else f'{nodes} nodes'}{like.name.removeprefix(Wsaas.name)}"
        self._nats = nats
        # The clients' ports of the other nodes are behind those of the REST APIs.
        self._ports = free_ports(2 * nodes)

    def command(self, placement: Placement) -> Sequence[str]:
        """Return a shell that runs the nodes."""
        gateway = shlex.join(super().command(placement))
        nodes = [shlex.join(f"{name}={value}" for name, value in self._own(placement, n)) for n in range(self.nodes)]
        return ["sh", "-c", "".join(f"env {settings} {gateway} & " for settings in nodes) + "wait"]

    def environment(self, placement: Placement) -> Mapping[str, str]:
        """Return the settings that all nodes have."""
        cluster = {"CLUSTER": self._nats} if self.nodes > 1 else {}
        return {**super().environment(placement), **cluster}

    def control_port(self, _placement: Placement) -> int:
        """Return the first port of the REST APIs."""
        return self._ports[0]

    def control_address(self, _placement: Placement) -> str:
        """Return the ports of the REST APIs."""
        last = f"-{self._ports[self.nodes - 1]}" if self.nodes > 1 else ""
        return f"{HOST}:{self._ports[0]}{last}"

    def is_ready(self, placement: Placement) -> bool:
        """Return whether all nodes listen, which they do after they have joined."""
        own = [replace(placement, client=self._client(placement, node)) for node in range(self.nodes)]
        return all(map(super().is_ready, own))

    def _own(self, placement: Placement, node: int) -> list[tuple[str, str]]:
        """Return the settings of one node."""
        control = f"{HOST}:{self._ports[node]}"
        address = {"NODE_ADDRESS": control} if self.nodes > 1 else {}
        journal = {"JOURNAL": str(placement.folder / f"journal-{node}")} if self.journal else {}
        listen = f"{HOST}:{self._client(placement, node)}"
        return [*{"LISTEN": listen, "CONTROL_LISTEN": control, "WS_HOSTNAME": control, **address, **journal}.items()]

    def _client(self, placement: Placement, node: int) -> int:
        return placement.client if node == 0 else self._ports[self.nodes + node]
