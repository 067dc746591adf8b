"""`GET /console/api/node`: the state of the node, with all of its workers, in numbers and words."""

import math
from collections import deque
from functools import partial
from typing import Any, Final

import orjson

from wsaas import __version__
from wsaas.api.console.problems import find_problems
from wsaas.api.peer_answers import PeerAnswers
from wsaas.api.query import read_query
from wsaas.api.route import Response
from wsaas.cluster.router import Router
from wsaas.delivery.circuit_breaker import State
from wsaas.http.request import Request
from wsaas.http.serialize import OK, OutgoingResponse
from wsaas.log.redaction import hide_secrets
from wsaas.metrics.named_row import NamedRow
from wsaas.metrics.own import OwnMetrics
from wsaas.metrics.row import ROW_LENGTH, merge_rows
from wsaas.reason import Reason
from wsaas.sessions.registry import Registry
from wsaas.settings import Settings, control_address, listen_address

WORKER_TARGET: Final = b"/console/api/node?worker=1"
"""What a worker asks the others for: their part."""

LAG_WINDOW_S: Final = 2.0
"""Seconds over which the delay of the event loop is averaged, at least."""

_BACKEND_STATES: Final = {State.CLOSED: "up", State.HALF_OPEN: "trying", State.OPEN: "down"}
_WORST: Final = ("up", "trying", "down")


class NodeResource:
    """The node. The worker that is asked adds the figures of the others to its own."""

    __slots__ = ("_lags", "_own", "_registry", "_router")

    def __init__(self, registry: Registry, own: OwnMetrics, router: Router) -> None:
        """Describe this process, and the workers that `router` knows."""
        self._lags: deque[tuple[float, float, float]] = deque()
        self._own = own
        self._registry = registry
        self._router = router

    def get(self, request: Request) -> Response:
        """Return the node, or the part of this worker."""
        part = self._part()
        if "worker" in read_query(request):
            return OutgoingResponse(200, orjson.dumps({"code": "OK", **part}))
        parts: list[dict[str, Any]] = [part]
        answers = PeerAnswers(partial(self._respond, parts))
        for peer in self._router.within_node.processes.values():
            answers.ask(partial(peer.get, request, WORKER_TARGET), partial(_add, parts))
        answers.done()
        # A link answers in time for all that do not.
        return answers.response(float("inf"))

    def _part(self) -> dict[str, Any]:
        """Return what this process contributes."""
        services = self._registry.services
        breaker, clock = services.webhook.breaker, services.clock
        since = breaker.not_closed_since
        return {
            "worker": self._own.index,
            "row": self._own.read(),
            "state": _BACKEND_STATES[breaker.state],
            "since": None if since is None else clock.wall() - (clock.now() - since),
        }

    def _respond(self, parts: list[dict[str, Any]]) -> OutgoingResponse:
        own = self._own
        row = NamedRow(merge_rows([*(part["row"] for part in parts), *own.stored([part["worker"] for part in parts])]))
        worst = max(parts, key=lambda part: _WORST.index(part["state"]))
        lag = self._loop_lag_ms(row)
        settings, clock = self._registry.services.settings, self._registry.services.clock
        is_in_contact = row.get("wsaas_cluster_connected")
        content = {
            "version": __version__,
            "node": self._registry.node,
            "started_at": row.get("process_start_time_seconds"),
            "now": clock.wall(),
            "workers": own.workers,
            "client_url": client_url(settings),
            "backend": {"url": hide_secrets(_backend_url(settings)), "state": worst["state"], "since": worst["since"]},
            "journal": {"file": settings.journal is not None, "writable": _flag(row.get("wsaas_journal_writable"))},
            "cluster": None
            if is_in_contact is None
            else {
                "nodes": row.get("wsaas_cluster_nodes"),
                "in_contact": bool(is_in_contact),
                "unreplicated": row.get("wsaas_cluster_unreplicated") or 0,
            },
            "numbers": {**_numbers(row), "loop_lag_ms": lag},
            "backend_ms": {"buckets": _buckets_ms(row)},
            "closes": _closes(row),
            "problems": find_problems(row, worst["state"], lag, max(0, own.workers - len(parts))),
        }
        return OutgoingResponse(200, orjson.dumps(content))

    def _loop_lag_ms(self, row: NamedRow) -> float:
        """Return how late the event loop was on average in the last seconds, 0 for the first request."""
        name, now = "wsaas_event_loop_lag_seconds", self._registry.services.clock.now()
        total, count = row.sum(name), row.buckets(name)[-1][1]
        lags = self._lags
        while len(lags) > 1 and lags[1][0] <= now - LAG_WINDOW_S:
            lags.popleft()
        if not lags or now > lags[-1][0]:
            lags.append((now, total, count))
        _, total_before, count_before = lags[0]
        return max(0.0, total - total_before) * 1000 / max(1.0, count - count_before)


