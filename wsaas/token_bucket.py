"""A rate limit."""


class TokenBucket:
    """Allows `rate` actions a second, with bursts of as many after a second without any. A `rate` of 0 allows all."""

    __slots__ = ("_rate", "_refilled_at", "_tokens")

    def __init__(self, rate: float, now: float) -> None:
        """Start full. `now`: monotonic seconds."""
        self._refilled_at = now
        self._tokens = self._rate = rate

    def take(self, now: float) -> float:
        """Take a token for one action; return the seconds until the next action is allowed, 0 for at once."""
        if not self._rate:
            return 0.0
        self._tokens = min(self._rate, self._tokens + (now - self._refilled_at) * self._rate) - 1
        self._refilled_at = now
        return max(0.0, (1 - self._tokens) / self._rate)


UNLIMITED = TokenBucket(0, 0)
