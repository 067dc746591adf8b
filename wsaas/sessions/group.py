"""One group of clients: its members, and the count of what was published to all of them."""

from collections.abc import Iterator
from typing import Final, Protocol, TypeVar

from wsaas.sessions.ordered_table import CHUNK, OrderedTable
from wsaas.sessions.split_dict import MASK, SplitDict


class SentCounter(Protocol):
    """Counts what was sent to a client."""

    def count_sent(self, messages: int, size: int) -> None:
        """Count messages that were sent to the client, `size` bytes in total. Negative numbers correct the count."""


class GroupMember(Protocol):
    """A client that can be a member."""

    @property
    def id(self) -> str:
        """The connection's id."""

    @property
    def info(self) -> SentCounter:
        """The counters of the connection."""


Member = TypeVar("Member", bound=GroupMember)


class GroupMembership:
    """The membership of one client in one group.

    `order`: the number of the join. `messages`, `size`: the totals of the group that the counters of the
    client include.
    """

    __slots__ = ("messages", "order", "size")

    def __init__(self, order: int, messages: int, size: int) -> None:
        """Begin with these totals, as a client that joins gets nothing of what was published before."""
        self.messages = messages
        self.order = order
        self.size = size


NONE_LEFT: Final[dict[str, int]] = {}
"""The members that left before a publish reached them, while none is under way. It stays empty."""


class Group(OrderedTable[Member]):
    """The members of a group, in the order in which they joined.

    A publish is counted once for all members when it begins. Counting each delivery would write to the memory of each
    client, which takes longer than everything else that Python does for a delivery. The counters of
    a client are brought up to date when they are read (`settle`), and when it leaves.

    While a publish is under way, it has reached the members up to a certain order. The counters of members behind that
    do not include it yet. Only one publish is under way at a time. `left`: the orders of the members that left before
    it reached them, by id. Those that it has read already still get the message, but it is not counted for them here.
    """

    __slots__ = (
        "_last",
        "_memberships",
        "_messages",
        "_name",
        "_newest_order",
        "_publish_size",
        "_reached",
        "_size",
        "left",
    )

    def __init__(self, name: str, memberships: SplitDict[dict[str, GroupMembership]]) -> None:
        """Start without members. `memberships`: of all clients, by their ids, then by group."""
        super().__init__()
        # The orders of the members that the publish has to reach: those after `_reached`, up to `_last`.
        self._last = 0
        self._reached = 0
        self._memberships = memberships
        self._messages = 0
        self._name = name
        self._newest_order = 0
        self._publish_size = 0
        self._size = 0
        self.left = NONE_LEFT

    # The members.

    def number(self, item: Member) -> int:
        """Return the order of a member, never 0."""
        return self._memberships[hash(item.id) & MASK][item.id][self._name].order

    def add(self, member: Member, order: int) -> GroupMembership:
        """Add `member`. `order`: higher than that of all members."""
        self._newest_order = order
        newest = self._newest
        if len(newest) == CHUNK:
            newest = self._begin_chunk()
        newest[member.id] = member
        return GroupMembership(order, self._messages, self._size)

    def remove(self, member_id: str, membership: GroupMembership) -> bool:
        """Remove a member, after its counters are brought up to date; return whether others are left."""
        # Usually there is nothing to settle, and no publish is under way.
        if self._last or membership.messages != self._messages:
            self.settle(member_id, membership)
            if self._is_ahead(membership):
                self.left[member_id] = membership.order
        newest = self._newest
        if member_id in newest:
            del newest[member_id]
        else:
            self._older.remove(member_id, membership.order)
        return bool(newest) or self._older.count > 0

    def settle(self, member_id: str, membership: GroupMembership) -> None:
        """Bring the counters of a member up to date."""
        messages, size = self._messages, self._size
        if self._is_ahead(membership):
            messages -= 1
            size -= self._publish_size
        if messages != membership.messages:
            member = self._newest.get(member_id) or self._older.find(member_id, membership.order)
            member.info.count_sent(messages - membership.messages, size - membership.size)
            membership.messages, membership.size = messages, size

    # The publish that is under way.

    def begin_publish(self, size: int) -> Iterator[Member]:
        """Count a message of `size` bytes for all members, and iterate over them. They are reached in this order."""
        self._last, self._reached = self._newest_order, 0
        self.left = {}
        self._messages += 1
        self._publish_size = size
        self._size += size
        return iter(self)

    def note_reached(self, member_id: str) -> None:
        """Note that all members up to this one had their turn, at the end of a slice and before it is closed."""
        order = self.left.get(member_id)
        if order is None:
            memberships = self._memberships[hash(member_id) & MASK].get(member_id)
            membership = None if memberships is None else memberships.get(self._name)
            # A member that was closed was noted before that.
            order = membership.order if membership is not None else 0
        self._reached = max(self._reached, order)

    def end_publish(self) -> None:
        """Note that all members had their turn."""
        self._last = 0
        self.left = NONE_LEFT

    def _is_ahead(self, membership: GroupMembership) -> bool:
        """Return whether the publish has yet to reach a member."""
        return self._reached < membership.order <= self._last
