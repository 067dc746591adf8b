"""The back-off before a worker that ended is started again."""

from typing import Final

FIRST_DELAY_S: Final = 0.1
MAX_DELAY_S: Final = 10.0
"""A worker is started again at once, then after `FIRST_DELAY_S`, then after twice as long each time."""

GOOD_LIFE_S: Final = 60.0
"""A worker that lived for so long is started again at once."""


class RestartDelay:
    """The delays of one worker."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        """Start with no delay."""
        self._next = 0.0

    def after(self, life: float) -> float:
        """Return how many seconds to wait before the next start. `life`: how long the worker lived, in seconds."""
        if life >= GOOD_LIFE_S:
            self._next = 0.0
        delay = self._next
        self._next = min(MAX_DELAY_S, delay * 2 or FIRST_DELAY_S)
        return delay
