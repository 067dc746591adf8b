"""What a session counts, and logs, about its client: transitions, undelivered messages, and the end."""

from wsaas.counters import NO_STATUS, Counters
from wsaas.delivery.services import DeliveryServices
from wsaas.reason import Reason
from wsaas.sessions.access_log import log_abandoned, log_closed
from wsaas.sessions.connection_info import ConnectionInfo
from wsaas.sessions.session_state import CLOSING, CONNECTING, OPEN, State
from wsaas.settings import Settings


def count_undelivered(info: ConnectionInfo, counters: Counters, messages: int) -> None:
    """Count messages of a client that were given up."""
    info.messages_undelivered += messages
    counters.messages_undelivered += messages


def count_states(counters: Counters, before: State, after: State) -> None:
    """Count a transition in the gauges of the states."""
    if before is OPEN:
        counters.open -= 1
    elif before is CLOSING:
        counters.closing -= 1
    if after is OPEN:
        counters.open += 1
    elif after is CLOSING:
        counters.closing += 1


def note_disconnect(info: ConnectionInfo, before: State, reason: Reason, services: DeliveryServices) -> None:
    """Count that a client has disconnected, and log it unless its handshake was answered.

    The answer to a handshake is counted and logged where it is sent, and the end of a connection is logged by
    `note_closed`.
    """
    counters = services.counters
    if before is not CONNECTING:
        counters.connection_durations.observe(info.ended - info.since)
        counters.closed[reason] += 1
    elif reason is Reason.CLIENT_LOST:
        counters.handshakes[NO_STATUS] += 1
        if services.settings.access_log:
            log_abandoned(info)


def note_closed(info: ConnectionInfo, reason: Reason, settings: Settings) -> None:
    """Log the end of a connection that had its 101, once all that the client sent was read."""
    if settings.access_log:
        log_closed(info, reason)
