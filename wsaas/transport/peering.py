"""The links of one process to all others: the workers of its node, and the other nodes of its cluster."""

import asyncio

from wsaas.cluster.link_policy import node_policy
from wsaas.cluster.node_peers import ClusterRouter, NodePeers
from wsaas.cluster.peer_link import LinkServices
from wsaas.cluster.peers import PeerRouter, Peers
from wsaas.cluster.router import Router
from wsaas.cluster.view import ClusterView
from wsaas.sessions.registry import Registry
from wsaas.transport.certificates import Certificates
from wsaas.transport.node_connector import NodeConnectors


class Peering:
    """All links. `peers`: to the workers of this node. `nodes`: to other nodes, None without a cluster.

    `router`: finds the peer that holds a connection.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        services: LinkServices,
        registry: Registry,
        view: ClusterView | None,
        certificates: Certificates,
    ) -> None:
        """Start without peers. `view`: of the cluster. `certificates`: has the TLS context for other nodes."""
        self.peers = Peers(services, loop)
        self.nodes: NodePeers | None = None
        self.router: Router = PeerRouter(registry, self.peers)
        if view is not None:
            policy = node_policy(registry.services.settings.keep_alive_timeout)
            self.nodes = NodePeers(services, NodeConnectors(loop, lambda: certificates.nodes), view.own.node, policy)
            self.router = ClusterRouter(registry, self.peers, self.nodes, view)

    def sweep(self, now: float) -> None:
        """Give up what is overdue by `now` (monotonic seconds), and connect again after failures."""
        self.peers.sweep(now)
        if self.nodes is not None:
            self.nodes.sweep(now)

    async def close(self) -> None:
        """Close all connections."""
        await self.peers.close()
        if self.nodes is not None:
            await self.nodes.close()
