"""What this process knows of the others: members, leases and claims, from the bucket and from introductions."""

from collections.abc import Callable, Mapping
from typing import Final

from wsaas.log.throttle import throttle
from wsaas.membership.bucket import Entry
from wsaas.membership.member import Member, from_entry

MAX_MEMBERS: Final = 1024
"""Members beyond this number are ignored."""


class MemberTable:
    """The members but this process, which has the ids of `own`.

    `members`: those that may hold clients, by prefix. A member stays until it has left, or until somebody has claimed
    it: when its lease is over it may still be alive, and NATS may be what is in trouble.
    """

    def __init__(self, own: str) -> None:
        """Start empty."""
        self._claims: dict[str, str] = {}
        self._dead: set[str] = set()
        self._early_leases: dict[str, bytes] = {}
        self._introduced_at: dict[str, float] = {}
        self._known: dict[str, Member] = {}
        self.members: dict[str, Member] = {}
        self.on_members: Callable[[Mapping[str, Member]], None] = lambda _members: None
        """Called after each change of `members`."""
        self.on_own_claim: Callable[[], None] = lambda: None
        self.own = own

    def orphans(self) -> list[str]:
        """Return the prefixes of processes whose lease is over, and that nobody claims."""
        return [
            prefix
            for prefix, member in self._known.items()
            if prefix != self.own and not member.has_lease and prefix not in self._claims
        ]

    def expire(self, before: float) -> None:
        """Note that leases that were renewed `before` (monotonic seconds) are over.

        Usually NATS says so, but a message of it may be missed. Before it is claimed, NATS is asked.
        """
        for member in self._known.values():
            member.has_lease &= member.renewed_at >= before

    def introduce(self, data: bytes, now: float) -> None:
        """Add a member that says hello. Raises `ValueError` if `data` is malformed."""
        member = from_entry(data)
        self._introduced_at[member.prefix] = now
        if member.prefix not in self._known:
            member.renewed_at = now
            self._add(member)
        self._update()

    def set_entry(self, entry: Entry, now: float) -> None:
        """Take over a change of the bucket."""
        self._set(entry, now)
        self._update()

    def set_all(self, entries: Mapping[str, Entry], now: float, since: float) -> None:
        """Take over all that is in the bucket. What is missing was removed.

        `since`: when the entries began to be collected. Members that introduced themselves later may be missing.
        """
        for prefix in [*self._known]:
            if self._introduced_at.get(prefix, 0.0) < since:
                for kind in ("lease", "member"):
                    if f"{kind}.{prefix}" not in entries:
                        self._set(Entry(f"{kind}.{prefix}", None, 0), now)
        for prefix in [*self._claims]:
            if f"claim.{prefix}" not in entries:
                self._set(Entry(f"claim.{prefix}", None, 0), now)
        # A lease says nothing before its member is known.
        for entry in sorted(entries.values(), key=lambda each: not each.key.startswith("member.")):
            self._set(entry, now)
        self._update()

    def _set(self, entry: Entry, now: float) -> None:
        kind, _, prefix = entry.key.partition(".")
        try:
            if kind == "member":
                self._set_member(prefix, entry.value, now)
            elif kind == "lease":
                self._set_lease(prefix, entry.value, now)
            elif kind == "claim":
                self._set_claim(prefix, entry.value)
        except ValueError as error:
            throttle.warning(("NATS", kind), "ignored the entry %s in NATS: %s", entry.key, error)

    def _set_member(self, prefix: str, value: bytes | None, now: float) -> None:
        if value is None:
            self._known.pop(prefix, None)
            self._introduced_at.pop(prefix, None)
            self._dead.discard(prefix)
        elif prefix not in self._known:
            member = from_entry(value)
            if member.prefix != prefix:
                raise ValueError("it is about another process")
            self._add(member)
            # A process writes its lease first, so that it is never without one.
            lease = self._early_leases.pop(prefix, None)
            member.has_lease = lease is not None
            if lease is not None:
                member.renewed(lease, now)

    def _set_lease(self, prefix: str, value: bytes | None, now: float) -> None:
        member = self._known.get(prefix)
        if member is None:
            self._early_leases.pop(prefix, None)
            if value is not None and len(self._early_leases) < MAX_MEMBERS:
                self._early_leases[prefix] = value
        elif value is None:
            member.has_lease = False
        else:
            member.renewed(value, now)
            if prefix not in self._claims:
                self._dead.discard(prefix)

    def _set_claim(self, prefix: str, value: bytes | None) -> None:
        if value is None:
            self._claims.pop(prefix, None)
            return
        is_new = prefix not in self._claims
        self._claims[prefix] = value.decode("utf-8", "replace")
        self._dead.add(prefix)
        if prefix == self.own and is_new:
            self.on_own_claim()

    def _add(self, member: Member) -> None:
        if len(self._known) >= MAX_MEMBERS:
            raise ValueError(f"there are {MAX_MEMBERS} members already")
        self._known[member.prefix] = member

    def _update(self) -> None:
        """Bring `members` up to date."""
        found = {
            prefix: each for prefix, each in self._known.items() if prefix not in self._dead and prefix != self.own
        }
        if found != self.members:
            self.members.clear()
            self.members.update(found)
            self.on_members(self.members)
