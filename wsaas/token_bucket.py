"""Rate limiting with a token bucket."""

from typing import Final


class TokenBucket:
    """Allows `rate` actions per second, and bursts of up to `rate` actions. A `rate` of 0 means no limit."""

    __slots__ = ("_rate", "_refilled_at", "_tokens")

    def __init__(self, rate: float, now: float) -> None:
        """Start with a full bucket. `now`: monotonic seconds."""
        self._refilled_at = now
        self._tokens = self._rate = rate

    def take(self, now: float) -> float:
        """Take a token for one action; return the seconds to wait before the next action."""
        if not self._rate:
            return 0.0
        self._tokens = min(self._rate, self._tokens + (now - self._refilled_at) * self._rate) - 1
        self._refilled_at = now
        return max(0.0, (1 - self._tokens) / self._rate)


UNLIMITED: Final = TokenBucket(0, 0)
