"""The other nodes of the cluster, and the router that finds the node that holds a connection."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from wsaas.backend_setting_type import backend
from wsaas.cluster.forwarded import FOR_NODE
from wsaas.cluster.link_policy import LinkPolicy
from wsaas.cluster.node_link import NodeAddress, NodeLink
from wsaas.cluster.peer_link import Connect, LinkServices, PeerLink
from wsaas.cluster.peer_process import PeerProcess
from wsaas.cluster.peers import PeerRouter, Peers
from wsaas.cluster.router import Peer, Router
from wsaas.cluster.view import ClusterView, Member
from wsaas.errors import RETRY_AFTER, Misdirected, Unavailable, Unknown
from wsaas.http.request import Request
from wsaas.sessions.registry import ID_LENGTH, PREFIX_LENGTH, Registry
from wsaas.sessions.session import Session

UNKNOWN_NODES: Final = ("nodes that this one has not found yet",)
"""What is missing while a node does not know the others."""

_NOT_IN_HEADER: Final = re.compile(r"[^!-~]")


class Connectors(Protocol):
    """Connect to addresses."""

    def to(self, address: str) -> Connect:
        """Return a function that connects to `address`."""

    def retain(self, addresses: Collection[str]) -> None:
        """Forget what is known about all other addresses."""

    async def close(self) -> None:
        """Cancel all attempts."""


@dataclass(slots=True)
class _Node:
    """Another node. `processes`: by address. `main`: the one that answers requests about many clients for all."""

    processes: dict[str, PeerProcess]
    main: str
    members: list[Member]

    def may_have_clients(self) -> bool:
        return any(member.is_listening for member in self.members)


class NodePeers:
    """All other nodes. `processes`: what answers for the clients of a process, by the prefix of their ids.

    That is one process for all workers of a node: it asks the others itself.
    """

    def __init__(self, services: LinkServices, connectors: Connectors, node: str, policy: LinkPolicy) -> None:
        """Start without nodes. `node`: the name of this one."""
        self._connectors = connectors
        self._holders: dict[str, PeerLink] = {}
        self._nodes: dict[str, _Node] = {}
        self.own = _header_value(node)
        self._own_name = node
        self._policy = policy
        self._services = services
        self.processes: dict[str, PeerProcess] = {}

    def update(self, members: Mapping[str, Member]) -> None:
        """Know the other nodes' processes in `members`, by the prefix of their ids, and no others.

        What is missing has ended, and its clients are gone: requests that wait for it are answered with 410.
        """
        others = {prefix: member for prefix, member in members.items() if member.node != self._own_name}
        nodes: dict[str, list[Member]] = {}
        for member in others.values():
            nodes.setdefault(member.node, []).append(member)
        before = self._nodes
        self._nodes = {name: self._node(group, before.get(name)) for name, group in nodes.items()}
        self._holders = {
            prefix: self._nodes[member.node].processes[member.address].holder for prefix, member in others.items()
        }
        self.processes.clear()
        for prefix, member in others.items():
            node = self._nodes[member.node]
            self.processes[prefix] = node.processes[node.main]
        self._connectors.retain({member.address for member in others.values()})
        self._close_gone(before)

    def find(self, connection_id: str, /) -> Peer | None:
        """Return the link to the process whose ids start like `connection_id`, or None."""
        return self._holders.get(connection_id[:PREFIX_LENGTH]) if len(connection_id) == ID_LENGTH else None

    def find_process(self, connection_id: str, /) -> PeerProcess | None:
        """Return what answers for the clients of the process whose ids start like `connection_id`, or None."""
        return self.processes.get(connection_id[:PREFIX_LENGTH])

    def sweep(self, now: float) -> None:
        """See `PeerLink.sweep`."""
        for node in [*self._nodes.values()]:
            for process in [*node.processes.values()]:
                process.sweep(now)

    async def close(self) -> None:
        """Close all connections."""
        self.update({})
        await self._connectors.close()

    def _node(self, members: list[Member], known: _Node | None) -> _Node:
        """Return a node, with the links of what is `known` of it already."""
        old = known.processes if known else {}
        processes = {each.address: old.get(each.address) or self._process(each) for each in members}
        node = _Node(processes, known.main if known and known.main in processes else min(processes), members)
        for process in processes.values():
            process.may_have_clients = node.may_have_clients
        return node

    def _process(self, member: Member) -> PeerProcess:
        address = member.address
        label = f"{member.name} ({address})"
        place = NodeAddress(_header_value(member.node), _authority(address), label)
        link = partial(NodeLink, self._services, place, self._connectors.to(address), self._policy)
        return PeerProcess(label, link)

    def _close_gone(self, before: Mapping[str, _Node]) -> None:
        """Close the processes of `before` that are not known any more."""
        for name, node in before.items():
            now = self._nodes.get(name)
            for address, process in node.processes.items():
                if now is None:
                    process.close()
                elif address not in now.processes:
                    # Its clients are gone, but not those of the other workers.
                    process.close(Unknown(f"{process.name} has ended: the request may have been carried out."))


class ClusterRouter:
    """The router of a node in a cluster.

    While the node is not certain to know all others, it does not report an id as gone only because it knows nobody who
    might hold it.
    """

    __slots__ = ("_nodes", "_peers", "_registry", "_view", "find", "within_node")

    def __init__(self, registry: Registry, peers: Peers, nodes: NodePeers, view: ClusterView) -> None:
        """Find the sessions of `registry`, and the connections of `peers` (workers of this node) and of `nodes`."""
        self._nodes = nodes
        self._peers = peers
        self._registry = registry
        self._view = view
        self.within_node: Router = PeerRouter(registry, peers)
        self.find: Callable[[str], Session | None] = registry.find

    def for_request(self, request: Request, /) -> Router:
        """Return the router for `request`. Raises `Misdirected` if it is for another node."""
        node = request.headers.get(FOR_NODE)
        if node is None:
            return self
        if node != self._nodes.own:
            raise Misdirected("The request is for another node, as its Ws-Node says.")
        return self.within_node

    @property
    def processes(self) -> Mapping[str, PeerProcess]:
        """The peers of this moment."""
        return {**self._nodes.processes, **self._peers.processes}

    @property
    def unknown(self) -> Sequence[str]:
        """Names for the peers that are not known."""
        return () if self._view.is_ready else UNKNOWN_NODES

    def find_peer(self, connection_id: str, /) -> Peer | None:
        """See `Router`. Raises `Unavailable` while this node cannot tell whether the connection is gone."""
        found = self._peers.find(connection_id) or self._nodes.find(connection_id)
        if found is None:
            self._check_gone(connection_id)
        return found

    def find_process(self, connection_id: str, /) -> PeerProcess | None:
        """See `Router`. Raises `Unavailable` as `find_peer` does."""
        found = self._peers.find_process(connection_id) or self._nodes.find_process(connection_id)
        if found is None:
            self._check_gone(connection_id)
        return found

    def _check_gone(self, connection_id: str) -> None:
        """Raise `Unavailable` if `connection_id` may be that of a connection of a node that is not known."""
        if self._view.is_certain:
            return
        if len(connection_id) == ID_LENGTH and not connection_id.startswith(self._registry.prefix):
            raise Unavailable("This node cannot tell at present which node holds this connection.", RETRY_AFTER)


def _header_value(node: str) -> bytes:
    """Return the value of `Ws-Node` for the name of a node."""
    return _NOT_IN_HEADER.sub("?", node).encode()


def _authority(address: str) -> bytes:
    """Return the `Host` for an address; empty if it is not valid, which `Connectors` report."""
    try:
        return backend.parse(address).authority.encode()
    except ValueError:
        return b""
