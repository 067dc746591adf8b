"""Groups of clients: which clients are members of which group.

A group exists while it has members. Membership lives with the process that holds the client's connection, and ends with
the connection.
"""

from collections.abc import Iterable
from typing import Final, Generic

from wsaas.errors import TooManyGroups
from wsaas.log.wording import counted
from wsaas.sessions.group import Group, GroupMembership, Member
from wsaas.sessions.split_dict import MASK, SplitDict, split_dict

_NONE: Final[dict[str, GroupMembership]] = {}
"""The memberships of a client that is in no group. It stays empty."""


class Groups(Generic[Member]):
    """The members of each group and, the other way round, the groups of each member.

    `limit`: groups that one client may be in (`MAX_GROUPS`). A client that is in no group takes no memory here.
    """

    __slots__ = ("_groups", "_joined", "_memberships", "limit")

    def __init__(self, limit: int) -> None:
        """Let a client be in at most `limit` groups."""
        self.limit = limit
        self._groups: SplitDict[Group[Member]] = split_dict()
        self._joined = 0
        # By the id of a client, then by group.
        self._memberships: SplitDict[dict[str, GroupMembership]] = split_dict()

    def group(self, name: str) -> Group[Member]:
        """Return the group `name`, which has its members; one without members if there is none."""
        return self._groups[hash(name) & MASK].get(name) or Group(name, self._memberships)

    def names(self, member_id: str) -> list[str]:
        """Return the groups of a client, in the order in which it joined them."""
        return [*self._of(member_id)]

    def has(self, member_id: str, name: str) -> bool:
        """Return whether a client is a member of the group `name`."""
        return name in self._of(member_id)

    def join(self, member: Member, name: str) -> None:
        """Add `member` to the group `name`; harmless when it is a member. Raises `TooManyGroups`."""
        member_id = member.id
        clients = self._memberships[hash(member_id) & MASK]
        memberships = clients.get(member_id, _NONE)
        if name in memberships:
            return
        if len(memberships) >= self.limit:
            limit = counted(self.limit, "group")
            raise TooManyGroups(f"This connection is in {limit} already, as many as MAX_GROUPS allows.")
        if not memberships:
            clients[member_id] = memberships = {}
        groups = self._groups[hash(name) & MASK]
        group = groups.get(name)
        if group is None:
            group = groups[name] = Group(name, self._memberships)
        self._joined += 1
        memberships[name] = group.add(member, self._joined)

    def leave(self, member_id: str, name: str) -> None:
        """Remove a client from the group `name`; harmless when it is not a member."""
        memberships = self._of(member_id)
        if name in memberships:
            membership = memberships.pop(name)
            if not memberships:
                del self._memberships[hash(member_id) & MASK][member_id]
            self._remove(member_id, name, membership)

    def change(self, member: Member, join: Iterable[str], leave: Iterable[str]) -> None:
        """Let a client join groups, then leave others. Raises `TooManyGroups`."""
        for name in join:
            self.join(member, name)
        for name in leave:
            self.leave(member.id, name)

    def leave_all(self, member_id: str) -> None:
        """Remove a client from all its groups."""
        memberships = self._memberships[hash(member_id) & MASK].pop(member_id, None)
        if memberships is not None:
            for name, membership in memberships.items():
                self._remove(member_id, name, membership)

    def settle(self, member_id: str) -> None:
        """Bring the counters of a client up to date (see `Group`)."""
        for name, membership in self._of(member_id).items():
            self._groups[hash(name) & MASK][name].settle(member_id, membership)

    def _of(self, member_id: str) -> dict[str, GroupMembership]:
        """Return the memberships of a client, by group."""
        return self._memberships[hash(member_id) & MASK].get(member_id, _NONE)

    def _remove(self, member_id: str, name: str, membership: GroupMembership) -> None:
        groups = self._groups[hash(name) & MASK]
        if not groups[name].remove(member_id, membership):
            del groups[name]
