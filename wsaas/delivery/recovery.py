"""Sends the DELETEs that an earlier process left behind, and retries failed ones."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, cast

from wsaas.clock import Timer
from wsaas.delivery.circuit_breaker import OPEN
from wsaas.delivery.event_bodies import stored_disconnect_body
from wsaas.delivery.event_delivery import NO_LISTENER, OutboxListener
from wsaas.delivery.failure_report import log_lost_disconnect
from wsaas.delivery.journal import Entry
from wsaas.delivery.outbox import Outbox
from wsaas.delivery.services import DeliveryServices
from wsaas.delivery.webhook import Subject
from wsaas.events import Closed, Disconnect
from wsaas.log import about, logger
from wsaas.log.throttle import throttle
from wsaas.log.wording import counted
from wsaas.reason import Reason

MAX_UNDER_WAY: Final = 16
"""Maximum number of concurrent DELETEs: they must not hold up the requests of connected clients."""

RETRY_INTERVAL_S: Final = 60.0
"""Seconds between two attempts of a DELETE that was given up."""

MAX_OWED: Final = 10_000
"""Maximum number of DELETEs that this process retries after giving them up; others wait for the next start."""


class _Orphan(OutboxListener):
    """A connection whose session has finished, or was lost with an earlier process.

    `is_retried`: the DELETE is retried like that of a session; otherwise it is attempted once.
    """

    def __init__(self, services: DeliveryServices, entry: Entry, recovery: "Recovery", *, is_retried: bool) -> None:
        """Prepare the DELETE of `entry`; `start` sends it."""
        self.entry = entry
        self._is_retried = is_retried
        self._recovery = recovery
        self._services = services
        subject = Subject(entry.id, entry.node, entry.authorization, entry.context, entry.trace)
        self.outbox = Outbox(services, subject, self)

    def start(self, now: float) -> None:
        """Send the DELETE. Its time is that of an earlier attempt or else `now`, in seconds since the epoch."""
        ended_at = self.entry.ended_at
        self.outbox.put(Closed(now if ended_at is None else ended_at))

    def disconnecting(self, closed: Closed) -> None:
        """Reuse the journaled body; otherwise report `gateway lost`."""
        entry = self.entry
        if entry.disconnect_body is not None:
            closed.disconnect = entry.disconnect_body
            return
        closed.disconnect = gateway_lost(entry, closed.at)
        # A connection that has a body was counted by the process that it ended in.
        self._services.counters.closed[Reason.GATEWAY_LOST] += 1

    def disconnect_delayed(self) -> None:
        """Postpone the DELETE if it is to be attempted only once."""
        late = cast(Closed, self.outbox.late)
        # Another outbox may make the next attempt, and must send the same bytes.
        self.entry.ended_at, self.entry.disconnect_body = late.at, stored_disconnect_body(late)
        if not (self._is_retried or self.outbox.untried):
            self._recovery.postpone(self)

    def disconnect_delivered(self) -> None:
        """Let the next DELETE follow."""
        self._recovery.delivered(self)

    def disconnect_failed(self, why: str) -> None:
        """Postpone the DELETE."""
        log_lost_disconnect(self.entry.ws_uri, why, is_repeated=True)
        self._recovery.postpone(self)


class Recovery:
    """Sends pending DELETEs, `MAX_UNDER_WAY` at a time, and retries failed ones later."""

    def __init__(self, services: DeliveryServices, entries: Iterable[Entry] = ()) -> None:
        """Prepare the DELETEs of `entries`, which an earlier process left; `start` sends them."""
        self._services = services
        self._waiting = deque(entries)
        self._given_up: deque[Entry] = deque()
        self._due: deque[Entry] = deque()
        self._under_way: dict[str, _Orphan] = {}
        self._timer: Timer | None = None
        self._is_sending = False
        self._is_stopped = False

    def __len__(self) -> int:
        """Return how many DELETEs are waiting or under way, not counting failed ones."""
        return len(self._waiting) + len(self._under_way)

    @property
    def pending(self) -> int:
        """How many DELETEs are not acknowledged yet, including failed ones."""
        return len(self) + len(self._due) + len(self._given_up)

    def entries(self) -> list[Entry]:
        """Return the entries of all pending DELETEs."""
        return [*self._waiting, *(each.entry for each in self._under_way.values()), *self._due, *self._given_up]

    def add(self, entries: Iterable[Entry]) -> None:
        """Add the `entries` that an earlier process left; their DELETEs are sent from `start` on."""
        self._waiting.extend(entries)

    def find(self, connection_id: str) -> Entry | None:
        """Return the entry of a connection whose DELETE is under way."""
        orphan = self._under_way.get(connection_id)
        return None if orphan is None else orphan.entry

    def adopt(self, entries: Iterable[Entry]) -> None:
        """Send the DELETEs of `entries`, which a dead process left. Those that are known already are ignored."""
        known = {entry.id for entry in self.entries()}
        self._waiting.extend(entry for entry in entries if entry.id not in known)
        self._send_more()

    def forget(self, is_foreign: Callable[[Entry], bool]) -> list[Entry]:
        """Do not send the DELETEs of the entries for which `is_foreign` returns True; return these entries."""
        forgotten = [entry for entry in self.entries() if is_foreign(entry)]
        for entries in (self._waiting, self._due, self._given_up):
            kept = [entry for entry in entries if not is_foreign(entry)]
            entries.clear()
            entries.extend(kept)
        for entry in forgotten:
            if (orphan := self._under_way.pop(entry.id, None)) is not None:
                orphan.outbox.abandon()
        self._send_more()
        return forgotten

    def keep(self, entry: Entry) -> None:
        """Retry the DELETE of `entry`, which is in the journal, every `RETRY_INTERVAL_S` seconds."""
        if len(self._given_up) + len(self._due) < MAX_OWED:
            self._given_up.append(entry)
            self._retry_later()
        else:
            message = "%(ws_uri)s: its DELETE is sent at the next start"
            throttle.warning("at next start", message, about(entry.ws_uri))

    def start(self) -> None:
        """Start sending."""
        if self._waiting:
            logger.info("an earlier process left %s: sending the DELETEs", counted(len(self._waiting), "connection"))
        self._send_more()

    def stop(self) -> None:
        """Stop sending: the pending DELETEs stay in the journal."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for orphan in self._under_way.values():
            orphan.outbox.abandon()
        for entries in (self._waiting, self._due, self._given_up):
            entries.clear()
        self._under_way.clear()

    def delivered(self, orphan: _Orphan) -> None:
        """The backend acknowledged the DELETE of `orphan`."""
        self._done(orphan)

    def postpone(self, orphan: _Orphan) -> None:
        """Send the DELETE of `orphan` again later."""
        orphan.outbox.abandon()
        self.keep(orphan.entry)
        self._done(orphan)

    def _done(self, orphan: _Orphan) -> None:
        del self._under_way[orphan.entry.id]
        orphan.outbox.listener = NO_LISTENER
        self._send_more()
        if not (self._under_way or self._waiting or self._due or self._given_up):
            logger.info("all pending DELETEs are delivered")

    def _retry_later(self) -> None:
        if self._timer is None and not self._is_stopped:
            self._timer = self._services.clock.call_later(RETRY_INTERVAL_S, self._retry)

    def _retry(self) -> None:
        self._timer = None
        self._due.extend(self._given_up)
        self._given_up.clear()
        due = counted(len(self._due), "DELETE")
        logger.warning("retrying %s that failed before", due)
        self._send_more()

    def _send_more(self) -> None:
        if self._is_sending:
            # Called while an orphan is being started: the loop below continues.
            return
        self._is_sending = True
        try:
            while len(self._under_way) < MAX_UNDER_WAY and (entry := self._next()):
                self._send(_Orphan(self._services, entry[0], self, is_retried=entry[1]))
        finally:
            self._is_sending = False
        if self._due:
            self._retry_later()

    def _send(self, orphan: _Orphan) -> None:
        entry = orphan.entry
        self._under_way[entry.id] = orphan
        try:
            orphan.start(self._services.clock.wall())
        except Exception:  # noqa: BLE001 - one DELETE must not hold up the others
            logger.exception("%s: its DELETE cannot be sent; trying again in %d s", entry.ws_uri, RETRY_INTERVAL_S)
            if entry.id in self._under_way:
                self.postpone(orphan)

    def _next(self) -> tuple[Entry, bool] | None:
        """Return the entry whose DELETE is next, and whether it is retried like that of a session."""
        if self._waiting:
            return self._waiting.popleft(), True
        if self._due and self._services.webhook.breaker.state is not OPEN:
            return self._due.popleft(), False
        return None


def gateway_lost(entry: Entry, now: float) -> Disconnect:
    """Return the content of the DELETE of a connection that was lost with its process.

    `now`: seconds since the epoch. The duration is an upper bound.
    """
    duration_ms = max(0, round((now - entry.connected_at) * 1000))
    return Disconnect(entry.ws_uri, Reason.GATEWAY_LOST.code, Reason.GATEWAY_LOST.value, duration_ms)
