"""All sessions of this process, by connection id."""

import os
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from typing import Final

from wsaas import errors
from wsaas.access import address_block
from wsaas.clock import Clock
from wsaas.delivery.journal import Entry, Journal
from wsaas.delivery.webhook import Webhook
from wsaas.errors import RETRY_AFTER
from wsaas.memory.limit import NO_MEMORY_LIMIT, REFUSING, MemoryLimit
from wsaas.sessions.address_limit import AddressLimit, SharedAddressLimit
from wsaas.sessions.client_limit import ClientLimit, SharedClientLimit
from wsaas.sessions.connection_info import ConnectionInfo
from wsaas.sessions.groups import Groups
from wsaas.sessions.heartbeat_session import HeartbeatSession
from wsaas.sessions.opening_handshake import OpeningHandshake
from wsaas.sessions.ports import PendingClient
from wsaas.sessions.session import Services, Session
from wsaas.sessions.session_table import SessionTable
from wsaas.settings import Settings
from wsaas.shared_counts import SharedCounts
from wsaas.websocket.handshake import Handshake

PREFIX_LENGTH: Final = 8
"""Characters at the start of an id, the same in all ids of one process. A multiple of 4, as base64 needs no padding
then."""

RANDOM_LENGTH: Final = 22
"""Characters of an id behind the prefix. Each has six random bits, so an id can be neither guessed nor repeated."""

IDS_PER_BATCH: Final = 64
"""Ids generated at a time, as random bytes cost a system call. A multiple of 4, so that base64 needs no padding."""

ID_LENGTH: Final = PREFIX_LENGTH + RANDOM_LENGTH

ID_FORM: Final = re.compile(r"[A-Za-z0-9_-]{30}")

MAX_SHARED_TEXTS: Final = 1024
MAX_SHARED_TEXT: Final = 256
"""Addresses and paths that are remembered, and the characters of the longest one. The clients that have the same share
one object of 64 bytes or more. When there are more, all are forgotten: clients that have them still share them."""

MAX_PASSED: Final = 1000
"""Sessions that are looked at for one part of a page. Where many are left out, the page gets several parts."""

PushRecorder = Callable[[str, int, str], None]
"""Called with the method of a request for a `ws_uri`, and the status and code of its answer."""


