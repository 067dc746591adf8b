"""The gauges of a process, for tests, embedding programs and metrics."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatistics:
    """Gauges of a process with `CLUSTER`.

    `is_in_contact`: whether the process has joined, and its last renewal and its connection to NATS are fine.
    `unreplicated`: connections with changes that NATS has not acknowledged yet.
    `adopted`: how many connections of dead processes this one has taken over since its start, to send their DELETEs.
    `since_renewal_ms`: milliseconds since the last renewal of the lease, or since the process started.
    """

    is_in_contact: bool
    unreplicated: int
    adopted: int
    since_renewal_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Gauges at the time of a call of `Gateway.statistics`. They cost nothing while messages are handled.

    `accepted_connections`: open connections of clients and of callers of the REST API.
    `clients`: sessions whose client is connected or waits for the answer to its POST.
    `clients_limit`: how many there may be.
    `disconnects_owed`: sessions whose client is gone and whose DELETE is not acknowledged yet.
    `recovered_disconnects_owed`: DELETEs left by an earlier process, or given up and retried at long intervals.
    `backend_connections_opening`, `backend_connections_idle`, `backend_connections_busy`: connections in the pool.
    `backend_connections_limit`: how many there may be.
    `backend_requests_waiting`: requests that wait for a connection to the backend.
    `deliveries_waiting`: PUTs and DELETEs that wait for the circuit breaker.
    `circuit_breaker_state`: `closed`, `open` or `half-open`.
    `accepts_clients`: False after the start of a drain.
    `started_at`: seconds since the epoch.
    `memory_limit`: bytes, None for no limit.

    These are None without a journal, a certificate, or a cluster:
    `journal_writable`: whether changes get into the journal.
    `certificate_expires`: when the certificate in `TLS_CERT` does, in seconds since the epoch.
    `cluster_connected`: whether there is contact with NATS.
    `cluster_nodes`: the nodes that are known, with this one.
    `cluster`: what is replicated.
    """

    accepted_connections: int
    clients: int
    clients_limit: float
    disconnects_owed: int
    recovered_disconnects_owed: int
    backend_connections_opening: int
    backend_connections_idle: int
    backend_connections_busy: int
    backend_connections_limit: int
    backend_requests_waiting: int
    deliveries_waiting: int
    circuit_breaker_state: str
    accepts_clients: bool
    started_at: float
    memory_limit: float | None = None
    journal_writable: bool | None = None
    certificate_expires: float | None = None
    cluster_connected: bool | None = None
    cluster_nodes: int | None = None
    cluster: ClusterStatistics | None = None
