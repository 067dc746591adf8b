"""What is wrong with a node right now, in words, and what to do about it."""

from typing import Any, Final, NamedTuple

from wsaas.log.wording import counted
from wsaas.metrics.named_row import NamedRow

ERROR: Final = "error"
WARNING: Final = "warning"

NEARLY_FULL: Final = 0.9
"""The share of the limit of clients from which on a node is nearly full."""

SLOW_LOOP_MS: Final = 50.0
"""A delay of the event loop that clients notice."""

MANY_DISCONNECTS: Final = 100
"""More DELETEs than this are pending only if the backend does not take them."""


class Problem(NamedTuple):
    """A problem. `severity`: `ERROR` or `WARNING`."""

    severity: str
    text: str
    advice: str


def find_problems(row: NamedRow, backend: str, loop_lag_ms: float, missing: int) -> list[dict[str, Any]]:
    """Return the problems of a node, the most severe ones first.

    `backend`: its state. `missing`: how many workers have not answered.
    """
    found = [*_backend_problems(row, backend), *_node_problems(row, loop_lag_ms, missing), *_journal_problems(row)]
    return [each._asdict() for each in sorted(found, key=lambda each: each.severity != ERROR)]


def _backend_problems(row: NamedRow, backend: str) -> list[Problem]:
    found = []
    paused, waiting = int(row.total("wsaas_clients_paused")), int(row.total("wsaas_pool_waiting"))
    if backend == "down":
        text = "The backend cannot be reached: messages wait, and new clients get 503."
        found.append(Problem(ERROR, text, "Start it, or correct API_URI. The log has the details."))
    elif backend == "trying":
        text = "The backend can be reached, but the requests of many clients fail."
        found.append(Problem(ERROR, text, "Look at the log of the backend: it names what failed."))
    if paused:
        text = f"{counted(paused, 'client')} {_are(paused)} paused: the backend is slow."
        found.append(Problem(WARNING, text, "Nothing is lost. Make the backend faster, or add instances of it."))
    if waiting:
        text = f"{counted(waiting, 'request')} {_wait(waiting)} for a free connection to the backend."
        found.append(Problem(WARNING, text, "Raise API_CONNECTIONS, or make the backend faster."))
    return found


def _node_problems(row: NamedRow, loop_lag_ms: float, missing: int) -> list[Problem]:
    found = []
    clients, limit = row.total("wsaas_connections"), row.get("wsaas_connections_limit")
    if missing:
        text = f"{counted(missing, 'worker')} did not answer in time."
        found.append(Problem(ERROR, text, "It may hang. Look at the log of the supervisor."))
    if limit and clients >= limit * NEARLY_FULL:
        text = f"The node is nearly full: {int(clients)} of {int(limit)} clients."
        found.append(Problem(WARNING, text, "Add a node, or raise the limit of open files or MAX_CONNECTIONS."))
    if loop_lag_ms >= SLOW_LOOP_MS:
        text = f"The event loop is {loop_lag_ms:.0f} ms late: the core is full."
        found.append(Problem(WARNING, text, "Raise WORKERS, or add a node."))
    return found


def _journal_problems(row: NamedRow) -> list[Problem]:
    found = []
    pending = int(row.total("wsaas_disconnects_pending"))
    unreplicated = int(row.get("wsaas_cluster_unreplicated") or 0)
    if row.get("wsaas_journal_writable") == 0:
        text = "The journal cannot be written: new clients get 503."
        found.append(Problem(ERROR, text, "Look at the disk of JOURNAL, and at the log."))
    if row.get("wsaas_cluster_connected") == 0:
        text = "There is no contact with NATS: the local journal alone remembers new clients."
        found.append(Problem(ERROR, text, "Look at NATS, and at the network."))
    if pending > MANY_DISCONNECTS:
        text = f"{counted(pending, 'DELETE')} {_are(pending)} pending: the backend counts as many clients too many."
        found.append(Problem(WARNING, text, "Let the backend answer DELETEs with 2xx, 404 or 410."))
    if unreplicated > MANY_DISCONNECTS:
        text = f"{counted(unreplicated, 'client')} {_are(unreplicated)} not yet known to the other nodes."
        found.append(Problem(WARNING, text, "Look at NATS: it acknowledges slowly."))
    return found


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _wait(number: int) -> str:
    return "waits" if number == 1 else "wait"
