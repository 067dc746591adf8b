"""Event loops of asyncio for functions that ask for one by `asyncio.get_event_loop()`.

Lambda calls a function in the main thread, where there always is one. Here, each invocation has its own thread.
"""

import asyncio
import threading


class EventLoops(asyncio.DefaultEventLoopPolicy):
    """Gives a thread a loop when it asks for one. When it ends, the loop is for the next thread.

    So invocations that do not overlap have the same loop, as in Lambda: what a function keeps in global variables may
    belong to it.
    """

    def __init__(self) -> None:
        """Make no loop yet."""
        super().__init__()
        self._current = threading.local()
        self._free: list[asyncio.AbstractEventLoop] = []

    def get_event_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop of this thread."""
        loop = self._of_thread()
        if loop is None:
            try:
                loop = self._free.pop()
            except IndexError:
                loop = self.new_event_loop()
            self.set_event_loop(loop)
        return loop

    def set_event_loop(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Make `loop` that of this thread. `asyncio.run` does this too, and removes its own at the end."""
        super().set_event_loop(loop)
        self._current.loop = loop

    def release(self) -> None:
        """Let other threads have the loop of this one, which ends."""
        loop = self._of_thread()
        if loop is not None:
            self.set_event_loop(None)
            if not loop.is_closed():
                self._free.append(loop)

    def _of_thread(self) -> asyncio.AbstractEventLoop | None:
        found: asyncio.AbstractEventLoop | None = getattr(self._current, "loop", None)
        return found
