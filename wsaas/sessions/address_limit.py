"""The limit of connections of one remote address (`MAX_CONNECTIONS_PER_ADDRESS`)."""

from collections import Counter

from wsaas.access import address_block


class AddressLimit:
    """Counts connections by the customer behind their address, who may have `limit` of them (0: any number)."""

    __slots__ = ("_counts", "limit")

    def __init__(self, limit: int) -> None:
        """Start at none."""
        self._counts: Counter[str] = Counter()
        self.limit = limit

    def is_reached(self, name: str, own: int = 0) -> bool:
        """Return whether the customer `name` has no connection left, `own` of them apart."""
        return bool(self.limit) and self._counts[name] - own >= self.limit

    def add(self, name: str) -> None:
        """One more connection of `name`."""
        self._counts[name] += 1

    def remove(self, name: str) -> None:
        """One connection of `name` less."""
        self._counts[name] -= 1
        if not self._counts[name]:
            del self._counts[name]

    def linger(self, address: str) -> str:
        """Count a connection of `address` that is no client any more; return for whom, empty for nobody."""
        if not self.limit or not address:
            return ""
        name = address_block(address)
        self.add(name)
        return name

    def end(self, name: str) -> None:
        """A connection is closed that was counted by `linger`, which returned `name`."""
        if name:
            self.remove(name)


NO_ADDRESS_LIMIT = AddressLimit(0)
