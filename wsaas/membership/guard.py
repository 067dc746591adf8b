"""The guard against a partition: who was cut off from NATS itself may not say that others are dead."""


class Guard:
    """Counts the time for which this process has renewed its own lease without an interruption."""

    __slots__ = ("_last", "_lease", "_since")

    def __init__(self, lease: float) -> None:
        """`lease`: seconds."""
        self._last = 0.0
        self._lease = lease
        self._since: float | None = None

    def renewed(self, now: float) -> None:
        """Count a successful renewal."""
        if self._since is None or now > self._last + self._lease:
            self._since = now
        self._last = now

    def interrupted(self) -> None:
        """Count anew, as a renewal failed, or the connection was lost."""
        self._since = None

    def is_passed(self, now: float) -> bool:
        """Return whether the lease was renewed for the time of a whole lease, so that others had their chance, too."""
        return self._since is not None and now <= self._last + self._lease and now >= self._since + self._lease
