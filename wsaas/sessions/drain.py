"""Stops a node: closes its clients, delivers the remaining events, and logs what was not delivered."""

import asyncio
from collections.abc import Callable
from typing import Final

from wsaas.clock import Clock
from wsaas.log import about, logger
from wsaas.log.wording import counted
from wsaas.reason import Reason
from wsaas.sessions.registry import Registry
from wsaas.sessions.session import Session
from wsaas.sessions.session_state import DISCONNECTED

MAX_CLOSE_INTERVAL_S: Final = 0.05
"""Maximum seconds between two Closes, so that a node with few clients stops early."""

COUNTING_S: Final = 1.0
"""Time limit, in seconds, for reading and counting messages that came too late to be delivered."""

POLL_S: Final = 0.005
"""Seconds between two checks whether all of these messages were read."""


class Drain:
    """Drains one node within `timeout` seconds; every wait ends early once `hurry` is set."""

    def __init__(
        self, registry: Registry, clock: Clock, timeout: float, hurry: asyncio.Event, recovered: Callable[[], int] = int
    ) -> None:
        """Prepare to drain the sessions of `registry`; `run` does it.

        `recovered` returns the number of other DELETEs to wait for.
        """
        self._clock = clock
        self._hurry = hurry
        self._no_clients, self._all_delivered = asyncio.Event(), asyncio.Event()
        self._recovered = recovered
        self._registry = registry
        self._timeout = timeout

    async def run(self) -> None:
        """Close the clients, and wait until all events are delivered, or for `timeout` seconds."""
        deadline = self._clock.now() + self._timeout
        registry = self._registry
        registry.close(self._no_clients.set, self._all_delivered.set)
        clients = counted(len(registry), "client")
        logger.info("stopping within %g s: /readyz answers 503, %s to close", self._timeout, clients)
        await self._close_clients(self._timeout / 2)
        now = self._clock.now()
        await self._wait(self._no_clients, now + (deadline - now) / 2)
        self._drop_clients()
        if owed := len(registry) + len(registry.ending()) + self._recovered():
            logger.info("stopping: %s to deliver", counted(owed, "DELETE"))
        await self._wait(self._all_delivered, deadline)
        # No event signals this, and it is rare: another worker ended just before the node was stopped.
        while self._recovered() and self._clock.now() < deadline and not self._hurry.is_set():  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)

    async def give_up(self, *, left_to: str) -> bool:
        """Deliver nothing more, and log what was not delivered; return whether everything was.

        `left_to`: who sends the DELETEs that were not delivered, for people; empty if nobody does. Messages are lost.
        """
        sessions = [*self._registry.live(), *self._registry.ending()]
        before_stop = {session: _undelivered_without_stop(session) for session in sessions}
        for session in sessions:
            session.abandon()
        await self._count_unread()
        incomplete = messages = 0
        for session, before in before_stop.items():
            lost = 0 if before is None else session.info.messages_undelivered - before
            if lost or not left_to:
                incomplete += 1
                messages += lost
                fields = about(session.ws_uri, lost=counted(lost, "message"))
                logger.error("%(ws_uri)s: stopped before the DELETE was delivered (%(lost)s lost)", fields)
        if incomplete:
            connections = counted(incomplete, "connection")
            logger.warning("stopping: %s of %s not delivered", counted(messages, "message"), connections)
        if sessions and left_to:
            owed = counted(len(sessions), "DELETE is", "DELETEs are")
            logger.warning("stopping: %s left for %s", owed, left_to)
        return not incomplete

    async def _close_clients(self, within: float) -> None:
        """Send each client a Close, spread over `within` seconds so that the clients do not all reconnect at once."""
        sessions = list(self._registry.live())
        gap = min(MAX_CLOSE_INTERVAL_S, within / max(1, len(sessions)))
        due = self._clock.now()
        for session in sessions:
            session.close(Reason.SHUTDOWN)
            due += gap
            if due > self._clock.now():
                await self._wait(self._hurry, due)

    def _drop_clients(self) -> None:
        """Disconnect clients that have not answered the Close, except paused ones: their answer may be unread."""
        for session in list(self._registry.live()):
            if not session.outbox.backlogged:
                session.connection.close_gracefully()

    async def _count_unread(self) -> None:
        """Wait until the abandoned sessions have read and counted the remaining messages of their clients."""
        end = self._clock.now() + COUNTING_S
        await self._wait(self._no_clients, end)
        for session in list(self._registry.live()):
            session.connection.close_gracefully()
        # No event signals this, and a node stops only once.
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
    """Return the number of messages given up so far; None if the session drops messages regardless of the stop."""
    return None if session.discards_messages else session.info.messages_undelivered
