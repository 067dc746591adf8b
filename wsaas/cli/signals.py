"""The signals of the process."""

import asyncio
import signal
from collections.abc import Callable

from wsaas.gateway import Gateway

HANGUP = {signal.SIGHUP}


def install_signal_handlers(
    loop: asyncio.AbstractEventLoop, gateway: Gateway, on_hangup: Callable[[], None] | None = None
) -> None:
    """Make SIGTERM and SIGINT stop `gateway`, and SIGHUP call `on_hangup`, by default `gateway.reload`.

    A second SIGTERM or SIGINT cuts the drain short (see `Gateway.stop`).
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, gateway.stop)
    loop.add_signal_handler(signal.SIGHUP, on_hangup or gateway.reload)
