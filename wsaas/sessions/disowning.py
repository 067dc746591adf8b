"""Leaves the clients of a process that was declared dead to the process that sends their DELETEs."""

from collections.abc import Callable

from wsaas.log import logger
from wsaas.log.wording import counted
from wsaas.reason import Reason
from wsaas.sessions.registry import Registry
from wsaas.sessions.session import Session, finish_disowned
from wsaas.sessions.session_state import CLOSED, CONNECTING


def close_all_clients(registry: Registry, is_foreign: Callable[[str], bool]) -> None:
    """Close all clients with 1012, so that they connect anew.

    `is_foreign`: whether another process sends the DELETE of a connection. Then this one delivers nothing more of it.
    A connection that the backend has not decided about always gets its DELETE from here, as the other one may have come
    before the POST.
    """
    clients = len(registry)
    for session in [*registry.live(), *registry.ending()]:
        if session.state is CONNECTING or not is_foreign(session.id):
            session.close(Reason.DECLARED_DEAD)
        else:
            _disown(session, registry)
    logger.error("declared dead by another process: %s closed with 1012", counted(clients, "client is", "clients are"))


def _disown(session: Session, registry: Registry) -> None:
    """Close, and deliver nothing more. The messages that this loses are logged when the session ends."""
    session.abandon()
    if session.state is CLOSED:
        finish_disowned(session, registry)
    else:
        session.close(Reason.DECLARED_DEAD)
