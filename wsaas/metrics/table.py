"""Every metric that is exported: its name, its help, its series, and where their values come from.

No series is chosen by a client, so their number is always the same.
"""

from collections.abc import Iterable
from typing import Final

from wsaas.counters import (
    CONNECTION_BOUNDS,
    EVENT_NAMES,
    HANDSHAKE_STATUSES,
    LAG_BOUNDS,
    NO_STATUS,
    OTHER_STATUS,
    PUSH_RESULTS,
    REQUEST_BOUNDS,
    RESULTS,
    Histogram,
)
from wsaas.events import Closed, Message
from wsaas.metrics.metric import COUNTER, GAUGE, HISTOGRAM, Figures, Metric, Value
from wsaas.reason import Reason

_RETRIED: Final = (Message, Closed)
"""The events whose requests are sent again. A client does not wait for another POST."""


def _each(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    return tuple((name,) for name in names)


def _cells(*histograms: Histogram) -> list[Value]:
    """Return the counts and the sum of histograms with the same bounds, added up."""
    counts = [sum(each) for each in zip(*(histogram.counts for histogram in histograms), strict=True)]
    counts[0] += sum(histogram.first for histogram in histograms)
    return [*counts, sum(histogram.sum for histogram in histograms)]


def _connections(figures: Figures) -> list[Value]:
    counters, clients = figures.counters, figures.gauges.clients
    # Clients whose socket is closed, while what they sent is still unread, are in neither state.
    return [max(0, clients - counters.open - counters.closing), counters.open, counters.closing]


def _requests(figures: Figures) -> list[Value]:
    values: list[Value] = []
    for kind, requests in figures.counters.requests.items():
        found = [requests.results[result] for result in RESULTS]
        if kind is Message:
            found[RESULTS.index("ok")] += figures.counters.direct.count
        values += found
    return values


def _durations(figures: Figures) -> list[Value]:
    values: list[Value] = []
    for kind, requests in figures.counters.requests.items():
        direct = (figures.counters.direct,) if kind is Message else ()
        values += _cells(requests.durations, *direct)
    return values


def _messages(figures: Figures) -> list[Value]:
    counters = figures.counters
    return [counters.messages_in, counters.pushed + counters.published + counters.batched + counters.replied]


def _pushes(figures: Figures) -> list[Value]:
    counters = figures.counters
    return [counters.pushed + counters.batched, *(counters.refused_pushes[result] for result in PUSH_RESULTS)]


def _pool(figures: Figures) -> list[Value]:
    gauges = figures.gauges
    return [gauges.backend_connections_idle, gauges.backend_connections_busy, gauges.backend_connections_opening]


METRICS: Final = (
    # The clients.
    Metric(
        "wsaas_connections",
        GAUGE,
        "Clients, by state. Many in state connecting: the backend answers POSTs slowly. Many in state closing: "
        "clients that do not read; they are cut off after HANDSHAKE_TIMEOUT.",
        _connections,
        ("state",),
        _each(("connecting", "open", "closing")),
    ),
    Metric(
        "wsaas_connections_limit",
        GAUGE,
        "How many clients this node can take, by MAX_CONNECTIONS and the limit of open files. Near it, add a node or "
        "raise the limit; beyond it, handshakes get 503.",
        lambda figures: [figures.gauges.clients_limit],
    ),
    Metric(
        "wsaas_handshakes_total",
        COUNTER,
        "Handshakes, by the status of the answer; none: the client went away first. 502: the answer of the backend to"
        " the POST is wrong, see the log. 503: the backend is down, or the node is full. 504: raise API_TIMEOUT, or "
        "make the backend faster. 400, 404 and 426: a client or a proxy is set up wrongly. 429: an address is over "
        "its limit. 403: also clients that the backend refused with a Close.",
        lambda figures: [*figures.counters.handshakes.values()],
        ("status",),
        _each({NO_STATUS: "none", OTHER_STATUS: "other"}.get(status, str(status)) for status in HANDSHAKE_STATUSES),
    ),
    Metric(
        "wsaas_connections_closed_total",
        COUNTER,
        "Ends of connections, by reason. undelivered: a message was lost, see wsaas_messages_undelivered_total. "
        "timed_out, client_lost: the network, or WS_TIMEOUT is too short. slow_client: publishes with slow=close. "
        "out_of_memory: see wsaas_memory_limit_bytes. violation: a client has a bug. gateway_lost: clients of a "
        "process that was killed; the process that sends their DELETEs counts them.",
        lambda figures: [*figures.counters.closed.values()],
        ("reason",),
        _each(reason.name.lower() for reason in Reason),
    ),
    Metric(
        "wsaas_connection_duration_seconds",
        HISTOGRAM,
        "How long connections lasted that have ended. Very short ones: clients connect again and again; look at "
        "wsaas_connections_closed_total for the reason.",
        lambda figures: _cells(figures.counters.connection_durations),
        bounds=CONNECTION_BOUNDS,
    ),
    # The messages.
    Metric(
        "wsaas_messages_total",
        COUNTER,
        "Messages from clients (in) and to clients (out). A sudden fall of either shows trouble outside the gateway.",
        _messages,
        ("direction",),
        _each(("in", "out")),
    ),
    Metric(
        "wsaas_message_bytes_total",
        COUNTER,
        "Bytes of the messages from clients (in) and to clients (out), without frames and compression.",
        lambda figures: [figures.counters.bytes_in, figures.counters.bytes_out],
        ("direction",),
        _each(("in", "out")),
    ),
    Metric(
        "wsaas_heartbeats_total",
        COUNTER,
        "Heartbeats of clients that the gateway answered itself (HEARTBEAT). They are in no other metric of messages "
        "or bytes.",
        lambda figures: [figures.counters.heartbeats],
    ),
    Metric(
        "wsaas_messages_undelivered_total",
        COUNTER,
        "Messages of clients that the backend did not take, and that were given up. Their clients were closed with "
        "1011, and the log names each of them. Any increase is a loss: repair the backend, or raise API_RETRY.",
        lambda figures: [figures.counters.messages_undelivered],
    ),
    Metric(
        "wsaas_delivery_seconds",
        HISTOGRAM,
        "Time from the receipt of a message until the backend has taken it, with waits and retries. If it is much "
        "higher than wsaas_backend_request_duration_seconds, messages wait: see wsaas_pool_waiting and "
        "wsaas_backend_queued.",
        lambda figures: _cells(figures.counters.direct, figures.counters.delayed),
        bounds=REQUEST_BOUNDS,
    ),
    # The backend.
    Metric(
        "wsaas_backend_requests_total",
        COUNTER,
        "Requests to the backend, by event and result. refused: it said no. error: an answer that cannot be used, "
        "such as 5xx. unreachable: no connection. no_connection: none was free in time, raise API_CONNECTIONS. "
        "broken: it closed the connection. timeout: no answer within API_TIMEOUT. invalid: no HTTP. The log has the "
        "details.",
        _requests,
        ("event", "result"),
        tuple((event, result) for event in EVENT_NAMES.values() for result in RESULTS),
    ),
    Metric(
        "wsaas_backend_request_duration_seconds",
        HISTOGRAM,
        "Time from writing a request to the backend until its answer or failure, without waits. If it rises, the "
        "backend is slow: look there.",
        _durations,
        ("event",),
        _each(EVENT_NAMES.values()),
        REQUEST_BOUNDS,
    ),
    Metric(
        "wsaas_retries_total",
        COUNTER,
        "Requests that were sent again because an earlier attempt failed. Messages are delayed meanwhile: see "
        "wsaas_backend_requests_total for what failed.",
        lambda figures: [figures.counters.requests[kind].retries for kind in _RETRIED],
        ("event",),
        _each(EVENT_NAMES[kind] for kind in _RETRIED),
    ),
    Metric(
        "wsaas_backend_up",
        GAUGE,
        "1 while the circuit breaker is closed. 0: the backend cannot be reached, or the requests of many clients "
        "fail in a row. Repair the backend; messages wait for API_RETRY, then they are lost.",
        lambda figures: [float(figures.gauges.circuit_breaker_state == "closed")],
        merge=min,
    ),
    Metric(
        "wsaas_backend_queued",
        GAUGE,
        "Messages and DELETEs that wait for the circuit breaker, one for each client at most. They are sent when the "
        "backend answers again.",
        lambda figures: [figures.gauges.deliveries_waiting],
    ),
    Metric(
        "wsaas_pool_connections",
        GAUGE,
        "Connections to the backend, by state. If none is idle for long, raise API_CONNECTIONS, or make the backend "
        "faster.",
        _pool,
        ("state",),
        _each(("idle", "busy", "opening")),
    ),
    Metric(
        "wsaas_pool_connections_limit",
        GAUGE,
        "How many connections to the backend there may be: API_CONNECTIONS, or fewer if the limit of open files is "
        "low.",
        lambda figures: [figures.gauges.backend_connections_limit],
    ),
    Metric(
        "wsaas_pool_waiting",
        GAUGE,
        "Requests that wait for a free connection to the backend. More than 0 for long: raise API_CONNECTIONS, or "
        "make the backend faster.",
        lambda figures: [figures.gauges.backend_requests_waiting],
    ),
    Metric(
        "wsaas_backlog_bytes",
        GAUGE,
        "Bytes of the messages that wait for the backend, each with 512 bytes of overhead. It grows while the backend"
        " is slower than the clients.",
        lambda figures: [figures.counters.backlog],
    ),
    Metric(
        "wsaas_clients_paused",
        GAUGE,
        "Clients from which nothing is read, as INBOX bytes of their messages wait for the backend. The backend is "
        "slow or down; nothing is lost.",
        lambda figures: [figures.counters.paused],
    ),
    # What the backend sends.
    Metric(
        "wsaas_pushes_total",
        COUNTER,
        "Messages for single clients (PUT ws_uri, POST /send), by result. gone: the client has disconnected; if there"
        " are many, the backend ignores DELETEs. slow: over SEND_BUFFER, as the client does not read. no_memory: see "
        "wsaas_memory_limit_bytes. rejected: the request is wrong, and its answer says why.",
        _pushes,
        ("result",),
        _each(("ok", *PUSH_RESULTS)),
    ),
    Metric(
        "wsaas_group_deliveries_total",
        COUNTER,
        "Messages to the members of groups, and to all clients, by result. slow: skipped, as over SEND_BUFFER bytes "
        "wait for the client.",
        lambda figures: [figures.counters.published, figures.counters.group_slow],
        ("result",),
        _each(("ok", "slow")),
    ),
    # The books.
    Metric(
        "wsaas_disconnects_pending",
        GAUGE,
        "DELETEs that the backend has not acknowledged: it counts as many clients too many. It has to fall to nearly "
        "0 when the backend is well.",
        lambda figures: [figures.gauges.disconnects_owed + figures.gauges.recovered_disconnects_owed],
    ),
    Metric(
        "wsaas_disconnects_given_up_total",
        COUNTER,
        "DELETEs that failed for ten times API_RETRY. The log names each client. With JOURNAL or CLUSTER they are "
        "tried again every minute; without, the backend never receives them: compare its records with GET "
        "/connections.",
        lambda figures: [figures.counters.disconnects_given_up],
    ),
    Metric(
        "wsaas_journal_writable",
        GAUGE,
        "1 while the journal can be written. 0: new clients get 503, and a crash may cost DELETEs. Look at the disk "
        "of JOURNAL and at the log. Without a journal, there is no value.",
        lambda figures: [figures.gauges.journal_writable],
        merge=min,
    ),
    # The node.
    Metric(
        "wsaas_event_loop_lag_seconds",
        HISTOGRAM,
        "How late a timer fires, which is measured at least every second in each worker. If it rises, the core is "
        "full: raise WORKERS, or add a node.",
        lambda figures: _cells(figures.counters.loop_lag),
        bounds=LAG_BOUNDS,
    ),
    Metric(
        "wsaas_memory_limit_bytes",
        GAUGE,
        "MAX_MEMORY. Beyond it, the largest clients are throttled, then handshakes get 503: compare it with "
        "process_resident_memory_bytes. Without a limit, there is no value.",
        lambda figures: [figures.gauges.memory_limit],
    ),
    Metric(
        "wsaas_certificate_expiry_timestamp_seconds",
        GAUGE,
        "When the certificate in TLS_CERT expires. Replace the file before, and send SIGHUP. Without TLS_CERT, there "
        "is no value.",
        lambda figures: [figures.gauges.certificate_expires],
        merge=min,
    ),
    Metric(
        "wsaas_cluster_nodes",
        GAUGE,
        "Nodes of the cluster that this node knows, with itself. Without CLUSTER, there is no value.",
        lambda figures: [figures.gauges.cluster_nodes],
        merge=max,
    ),
    Metric(
        "wsaas_cluster_connected",
        GAUGE,
        "1 while there is contact with NATS. 0: the local journal alone remembers new clients. Look at NATS, and "
        "at the network. Without CLUSTER, there is no value.",
        lambda figures: [figures.gauges.cluster_connected],
        merge=min,
    ),
    Metric(
        "wsaas_cluster_unreplicated",
        GAUGE,
        "Clients with changes that NATS has not acknowledged. If this node is lost for good, their DELETEs are. Look "
        "at NATS. Without CLUSTER, there is no value.",
        lambda figures: [None if figures.gauges.cluster is None else figures.gauges.cluster.unreplicated],
    ),
    Metric(
        "wsaas_cluster_adopted_connections_total",
        COUNTER,
        "Clients of dead processes whose DELETEs this node has taken over. Any increase: a node was lost, or was cut "
        "off from NATS for longer than CLUSTER_LEASE.",
        lambda figures: [0 if figures.gauges.cluster is None else figures.gauges.cluster.adopted],
    ),
    # The process.
    Metric(
        "process_cpu_seconds_total",
        COUNTER,
        "CPU time of all workers, in seconds. Near one second a second for each worker, the core is full: raise "
        "WORKERS.",
        lambda figures: [figures.process.cpu],
    ),
    Metric(
        "process_resident_memory_bytes",
        GAUGE,
        "Memory of all workers. Compare it with wsaas_memory_limit_bytes.",
        lambda figures: [figures.process.resident],
    ),
    Metric(
        "process_open_fds",
        GAUGE,
        "Open files and sockets of all workers. Where the system cannot count them fast, there is no value.",
        lambda figures: [figures.process.open_fds],
    ),
    Metric(
        "process_max_fds",
        GAUGE,
        "How many files and sockets all workers may have open. Clients need one each.",
        lambda figures: [figures.process.max_fds],
    ),
    Metric(
        "process_start_time_seconds",
        GAUGE,
        "When the oldest worker started, in seconds since the epoch. If it changes, the node was started again.",
        lambda figures: [figures.gauges.started_at],
        merge=min,
    ),
)
"""The metrics that processes count. `encode` adds the few that are about the node as a whole."""