class Registry:
    """The sessions: live ones until their client disconnects, then ending ones until their outbox is done.

    `prefix`: the first characters of every id. They tell apart the processes that hold connections.
    """

    def __init__(  # noqa: PLR0913 - the parts that all sessions share come together here
        self,
        settings: Settings,
        clock: Clock,
        webhook: Webhook,
        journal: Journal,
        limit: int,
        *,
        memory: MemoryLimit = NO_MEMORY_LIMIT,
        shared: SharedCounts | None = None,
    ) -> None:
        """Start empty and open; admit at most `limit` clients, and none while `memory` refuses them.

        `shared`: the counts of all workers, to which the limits in `settings` then apply.
        """
        self.groups: Groups[Session] = Groups(settings.max_groups)
        self.services = Services(
            settings, clock, webhook, journal, self, self.groups, memory, counters=webhook.counters
        )
        self._limit = ClientLimit(limit)
        self._limit_ending = settings.max_owed_disconnects
        self.addresses = AddressLimit(settings.max_connections_per_address)
        if shared is not None and settings.max_connections:
            self._limit = SharedClientLimit(limit, settings.max_connections, shared)
        if shared is not None and settings.max_connections_per_address:
            self.addresses = SharedAddressLimit(settings.max_connections_per_address, shared)
        self._count = 0
        self._ids: list[str] = []
        self._ended_count = 0
        self.prefix = draw_prefix()
        self.node = settings.ws_hostname.text
        self.started_at = clock.wall()
        self.open_handshake: Callable[[Services, Session, Handshake, PendingClient], OpeningHandshake] = (
            OpeningHandshake
        )
        """Makes the opening handshake of a new session. Replaced while the next handshakes are watched."""
        self.push_recorders: dict[str, PushRecorder] = {}
        """What records requests for the `ws_uri` of watched connections, by id. Pushes that were sent are seen where
        their frames are written."""
        self.is_paused = False
        """Whether no client is admitted for the moment."""
        self._live = SessionTable()
        self._ending = SessionTable()
        self.find: Callable[[str], Session | None] = self._live.find
        """Returns the session of a connected client, None for any other id. Every push calls it."""
        self._texts: dict[str, str] = {}
        self._on_no_clients: Callable[[], None] | None = None
        self._on_all_finished: Callable[[], None] | None = None
        self.on_disconnect_failed: Callable[[Entry], object] = _drop_entry
        """Called with the entry of a connection whose DELETE was given up."""

    def __len__(self) -> int:
        """Return the number of clients, including clients that wait for the backend's decision."""
        return len(self._live)

    @property
    def is_open(self) -> bool:
        """Whether clients are admitted: until `close`."""
        return self._on_all_finished is None

    @property
    def clients_limit(self) -> float:
        """How many clients this process may have."""
        return self._limit.share

    def check_admission(self, remote_address: str, own: int = 0) -> None:
        """Raise `Unavailable` if no client can be admitted, `TooManyRequests` if none from `remote_address` can.

        The limit by address does not apply if `remote_address` is empty (not known). `own`: how many of the connections
        that are counted for this address belong to the client itself.
        """
        if not self.is_open:
            raise errors.Unavailable("This node is shutting down.", RETRY_AFTER)
        if self.is_paused:
            raise errors.Unavailable("This node has to join its cluster again.", RETRY_AFTER)
        if self._limit.is_reached(len(self._live)):
            raise errors.Unavailable("This node has reached its limit of clients.", RETRY_AFTER)
        if self.services.memory.pressure is REFUSING:
            raise errors.Unavailable("This node has no memory left for further clients.", RETRY_AFTER)
        if len(self._ending) >= self._limit_ending:
            raise errors.Unavailable("Too many DELETEs to the backend are pending.", RETRY_AFTER)
        if self.addresses.limit and remote_address and self.addresses.is_reached(address_block(remote_address), own):
            raise errors.TooManyRequests("This address has reached its limit of connections.", RETRY_AFTER)

    def register(self, handshake: Handshake, remote_address: str) -> Session:
        """Return a new session for the client.

        Call `check_admission` before, and start an `OpeningHandshake` for the session afterwards.
        """
        connection_id = self._new_id()
        self._count += 1
        texts = self._texts
        if len(texts) >= MAX_SHARED_TEXTS:
            texts.clear()
        address = texts.setdefault(remote_address, remote_address)
        info = ConnectionInfo(connection_id, self.node, handshake, address, self.services.clock)
        if len(handshake.path) <= MAX_SHARED_TEXT:
            info.path = texts.setdefault(handshake.path, handshake.path)
        info.order = self._count
        if (heartbeat := self.services.settings.heartbeat) is None:
            session = Session(self.services, info, handshake)
        else:
            session = HeartbeatSession(self.services, info, handshake, heartbeat)
        if self.addresses.limit and remote_address:
            self.addresses.add(address_block(remote_address))
        self._live.add(session)
        self._limit.changed(len(self._live))
        return session

    def _new_id(self) -> str:
        """Return an id that cannot be guessed."""
        if not self._ids:
            text = _random_text(RANDOM_LENGTH * IDS_PER_BATCH)
            self._ids = [text[start : start + RANDOM_LENGTH] for start in range(0, len(text), RANDOM_LENGTH)]
        return self.prefix + self._ids.pop()

    def close(self, on_no_clients: Callable[[], None], on_all_finished: Callable[[], None]) -> None:
        """Admit no more clients.

        Call `on_no_clients` as soon as all clients have disconnected, and `on_all_finished` as soon as their sessions
        have finished as well.
        """
        self._on_no_clients, self._on_all_finished = on_no_clients, on_all_finished
        for session in self._ending:
            session.outbox.skip_delay()
        self._report_empty()

    def remembered(self, connection_id: str) -> Session | None:
        """Return the session with an id, also if its client has disconnected; None if it has finished."""
        return self._live.find(connection_id) or self._ending.find(connection_id)

    def record_push(self, connection_id: str, method: str, status: int, code: str) -> None:
        """Report a request for a `ws_uri` if the connection is watched."""
        recorder = self.push_recorders.get(connection_id)
        if recorder is not None:
            recorder(method, status, code)

    def change_prefix(self) -> None:
        """Use another prefix for the ids of later connections, as if they were held by another process."""
        self.prefix = draw_prefix()

    def live(self) -> SessionTable:
        """Return the sessions of the connected clients, oldest first."""
        return self._live

    def disconnect_failed(self, session: Session) -> None:
        """Pass on the entry of `session`, whose DELETE was given up."""
        self.on_disconnect_failed(session.entry())

    def ending(self) -> SessionTable:
        """Return the sessions that still deliver events of a disconnected client, in the order of the disconnects."""
        return self._ending

    def client_disconnected(self, session: Session) -> None:
        """Move `session` from the live ones to the ending ones."""
        self._live.remove(session)
        self._limit.changed(len(self._live))
        self.groups.leave_all(session.info.id)
        if self.addresses.limit and session.info.remote_address:
            self.addresses.remove(address_block(session.info.remote_address))
        self._ended_count += 1
        session.info.order = self._ended_count
        self._ending.add(session)
        self._report_empty()

    def session_finished(self, session: Session) -> None:
        """Forget `session`."""
        self._ending.remove(session)
        self._report_empty()

    def _report_empty(self) -> None:
        if self._on_no_clients is not None and not self._live:
            self._on_no_clients()
        if self._on_all_finished is not None and not self._live and not self._ending:
            self._on_all_finished()


def page(sessions: Iterable[Session], limit: int, before: float) -> tuple[list[Session], Session | None]:
    """Return up to `limit` of `sessions`, and the session behind which there may be more; None at their end.

    Not more than `MAX_PASSED` are looked at. `before`: clients that connected at this time (seconds since the epoch) or
    later are left out. So clients that come and go meanwhile do not move other sessions to another page.
    """
    found: list[Session] = []
    for count, session in enumerate(sessions, 1):
        # They are not sorted by this time, as the wall clock may have been set back.
        if session.info.connected_at < before:
            if len(found) == limit:
                return found, found[-1]
            found.append(session)
        if count == MAX_PASSED:
            return found, found[-1] if len(found) == limit else session
    return found, None


def draw_prefix() -> str:
    """Return a prefix for the ids of one process."""
    return _random_text(PREFIX_LENGTH)


def _random_text(length: int) -> str:
    """Return `length` random characters that may be part of a URL. `length`: a multiple of 4."""
    return urlsafe_b64encode(os.urandom(length * 3 // 4)).decode()


def _drop_entry(_entry: Entry) -> None:
    """Do nothing: without a journal, a DELETE that was given up is not sent again."""
