"""Waits until all workers have reloaded their files."""

from collections.abc import Callable, Iterable


class ReloadRound:
    """One reload of the node: calls `done` with whether all files could be used, once no worker is waited for."""

    def __init__(self, number: int, waiting: Iterable[int], done: Callable[[bool], object]) -> None:
        """Wait for the workers with the indexes `waiting`. `number`: tells the answers from those to earlier rounds."""
        self._done = done
        self._is_complete = True
        self._waiting = {*waiting}
        self.number = number

    def begin(self) -> None:
        """Finish at once if there is nobody to wait for."""
        self._finish_if_over()

    def answered(self, index: int, *, ok: bool) -> None:
        """Note that worker `index` has reloaded, or that it has ended and its successor reads the new files."""
        if index in self._waiting:
            self._waiting.remove(index)
            self._is_complete = self._is_complete and ok
            self._finish_if_over()

    def _finish_if_over(self) -> None:
        if not self._waiting:
            self._done(self._is_complete)
