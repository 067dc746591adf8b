"""What a process that was cut off from NATS may not conclude: that others are dead, or that it knows all of them."""


class Guard:
    """Counts the time for which this process has renewed its own lease without an interruption.

    It also gives processes that started while there was no contact the time of a lease to join. Meanwhile, they may
    have clients, but only they know it.
    """

    __slots__ = ("_deadline", "_last", "_lease", "_reunited_at", "_since")

    def __init__(self, lease: float) -> None:
        """`lease`: seconds."""
        self._deadline = 0.0
        self._last = 0.0
        self._lease = lease
        self._reunited_at = 0.0
        self._since: float | None = None

    def started(self, deadline: float) -> None:
        """Expect the first connection to NATS until `deadline`. If it comes later, there was no contact before."""
        self._deadline = deadline

    def renewed(self, now: float) -> None:
        """Count a successful renewal."""
        if self._since is None or now > self._last + self._lease:
            self._since = now
        self._last = now

    def interrupted(self) -> None:
        """Count anew, as a renewal failed, or the connection was lost."""
        self._since = None

    def connection_changed(self, now: float, *, is_connected: bool) -> None:
        """The connection to NATS was opened or lost."""
        if not is_connected:
            self.interrupted()
            return
        if now > self._deadline:
            self._reunited_at = now + self._lease
        self._deadline = 0.0

    def is_passed(self, now: float) -> bool:
        """Return whether the lease was renewed for the time of a whole lease, so that others had their chance, too."""
        return self._since is not None and now <= self._last + self._lease and now >= self._since + self._lease

    def is_reunited(self, now: float) -> bool:
        """Return whether those that may have started without contact have had the time to join."""
        return now >= self._reunited_at
