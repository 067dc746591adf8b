"""Who is alive: the only owner of that fact."""

import re
import secrets
from collections.abc import Callable, ValuesView

from wsaas import errors
from wsaas.clock import Clock
from wsaas.handshake import Handshake
from wsaas.session import Door, Services, Session
from wsaas.settings import Settings
from wsaas.webhook import RETRY_AFTER, Webhook

ID_BYTES = 16
"""Random bytes of an id: 128 bits, so that nobody guesses one and none comes twice."""

ID_FORM = re.compile(r"[A-Za-z0-9_-]{22}")


class Registry:
    """The sessions by id while their clients are there, and those whose end the backend does not know yet."""

    def __init__(self, settings: Settings, clock: Clock, webhook: Webhook, limit: int) -> None:
        """Start empty and open; admit at most `limit` clients."""
        self._services = Services(settings, clock, webhook, self)
        self._limit = limit
        self._live: dict[str, Session] = {}
        self._ending: dict[str, Session] = {}
        self._emptied: Callable[[], None] | None = None

    def __len__(self) -> int:
        """Return how many clients there are, those that wait for the backend's word included."""
        return len(self._live)

    @property
    def is_open(self) -> bool:
        """Whether clients are taken."""
        return self._emptied is None

    def check(self) -> None:
        """Raise `Unavailable` when no more clients are taken."""
        if not self.is_open:
            raise errors.Unavailable("This node is about to stop.", RETRY_AFTER)
        if len(self._live) >= self._limit:
            raise errors.Unavailable("This node has as many clients as it takes.", RETRY_AFTER)

    def admit(self, handshake: Handshake, remote_address: str, door: Door) -> Session:
        """Give the client at `door` an id and ask the backend about it; `check` comes first."""
        connection_id = secrets.token_urlsafe(ID_BYTES)
        session = Session(self._services, connection_id, handshake, remote_address, door)
        self._live[connection_id] = session
        return session

    def shut(self, emptied: Callable[[], None]) -> None:
        """Take no more clients; call `emptied` as soon as there are none and the backend knows of the end of each."""
        self._emptied = emptied
        self._check()

    def find(self, connection_id: str) -> Session | None:
        """Return the session of a client that is there, None for any other id."""
        return self._live.get(connection_id)

    def live(self) -> ValuesView[Session]:
        """Return the sessions of the clients that are there, oldest first."""
        return self._live.values()

    def ending(self) -> ValuesView[Session]:
        """Return the sessions whose client is gone and whose end the backend does not know yet."""
        return self._ending.values()

    def left(self, session: Session) -> None:
        """The client of `session` is gone."""
        del self._live[session.id]
        self._ending[session.id] = session

    def settled(self, session: Session) -> None:
        """The backend knows of the end of `session`, or nothing more can be done about it."""
        del self._ending[session.id]
        self._check()

    def _check(self) -> None:
        if self._emptied is not None and not self._live and not self._ending:
            self._emptied()
