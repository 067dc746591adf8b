"""The environment variables by which systemd tells a service what it gets and what is expected of it.

They are meant for one process. So they are removed from its environment: the processes that it starts are not
supervised by systemd, and do not own the sockets.
"""

import os
from collections.abc import Mapping, MutableMapping
from typing import Final

NOTIFY_SOCKET: Final = "NOTIFY_SOCKET"
WATCHDOG_PID: Final = "WATCHDOG_PID"
WATCHDOG_USEC: Final = "WATCHDOG_USEC"
LISTEN_PID: Final = "LISTEN_PID"
LISTEN_FDS: Final = "LISTEN_FDS"
LISTEN_FDNAMES: Final = "LISTEN_FDNAMES"

VARIABLES: Final = (NOTIFY_SOCKET, WATCHDOG_PID, WATCHDOG_USEC, LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES)


def take(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of systemd in `environment`, and remove them there if it is that of the process."""
    found = {name: environment[name] for name in VARIABLES if name in environment}
    if isinstance(environment, MutableMapping):
        for name in found:
            del environment[name]
    return found


def is_for_this_process(pid: str | None) -> bool:
    """Return whether a variable that names the process `pid` is for this one, and not for one that started it."""
    return pid is None or pid == str(os.getpid())
