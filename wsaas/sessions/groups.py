"""Groups of clients: which clients are members of which group.

A group exists while it has members. Membership lives with the process that holds the client's connection, and ends with
the connection.
"""

from collections.abc import Collection, Iterable
from typing import Generic

from wsaas.errors import TooManyGroups
from wsaas.log.wording import counted
from wsaas.sessions.group import Group, GroupMembership, Member


class Groups(Generic[Member]):
    """The members of each group and, the other way round, the groups of each member.

    `limit`: groups that one client may be in (`MAX_GROUPS`). A client that is in no group takes no memory here.
    """

    __slots__ = ("_groups", "_joined", "_memberships", "limit")

    def __init__(self, limit: int) -> None:
        """Let a client be in at most `limit` groups."""
        self.limit = limit
        self._groups: dict[str, Group[Member]] = {}
        self._joined = 0
        # By the id of a client, then by group.
        self._memberships: dict[str, dict[str, GroupMembership]] = {}

    def group(self, name: str) -> Group[Member]:
        """Return the group `name`; one without members if there is none."""
        return self._groups.get(name) or Group(name, self._memberships)

    def members(self, name: str) -> Collection[Member]:
        """Return the members of the group `name`, in the order in which they joined. Changes when they do."""
        return self.group(name).members.values()

    def names(self, member_id: str) -> list[str]:
        """Return the groups of a client, in the order in which it joined them."""
        return list(self._memberships.get(member_id, ()))

    def order(self, member_id: str, name: str) -> int:
        """Return a number of a member of the group `name` that is higher for those who joined later, never 0."""
        return self._memberships[member_id][name].order

    def join(self, member: Member, name: str) -> None:
        """Add `member` to the group `name`; harmless when it is a member. Raises `TooManyGroups`."""
        memberships = self._memberships.get(member.id, {})
        if name in memberships:
            return
        if len(memberships) >= self.limit:
            groups = counted(self.limit, "group")
            raise TooManyGroups(f"This connection is in {groups} already, as many as MAX_GROUPS allows.")
        group = self._groups[name] = self.group(name)
        self._joined += 1
        memberships[name] = group.add(member, self._joined)
        self._memberships[member.id] = memberships

    def leave(self, member_id: str, name: str) -> None:
        """Remove a client from the group `name`; harmless when it is not a member."""
        memberships = self._memberships.get(member_id)
        if memberships is not None and name in memberships:
            membership = memberships.pop(name)
            if not memberships:
                del self._memberships[member_id]
            self._remove(member_id, name, membership)

    def change(self, member: Member, join: Iterable[str], leave: Iterable[str]) -> None:
        """Let a client join groups, then leave others. Raises `TooManyGroups`."""
        for name in join:
            self.join(member, name)
        for name in leave:
            self.leave(member.id, name)

    def leave_all(self, member_id: str) -> None:
        """Remove a client from all its groups."""
        for name, membership in self._memberships.pop(member_id, {}).items():
            self._remove(member_id, name, membership)

    def settle(self, member_id: str) -> None:
        """Bring the counters of a client up to date (see `Group`)."""
        for name, membership in self._memberships.get(member_id, {}).items():
            self._groups[name].settle(member_id, membership)

    def _remove(self, member_id: str, name: str, membership: GroupMembership) -> None:
        group = self._groups[name]
        group.remove(member_id, membership)
        if not group.members:
            del self._groups[name]
