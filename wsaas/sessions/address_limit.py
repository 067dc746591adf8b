"""The limit of connections of one remote address (`MAX_CONNECTIONS_PER_ADDRESS`)."""

from collections import Counter
from typing import Final

from wsaas.access import address_block
from wsaas.shared_counts import SharedCounts


class AddressLimit:
    """Counts connections by address block (see `access.address_block`). `limit`: per block, 0 for no limit."""

    __slots__ = ("_counts", "limit")

    def __init__(self, limit: int) -> None:
        """Allow `limit` connections per block."""
        self._counts: Counter[str] = Counter()
        self.limit = limit

    def is_reached(self, block: str, own: int = 0) -> bool:
        """Return whether `block` has reached the limit, not counting `own` of its connections."""
        return bool(self.limit) and self._counts[block] - own >= self.limit

    def add(self, block: str) -> None:
        """Count one more connection of `block`."""
        self._counts[block] += 1

    def remove(self, block: str) -> None:
        """Subtract one connection of `block`."""
        self._counts[block] -= 1
        if not self._counts[block]:
            del self._counts[block]

    def count_closing(self, address: str) -> str:
        """Count a connection of `address` that is closing; return the counted block, or an empty string."""
        if not self.limit or not address:
            return ""
        block = address_block(address)
        self.add(block)
        return block

    def end(self, block: str) -> None:
        """Stop counting a connection that was closing; `block` is what `count_closing` returned."""
        if block:
            self.remove(block)


class SharedAddressLimit(AddressLimit):
    """Counts the connections of all workers. `limit`: most per block in all of them."""

    __slots__ = ("_shared",)

    def __init__(self, limit: int, shared: SharedCounts) -> None:
        """Count in `shared`, too."""
        super().__init__(limit)
        self._shared = shared

    def is_reached(self, block: str, own: int = 0) -> bool:
        """Return whether `block` has reached the limit, not counting `own` of its connections."""
        return self._counts[block] - own + self._shared.connections_elsewhere(block) >= self.limit

    def add(self, block: str) -> None:
        """Count one more connection of `block`."""
        super().add(block)
        self._shared.add(block, 1)

    def remove(self, block: str) -> None:
        """Subtract one connection of `block`."""
        super().remove(block)
        self._shared.add(block, -1)


NO_ADDRESS_LIMIT: Final = AddressLimit(0)
