"""Sessions by their ids, and in the order of their numbers."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import chain, dropwhile
from string import ascii_letters, digits
from typing import Final

from wsaas.sessions.session import Session

ID_ALPHABET: Final = f"{ascii_letters}{digits}-_"
"""The characters of an id."""

CHUNK: Final = 340
"""Consecutive numbers whose sessions share a dict: as many as fit in one of CPython's with a table of 512."""

_SHRINKING: Final = frozenset({42, 5})
"""Sizes of a dict of sessions at which it is copied when it gets smaller, as the copy has a smaller table."""


class SessionTable:
    """Sessions by id, and in the order of their numbers (`info.order`), which only grow.

    There are many small dicts, because a dict moves all entries when it grows. With 100,000 sessions in one, that would
    take 6 ms, and to copy them 2.4 ms more for each publish (`python -m benchmarks pauses`). One set of dicts is by the
    last character of the id, which is random. The other is by the number.

    Sessions may be added and removed during an iteration. It is over the sessions that were there when it began; those
    that are removed before their turn may be left out.
    """

    __slots__ = ("_by_id", "_chunks", "_count")

    def __init__(self) -> None:
        """Start empty."""
        self._by_id: dict[str, dict[str, Session]] = {character: {} for character in ID_ALPHABET}
        self._chunks: dict[int, dict[str, Session]] = {}
        self._count = 0

    def __len__(self) -> int:
        """Return the number of sessions."""
        return self._count

    def __iter__(self) -> Iterator[Session]:
        """Iterate in the order of the numbers."""
        return self.after(0)

    def find(self, session_id: str) -> Session | None:
        """Return the session with this id, None if there is none. Every push calls this."""
        try:
            return self._by_id[session_id[-1]].get(session_id)
        except (IndexError, KeyError):
            # Not the form of an id.
            return None

    def add(self, session: Session) -> None:
        """Add `session`, whose number is the highest so far."""
        info = session.info
        session_id = info.id
        self._by_id[session_id[-1]][session_id] = session
        self._chunks.setdefault(info.order // CHUNK, {})[session_id] = session
        self._count += 1

    def remove(self, session: Session) -> None:
        """Remove `session`, which still has the number that it was added with. Raises `KeyError` if it is not here."""
        info = session.info
        session_id, place = info.id, info.order // CHUNK
        del self._by_id[session_id[-1]][session_id]
        chunk = self._chunks[place]
        del chunk[session_id]
        self._count -= 1
        left = len(chunk)
        if not left:
            del self._chunks[place]
        elif left in _SHRINKING:
            self._chunks[place] = chunk.copy()

    def after(self, number: int) -> Iterator[Session]:
        """Iterate over the sessions with higher numbers than `number`, in their order."""
        places = [*self._chunks]
        places = places[bisect_left(places, number // CHUNK) :]
        if not places:
            return iter(())
        # Sessions that come later are in the last dict, or behind it.
        newest = self._chunk(places.pop())
        found = chain(chain.from_iterable(map(self._chunk, places)), newest)
        return dropwhile(lambda session: session.info.order <= number, found)

    def _chunk(self, place: int) -> list[Session]:
        """Return a copy of the sessions at `place`, as far as there are any left."""
        chunk = self._chunks.get(place)
        return [] if chunk is None else [*chunk.values()]
