"""What the REST API of Azure Web PubSub does to the clients of a group, besides publishing and closing."""

from collections.abc import Callable, Iterator

from wsaas.counters import Counters
from wsaas.errors import TooManyGroups
from wsaas.sessions.fan_out import FanOut, Summary
from wsaas.sessions.group import Group
from wsaas.sessions.groups import Groups
from wsaas.sessions.session import Session


class Counting(FanOut):
    """Counts the clients that `find` returns."""

    __slots__ = ("_find", "_members")

    def __init__(self, find: Callable[[], Group[Session]]) -> None:
        """Count nothing yet."""
        super().__init__()
        self._find = find
        self._members = 0

    def advance(self, timer: Callable[[], float], end: float) -> bool:  # noqa: ARG002 - it takes no time
        """Count."""
        self._members = len(self._find())
        return True

    def count(self, counters: Counters) -> None:
        """Count nothing: nothing is done."""

    def summary(self) -> Summary:
        """Return the number."""
        return {"members": self._members}


class Joining(FanOut):
    """Adds the clients that `find` returns to a group. `full`: how many are in too many groups."""

    __slots__ = ("_find", "_full", "_groups", "_members", "_name", "_pending")

    def __init__(self, find: Callable[[], Group[Session]], groups: Groups[Session], name: str) -> None:
        """Add them to the group `name` of `groups`."""
        super().__init__()
        self._find = find
        self._full = 0
        self._groups = groups
        self._members = 0
        self._name = name
        self._pending: Iterator[Session] | None = None

    def advance(self, timer: Callable[[], float], end: float) -> bool:
        """Add the next clients."""
        if self._pending is None:
            self._pending = iter(self._find())
        for session in self._pending:
            self._members += 1
            try:
                self._groups.join(session, self._name)
            except TooManyGroups:
                self._full += 1
            if timer() >= end:
                return False
        return True

    def count(self, counters: Counters) -> None:
        """Count nothing."""

    def summary(self) -> Summary:
        """Return the numbers."""
        return {"members": self._members, "full": self._full}


class Leaving(FanOut):
    """Removes the clients that `find` returns from those of their groups that `is_left`."""

    __slots__ = ("_find", "_groups", "_is_left", "_members", "_pending")

    def __init__(
        self, find: Callable[[], Group[Session]], groups: Groups[Session], is_left: Callable[[str], bool]
    ) -> None:
        """Remove them from groups of `groups`."""
        super().__init__()
        self._find = find
        self._groups = groups
        self._is_left = is_left
        self._members = 0
        self._pending: Iterator[Session] | None = None

    def advance(self, timer: Callable[[], float], end: float) -> bool:
        """Remove the next clients."""
        if self._pending is None:
            self._pending = iter(self._find())
        for session in self._pending:
            self._members += 1
            leave_groups(self._groups, session, self._is_left)
            if timer() >= end:
                return False
        return True

    def count(self, counters: Counters) -> None:
        """Count nothing."""

    def summary(self) -> Summary:
        """Return the number of clients."""
        return {"members": self._members}


def leave_groups(groups: Groups[Session], session: Session, is_left: Callable[[str], bool]) -> None:
    """Remove a client from those of its groups that `is_left`."""
    for name in groups.names(session.id):
        if is_left(name):
            groups.leave(session.id, name)
