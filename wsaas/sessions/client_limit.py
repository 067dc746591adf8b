"""The limit of clients (`MAX_CONNECTIONS`), and the count of clients that several workers share."""

from wsaas.shared_counts import SharedCounts


class ClientLimit:
    """Admits at most `limit` clients of this process."""

    __slots__ = ("_limit",)

    def __init__(self, limit: int) -> None:
        """Admit at most `limit` clients."""
        self._limit = limit

    @property
    def share(self) -> float:
        """How many clients this process adds to the limit of the node."""
        # Compiled, this is a float in any case.
        return float(self._limit)

    def is_reached(self, clients: int) -> bool:
        """Return whether no further client can be admitted. `clients`: the number of clients of this process."""
        return clients >= self._limit

    def changed(self, clients: int) -> None:
        """Note the number of clients of this process."""


class SharedClientLimit(ClientLimit):
    """Admits at most `limit` clients of this process, and `total` clients of all workers."""

    __slots__ = ("_counts", "_total")

    def __init__(self, limit: int, total: int, counts: SharedCounts) -> None:
        """Count in `counts`."""
        super().__init__(limit)
        self._counts = counts
        self._total = total

    @property
    def share(self) -> float:
        """How many clients this process adds to the limit of the node."""
        return min(self._limit, self._total / self._counts.processes)

    def is_reached(self, clients: int) -> bool:
        """Return whether no further client can be admitted. `clients`: the number of clients of this process."""
        return super().is_reached(clients) or clients + self._counts.clients_elsewhere() >= self._total

    def changed(self, clients: int) -> None:
        """Note the number of clients of this process."""
        self._counts.set_clients(clients)
