"""Stopping a node: the clients are closed, the backend gets all that it is owed, and what is left is counted."""

import asyncio

from wsaas.clock import Clock
from wsaas.events import Reason
from wsaas.log import logger
from wsaas.log.wording import counted
from wsaas.sessions.registry import Registry
from wsaas.sessions.session import Session
from wsaas.sessions.session_state import DISCONNECTED

MAX_CLOSE_INTERVAL_S = 0.05
"""Most seconds between two clients that are closed: a few are not kept waiting."""

COUNTING_S = 1.0
"""Seconds, at most, to read what clients sent before their Close and the backend will not get: it is counted."""

POLL_S = 0.005
"""Seconds between two looks at whether it was all read."""


class Drain:
    """One stop of one node, within `timeout` seconds; `hurry` cuts short whatever is waited for."""

    def __init__(self, registry: Registry, clock: Clock, timeout: float, hurry: asyncio.Event) -> None:
        """Stop nothing yet."""
        self._clock = clock
        self._hurry = hurry
        self._no_clients, self._all_delivered = asyncio.Event(), asyncio.Event()
        self._registry = registry
        self._timeout = timeout

    async def run(self) -> None:
        """Close the clients and wait until the backend knows of each, or the time is over."""
        deadline = self._clock.now() + self._timeout
        registry = self._registry
        registry.shut(self._no_clients.set, self._all_delivered.set)
        clients = counted(len(registry), "client")
        logger.info("stopping within %g s: /readyz answers 503, %s to close", self._timeout, clients)
        await self._close_clients(self._timeout / 2)
        now = self._clock.now()
        await self._wait(self._no_clients, now + (deadline - now) / 2)
        self._drop_clients()
        if owed := len(registry) + len(registry.ending()):
            logger.info("stopping: the backend has to be told of the end of %s", counted(owed, "connection"))
        await self._wait(self._all_delivered, deadline)

    async def give_up(self, *, journaled: bool) -> bool:
        """Deliver nothing more. Log what was not delivered; return whether there is nothing of the kind.

        `journaled`: a DELETE that was not sent is not lost, as the next start sends it; messages are.
        """
        sessions = [*self._registry.live(), *self._registry.ending()]
        before_stop = {session: _undelivered_without_stop(session) for session in sessions}
        for session in sessions:
            session.abandon()
        await self._count_unread()
        incomplete = messages = 0
        for session, before in before_stop.items():
            lost = 0 if before is None else session.info.messages_undelivered - before
            if lost or not journaled:
                incomplete += 1
                messages += lost
                logger.error(
                    "%s: stopped before the backend was told of its end (%s lost)",
                    session.ws_uri,
                    counted(lost, "message"),
                )
        if incomplete:
            of = counted(incomplete, "connection")
            logger.warning("stopping: %s of %s not delivered", counted(messages, "message"), of)
        if sessions and journaled:
            owed = counted(len(sessions), "connection")
            logger.warning("the backend is told of the end of %s at the next start", owed)
        return not incomplete

    async def _close_clients(self, within: float) -> None:
        """Send each client its Close, spread so that they do not all come back at once."""
        sessions = list(self._registry.live())
        gap = min(MAX_CLOSE_INTERVAL_S, within / max(1, len(sessions)))
        due = self._clock.now()
        for session in sessions:
            session.close(Reason.SHUTDOWN)
            due += gap
            if due > self._clock.now():
                await self._wait(self._hurry, due)

    def _drop_clients(self) -> None:
        """Disconnect clients that do not answer their Close. The Close of one that is not read may be on its way."""
        for session in list(self._registry.live()):
            if not session.outbox.backlogged:
                session.connection.close_gracefully()

    async def _count_unread(self) -> None:
        """Let sessions that deliver nothing more read what their clients sent: they count it."""
        end = self._clock.now() + COUNTING_S
        await self._wait(self._no_clients, end)
        for session in list(self._registry.live()):
            session.connection.close_gracefully()
        # No event tells of it, and it happens once in the life of a node.
        while self._clock.now() < end and any(  # noqa: ASYNC110
            each.state is DISCONNECTED for each in self._registry.ending()
        ):
            await asyncio.sleep(POLL_S)

    async def _wait(self, event: asyncio.Event, deadline: float) -> None:
        """Wait for `event`, for `hurry`, or until `deadline`."""
        waits = [asyncio.ensure_future(each.wait()) for each in {event, self._hurry}]
        seconds = max(0.0, deadline - self._clock.now())
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def _undelivered_without_stop(session: Session) -> int | None:
    """Return how many messages were given up before the stop; None when those that follow would be too."""
    return None if session.discards_messages else session.info.messages_undelivered
