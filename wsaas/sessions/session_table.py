"""Sessions by their ids, and in the order of their numbers."""

from string import ascii_letters, digits
from typing import Final

from wsaas.sessions.ordered_table import CHUNK, OrderedTable
from wsaas.sessions.session import Session

ID_ALPHABET: Final = f"{ascii_letters}{digits}-_"
"""The characters of an id."""


class SessionTable(OrderedTable[Session]):
    """Sessions by id, and in the order of their numbers (`info.order`).

    The ids have dicts of their own, by the last character, which is random.
    """

    __slots__ = ("_by_id",)

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self._by_id: dict[str, dict[str, Session]] = {character: {} for character in ID_ALPHABET}

    def number(self, item: Session) -> int:
        """Return the number of a session."""
        return item.info.order

    def find(self, session_id: str) -> Session | None:
        """Return the session with this id, None if there is none. Every push calls this."""
        try:
            return self._by_id[session_id[-1]].get(session_id)
        except (IndexError, KeyError):
            # Not the form of an id.
            return None

    def add(self, session: Session) -> None:
        """Add `session`, whose number is the highest so far."""
        session_id = session.info.id
        self._by_id[session_id[-1]][session_id] = session
        newest = self._newest
        if len(newest) == CHUNK:
            newest = self._begin_chunk()
        newest[session_id] = session

    def remove(self, session: Session) -> None:
        """Remove `session`, which still has the number that it was added with. Raises `KeyError` if it is not here."""
        session_id = session.info.id
        del self._by_id[session_id[-1]][session_id]
        newest = self._newest
        if session_id in newest:
            del newest[session_id]
        else:
            self._older.remove(session_id, session.info.order)