def client_url(settings: Settings) -> str:
    """Return where clients connect, as far as the settings say: at `WS_HOSTNAME`, or at `LISTEN` if that is apart."""
    name, clients = settings.ws_hostname, listen_address(settings)
    if clients != control_address(settings) and not clients.path:
        return f"{'wss' if settings.tls_cert else 'ws'}://{_authority(name.host, clients.port)}"
    scheme, mark, rest = name.text.partition("://")
    if not mark:
        return f"{'wss' if settings.tls_cert else 'ws'}://{name.text}"
    return f"{'wss' if scheme == 'https' else 'ws'}://{rest}"


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _backend_url(settings: Settings) -> str:
    uri = settings.api_uri
    return f"{uri.place}{uri.target}"


def _numbers(row: NamedRow) -> dict[str, int | None]:
    """Return the numbers of the node by the names that the page knows."""
    connections, limit = row.total("wsaas_connections"), row.get("wsaas_connections_limit")
    handshakes, pool = row.series("wsaas_handshakes_total"), row.series("wsaas_pool_connections")
    messages, sizes = row.series("wsaas_messages_total"), row.series("wsaas_message_bytes_total")
    found = {
        "clients": connections,
        "clients_limit": limit,
        "paused": row.total("wsaas_clients_paused"),
        "backlog_bytes": row.total("wsaas_backlog_bytes"),
        "disconnects_pending": row.total("wsaas_disconnects_pending"),
        "disconnects_given_up": row.total("wsaas_disconnects_given_up_total"),
        "backend_requests_waiting": row.total("wsaas_pool_waiting"),
        "backend_connections_busy": pool["busy",],
        "backend_connections_limit": row.get("wsaas_pool_connections_limit"),
        "messages_in": messages["in",],
        "messages_out": messages["out",],
        "bytes_in": sizes["in",],
        "bytes_out": sizes["out",],
        "retries": row.total("wsaas_retries_total"),
        "undelivered": row.total("wsaas_messages_undelivered_total"),
        "connects": handshakes["101",],
        "refused": sum(handshakes.values()) - handshakes["101",] - handshakes["none",],
    }
    return {name: None if value is None or math.isinf(value) else int(value) for name, value in found.items()}


def _buckets_ms(row: NamedRow) -> list[tuple[float | None, int]]:
    buckets = row.buckets("wsaas_backend_request_duration_seconds")
    return [(None if bound is None else bound * 1000, int(count)) for bound, count in buckets]


def _closes(row: NamedRow) -> dict[str, int]:
    """Return how many connections ended for each reason, without those that never happened."""
    counts = row.series("wsaas_connections_closed_total")
    return {Reason[name.upper()].value: int(count) for (name,), count in counts.items() if count}


def _flag(value: float | None) -> bool | None:
    return None if value is None else bool(value)


def _add(parts: list[dict[str, Any]], answer: OutgoingResponse) -> None:
    """Add the part of another worker, unless it has not answered, or has ended."""
    if answer.status == OK.status:
        part = orjson.loads(answer.body)
        # A worker of another version, which is being replaced, has other rows.
        if len(part["row"]) == ROW_LENGTH:
            parts.append(part)
