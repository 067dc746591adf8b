"""The signals of the process."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

HANGUP: Final = {signal.SIGHUP}


class Stoppable(Protocol):
    """A gateway, or a supervisor of several."""

    def stop(self) -> None:
        """Drain. A second call cuts the drain short."""

    def reload(self) -> None:
        """Reload files."""


def install_signal_handlers(
    loop: asyncio.AbstractEventLoop, target: Stoppable, on_hangup: Callable[[], None] | None = None
) -> None:
    """Make SIGTERM and SIGINT stop `target`, and SIGHUP call `on_hangup`, by default `target.reload`.

    A second SIGTERM or SIGINT cuts the drain short.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, target.stop)
    loop.add_signal_handler(signal.SIGHUP, on_hangup or target.reload)


@contextmanager
def signal_handlers(
    loop: asyncio.AbstractEventLoop, target: Stoppable, *, ends_with_terminal: bool = False
) -> Iterator[None]:
    """Install the handlers. Within the context, SIGHUP is not blocked.

    `ends_with_terminal`: SIGHUP stops `target`, unless it was started by nohup.
    """
    ends = ends_with_terminal and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    install_signal_handlers(loop, target, target.stop if ends else None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANGUP)
    try:
        yield
    finally:
        # The loop removes its handlers when it closes. Then the default action of SIGHUP would end the process.
        signal.pthread_sigmask(signal.SIG_BLOCK, HANGUP)
