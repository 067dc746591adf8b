"""The DELETEs that an earlier process owed, or that this one gave up, sent beside normal service."""

from collections import deque
from collections.abc import Iterable
from typing import cast

from wsaas.clock import Timer
from wsaas.delivery.circuit_breaker import OPEN
from wsaas.delivery.event_bodies import stored_disconnect_body
from wsaas.delivery.event_delivery import NO_LISTENER, OutboxListener
from wsaas.delivery.failure_report import log_lost_disconnect
from wsaas.delivery.journal import Entry
from wsaas.delivery.outbox import Outbox
from wsaas.delivery.services import DeliveryServices
from wsaas.delivery.webhook import Subject
from wsaas.events import Closed, Disconnect, Reason
from wsaas.log import logger
from wsaas.log.throttle import throttle
from wsaas.log.wording import counted

MAX_UNDER_WAY = 16
"""DELETEs under way at a time: clients that connect now come first."""

RETRY_INTERVAL_S = 60.0
"""Seconds before each further attempt of a DELETE that was given up."""

MAX_OWED = 10_000
"""Most that are tried again before the next start: further ones are in the journal only."""


class _Orphan(OutboxListener):
    """A connection whose session, or whose gateway process, has ended.

    `is_retried`: the DELETE is retried as that of a session is; otherwise it is attempted once.
    """

    def __init__(self, services: DeliveryServices, entry: Entry, recovery: "Recovery", *, is_retried: bool) -> None:
        """Send nothing yet."""
        self.entry = entry
        self._is_retried = is_retried
        self._recovery = recovery
        subject = Subject(entry.id, entry.ws_uri, entry.authorization)
        if entry.context is not None:
            subject.set_context(entry.context)
        self.outbox = Outbox(services, subject, self)

    def start(self, now: float) -> None:
        """Send the DELETE. `now` (seconds since the epoch) is its time, unless it was sent before."""
        ended_at = self.entry.ended_at
        self.outbox.put(Closed(now if ended_at is None else ended_at))

    def disconnecting(self, closed: Closed) -> None:
        """Say what was said before; else what is still known."""
        entry = self.entry
        closed.disconnect = gateway_lost(entry, closed.at) if entry.disconnect_body is None else entry.disconnect_body

    def disconnect_delayed(self) -> None:
        """Put the DELETE off if it is to be attempted only once."""
        late = cast(Closed, self.outbox.late)
        # The next attempt may be that of another outbox, which has to send the same bytes.
        self.entry.ended_at, self.entry.disconnect_body = late.at, stored_disconnect_body(late)
        if not (self._is_retried or self.outbox.untried):
            self._recovery.postpone(self)

    def disconnect_delivered(self) -> None:
        """Go on with the next one."""
        self._recovery.delivered(self)

    def disconnect_failed(self, why: str) -> None:
        """Put the DELETE off."""
        log_lost_disconnect(self.entry.ws_uri, why, is_repeated=True)
        self._recovery.postpone(self)


class Recovery:
    """Sends the owed DELETEs, `MAX_UNDER_WAY` at a time. Those that are given up are tried again, at a slow pace."""

    def __init__(self, services: DeliveryServices, entries: Iterable[Entry] = ()) -> None:
        """Send nothing yet."""
        self._services = services
        self._waiting = deque(entries)
        self._given_up: deque[Entry] = deque()
        self._due: deque[Entry] = deque()
        self._under_way: set[_Orphan] = set()
        self._timer: Timer | None = None
        self._is_sending = False
        self._is_stopped = False

    def __len__(self) -> int:
        """Return how many DELETEs of an earlier process were neither delivered nor given up yet."""
        return len(self._waiting) + len(self._under_way)

    def entries(self) -> list[Entry]:
        """Return the entries of all DELETEs that are owed."""
        return [*self._waiting, *(each.entry for each in self._under_way), *self._due, *self._given_up]

    def add(self, entries: Iterable[Entry]) -> None:
        """Send `entries` too, which an earlier gateway left, from the start on."""
        self._waiting.extend(entries)

    def keep(self, entry: Entry) -> None:
        """Send the DELETE of `entry`, which was given up and is in the journal, every `RETRY_INTERVAL_S` seconds."""
        if len(self._given_up) + len(self._due) < MAX_OWED:
            self._given_up.append(entry)
            self._retry_later()
        else:
            throttle.warning("at next start", "%s: the backend is told of its end at the next start", entry.ws_uri)

    def start(self) -> None:
        """Start to send."""
        if self._waiting:
            logger.info("an earlier gateway left %s: telling the backend", counted(len(self._waiting), "connection"))
        self._send_more()

    def stop(self) -> None:
        """Send nothing any more: what is owed stays in the journal."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for orphan in self._under_way:
            orphan.outbox.abandon()
        for entries in (self._waiting, self._due, self._given_up):
            entries.clear()
        self._under_way.clear()

    def delivered(self, orphan: _Orphan) -> None:
        """The backend took the DELETE of `orphan`."""
        self._done(orphan)

    def postpone(self, orphan: _Orphan) -> None:
        """Send the DELETE of `orphan` again later."""
        orphan.outbox.abandon()
        self.keep(orphan.entry)
        self._done(orphan)

    def _done(self, orphan: _Orphan) -> None:
        self._under_way.remove(orphan)
        orphan.outbox.listener = NO_LISTENER
        self._send_more()
        if not (self._under_way or self._waiting or self._due or self._given_up):
            logger.info("all ended connections that the backend had still to be told of are dealt with")

    def _retry_later(self) -> None:
        if self._timer is None and not self._is_stopped:
            self._timer = self._services.clock.call_later(RETRY_INTERVAL_S, self._retry)

    def _retry(self) -> None:
        self._timer = None
        self._due.extend(self._given_up)
        self._given_up.clear()
        due = counted(len(self._due), "connection")
        logger.warning("the backend has still to be told of the end of %s: trying again", due)
        self._send_more()

    def _send_more(self) -> None:
        if self._is_sending:
            # One that was started is done already.
            return
        self._is_sending = True
        while len(self._under_way) < MAX_UNDER_WAY and (entry := self._next()):
            orphan = _Orphan(self._services, entry[0], self, is_retried=entry[1])
            self._under_way.add(orphan)
            orphan.start(self._services.clock.wall())
        self._is_sending = False
        if self._due:
            self._retry_later()

    def _next(self) -> tuple[Entry, bool] | None:
        """Return what is next, and whether it is retried as that of a session is."""
        if self._waiting:
            return self._waiting.popleft(), True
        if self._due and self._services.webhook.breaker.state is not OPEN:
            return self._due.popleft(), False
        return None


def gateway_lost(entry: Entry, now: float) -> Disconnect:
    """Return how a connection ended that was lost with its gateway, which is found out `now` (seconds since the epoch).

    Its duration is what it can have been at most.
    """
    duration_ms = max(0, round((now - entry.connected_at) * 1000))
    return Disconnect(entry.ws_uri, Reason.GATEWAY_LOST.code, Reason.GATEWAY_LOST.value, duration_ms)
