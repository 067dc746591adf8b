"""What a node holds at one moment, in numbers: for tests, for an embedding program, and for metrics."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Gauges, read when `Gateway.statistics` is called. Nothing is counted for them while messages are handled.

    `accepted_connections`: connections of clients and of callers of the REST API that are open.
    `clients`: sessions whose client is connected or waits for the answer to its POST.
    `disconnects_owed`: sessions whose client is gone and whose DELETE is not answered.
    `recovered_disconnects_owed`: DELETEs that an earlier process left, or that are retried at a slow pace.
    `backend_connections_opening`, `backend_connections_idle`, `backend_connections_busy`: the pool.
    `backend_requests_waiting`: requests that wait for a connection to the backend.
    `deliveries_waiting`: PUTs and DELETEs that the circuit breaker holds back.
    `circuit_breaker_state`: `closed`, `open` or `half-open`.
    `accepts_clients`: False from the start of a drain on.
    """

    accepted_connections: int
    clients: int
    disconnects_owed: int
    recovered_disconnects_owed: int
    backend_connections_opening: int
    backend_connections_idle: int
    backend_connections_busy: int
    backend_requests_waiting: int
    deliveries_waiting: int
    circuit_breaker_state: str
    accepts_clients: bool
