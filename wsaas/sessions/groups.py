"""Groups of clients: which clients are members of which group.

A group exists while it has members. Membership lives with the process that holds the client's connection, and ends with
the connection.
"""

from collections.abc import Collection
from typing import Generic, Protocol, TypeVar

from wsaas.errors import TooManyGroups


class HasId(Protocol):
    """A client that can be a member."""

    @property
    def id(self) -> str:
        """The connection's id."""


Member = TypeVar("Member", bound=HasId)


class Groups(Generic[Member]):
    """The members of each group and, the other way round, the groups of each member.

    `limit`: groups that one client may be in (`MAX_GROUPS`). A client that is in no group takes no memory here.
    """

    __slots__ = ("_joined", "_members", "_names", "limit")

    def __init__(self, limit: int) -> None:
        """Let a client be in at most `limit` groups."""
        self.limit = limit
        self._joined = 0
        self._members: dict[str, dict[str, Member]] = {}
        # By the id of a client, then by group: the number of the join.
        self._names: dict[str, dict[str, int]] = {}

    def members(self, name: str) -> Collection[Member]:
        """Return the members of the group `name`, in the order in which they joined. Changes when they do."""
        group = self._members.get(name)
        return () if group is None else group.values()

    def names(self, member_id: str) -> list[str]:
        """Return the groups of a client, in the order in which it joined them."""
        return list(self._names.get(member_id, ()))

    def order(self, member_id: str, name: str) -> int:
        """Return a number of a member of the group `name` that is higher for those who joined later, never 0."""
        return self._names[member_id][name]

    def join(self, member: Member, name: str) -> None:
        """Add `member` to the group `name`; harmless when it is a member. Raises `TooManyGroups`."""
        names = self._names.get(member.id, {})
        if name in names:
            return
        if len(names) >= self.limit:
            raise TooManyGroups(f"This connection is in {self.limit} groups already, as many as MAX_GROUPS allows.")
        self._joined += 1
        names[name] = self._joined
        self._names[member.id] = names
        self._members.setdefault(name, {})[member.id] = member

    def leave(self, member_id: str, name: str) -> None:
        """Remove a client from the group `name`; harmless when it is not a member."""
        names = self._names.get(member_id)
        if names is not None and name in names:
            del names[name]
            if not names:
                del self._names[member_id]
            self._remove(member_id, name)

    def leave_all(self, member_id: str) -> None:
        """Remove a client from all its groups."""
        for name in self._names.pop(member_id, ()):
            self._remove(member_id, name)

    def _remove(self, member_id: str, name: str) -> None:
        group = self._members[name]
        del group[member_id]
        if not group:
            del self._members[name]
