"""Reads the gauges of a process from its parts."""

import math
from dataclasses import dataclass

from wsaas.cluster.view import ClusterView
from wsaas.delivery.circuit_breaker import CircuitBreaker
from wsaas.delivery.pool import Pool
from wsaas.journals import Journals
from wsaas.sessions.registry import Registry
from wsaas.statistics import ClusterStatistics, Statistics
from wsaas.transport.certificates import Certificates
from wsaas.transport.connector import Connector
from wsaas.transport.timeouts import Timeouts


@dataclass(frozen=True, slots=True)
class Gauges:
    """The parts of a process. Nothing is counted here: each part knows its own numbers."""

    breaker: CircuitBreaker
    certificates: Certificates
    connector: Connector
    journals: Journals
    pool: Pool
    registry: Registry
    timeouts: Timeouts
    view: ClusterView | None

    def read(self) -> Statistics:
        """Return the gauges."""
        pool, registry, view = self.pool.counts(), self.registry, self.view
        cluster = self.journals.cluster_statistics()
        limit = registry.services.memory.limit
        return Statistics(
            accepted_connections=len(self.timeouts),
            clients=len(registry),
            clients_limit=registry.clients_limit,
            disconnects_owed=len(registry.ending()),
            recovered_disconnects_owed=self.journals.recovery.pending,
            backend_connections_opening=self.connector.pending,
            backend_connections_idle=pool.idle,
            backend_connections_busy=pool.busy,
            backend_connections_limit=self.pool.limits.connections,
            backend_requests_waiting=pool.waiting,
            deliveries_waiting=len(self.breaker),
            circuit_breaker_state=self.breaker.state.value,
            accepts_clients=registry.is_open,
            started_at=registry.started_at,
            memory_limit=None if math.isinf(limit) else limit,
            journal_writable=self.journals.is_writable,
            certificate_expires=self.certificates.expires,
            cluster=cluster,
            cluster_connected=_is_connected(view, cluster),
            cluster_nodes=None if view is None else _nodes(view),
        )


def _is_connected(view: ClusterView | None, cluster: ClusterStatistics | None) -> bool | None:
    if cluster is not None:
        return cluster.is_in_contact
    return None if view is None else view.is_certain


def _nodes(view: ClusterView) -> int:
    return len({view.own.node, *(member.node for member in view.members.values())})
