"""When nodes of a cluster were frozen or cut off for so long that the others declared them dead.

Such a node goes on until it finds out. Meanwhile, another node has sent the DELETEs of its clients, and all others
answer 410 for them, although they are connected to it. So some rules of the audit do not apply to its clients then.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tests.chaos.fan_out_log import Span
from tests.chaos.link import Address

PREFIX_LENGTH = 8
"""Characters of an id that name the process of its connection."""


class Absence(NamedTuple):
    """A time in which a node may have been dead for the others, and alive for its clients."""

    address: Address
    span: Span


class Absences:
    """The absences of all nodes. `owners`: the address of the node, by the prefix of the ids of its connections."""

    def __init__(self, absences: Iterable[Absence] = (), owners: Mapping[str, Address] | None = None) -> None:
        self._owners = owners or {}
        self._spans: dict[Address, list[Span]] = {}
        for absence in absences:
            self._spans.setdefault(absence.address, []).append(absence.span)

    def find(self, connection_id: str, span: Span) -> Span | None:
        """Return the last absence of the node of a connection that overlaps `span`, None if there is none."""
        address = self._owners.get(connection_id[:PREFIX_LENGTH])
        found = self._spans.get(address, []) if address is not None else []
        return next((each for each in reversed(found) if each.begin <= span.end and span.begin <= each.end), None)

    def cover(self, connection_id: str, time: int) -> bool:
        """Return whether the node of a connection was absent at a time."""
        return self.find(connection_id, Span(time, time)) is not None


NO_ABSENCES = Absences()
