"""Leaves the clients of a process that was declared dead to the process that sends their DELETEs."""

from collections.abc import Callable

from wsaas.events import Reason
from wsaas.log import logger
from wsaas.log.wording import counted
from wsaas.sessions.registry import Registry
from wsaas.sessions.session import Session
from wsaas.sessions.session_state import CLOSED, CONNECTING


def close_all_clients(registry: Registry, is_foreign: Callable[[str], bool]) -> None:
    """Close all clients with 1012, so that they connect anew.

    `is_foreign`: whether another process sends the DELETE of a connection. Then this one delivers nothing more of it,
    and logs the messages that this loses: the other one does not know of them. A connection that the backend has not
    decided about always gets its DELETE from here, as the other one may have come before the POST.
    """
    clients = len(registry)
    incomplete = messages = 0
    for session in [*registry.live(), *registry.ending()]:
        if session.state is CONNECTING or not is_foreign(session.id):
            session.close(Reason.DECLARED_DEAD)
            continue
        lost = _disown(session)
        incomplete += bool(lost)
        messages += lost
    logger.error("declared dead by another process: %s closed with 1012", counted(clients, "client is", "clients are"))
    if messages:
        connections = counted(incomplete, "connection")
        logger.error("declared dead: %s of %s not delivered", counted(messages, "message"), connections)


def _disown(session: Session) -> int:
    """Close, and deliver nothing more; return how many messages this loses."""
    before = session.info.messages_undelivered
    session.abandon()
    lost = session.info.messages_undelivered - before
    if lost:
        logger.error("%s: declared dead: %s not delivered", session.ws_uri, counted(lost, "message"))
    if session.state is CLOSED:
        session.finish()
    else:
        session.close(Reason.DECLARED_DEAD)
    return lost
