"""The connections to the server of the demo: how many there may be, and how long each may take to send a request.

Each connection takes a thread. With `--host`, anybody on the network can open some.
"""

import math
import resource
import socket
import threading
import time
from contextlib import suppress
from typing import Final

MAX_CONNECTIONS: Final = 2000
MAX_OF_OTHERS: Final = 200
"""Those of other machines. The gateways, which are on this one, may have many connections to the backend."""
MAX_OF_ONE_MACHINE: Final = 100
"""Those of one other machine, so that the next one finds room. All users of a proxy count as one."""
DESCRIPTORS: Final = 3
"""Of one connection: its own, that of the WebSocket behind it, and that of a request of the chat."""
SPARE_DESCRIPTORS: Final = 64
MAPPED: Final = "::ffff:"
"""The start of an IPv4 address that a listener for both versions sees (RFC 4291)."""


def possible_connections() -> int:
    """Return how many connections there may be, after raising the limit of open files as far as possible."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = (hard - SPARE_DESCRIPTORS) // DESCRIPTORS
    return MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else min(most, MAX_CONNECTIONS)


def is_of_other_machine(sock: socket.socket) -> bool:
    """Return whether the peer has another address than this end: one that it has in common is that of this machine."""
    return bool(sock.getpeername()[0] != sock.getsockname()[0])


def machine_of(sock: socket.socket) -> str | bytes:
    """Return what counts as one machine: the peer's IPv4 address, or the /64 network of its IPv6 address."""
    address = str(sock.getpeername()[0]).partition("%")[0]
    if ":" not in address or address.startswith(MAPPED):
        return address
    return socket.inet_pton(socket.AF_INET6, address)[:8]


class Connections:
    """The open connections, each with the time by which its next request has to be complete.

    Threads serve them, and another one calls `end_overdue` again and again.
    """

    def __init__(
        self, limit: int = MAX_CONNECTIONS, of_others: int = MAX_OF_OTHERS, of_one: int = MAX_OF_ONE_MACHINE
    ) -> None:
        """Allow `limit` connections, `of_others` from other machines, and `of_one` from each of these."""
        self._limit, self._limit_of_others, self._limit_of_one = limit, of_others, of_one
        self._deadlines: dict[socket.socket, float] = {}
        self._others: dict[socket.socket, str | bytes] = {}
        self._lock = threading.Lock()

    def add(self, sock: socket.socket) -> bool:
        """Add a new connection; return False if there are too many. Raises `OSError` if it has ended already."""
        machine = machine_of(sock) if is_of_other_machine(sock) else None
        with self._lock:
            if len(self._deadlines) >= self._limit or (machine is not None and self._is_full_for(machine)):
                return False
            self._deadlines[sock] = math.inf
            if machine is not None:
                self._others[sock] = machine
            return True

    def _is_full_for(self, machine: str | bytes) -> bool:
        """Return whether another machine may have no further connection."""
        own = sum(each == machine for each in self._others.values())
        return len(self._others) >= self._limit_of_others or own >= self._limit_of_one

    def remove(self, sock: socket.socket) -> None:
        """Remove a connection before it is closed. It may have been refused."""
        with self._lock:
            self._deadlines.pop(sock, None)
            self._others.pop(sock, None)

    def expect_request(self, sock: socket.socket, seconds: float) -> None:
        """Give a connection this time for its next request."""
        self._set(sock, time.monotonic() + seconds)

    def request_arrived(self, sock: socket.socket) -> None:
        """Wait for nothing: a WebSocket or a stream may be silent."""
        self._set(sock, math.inf)

    def _set(self, sock: socket.socket, deadline: float) -> None:
        with self._lock:
            self._deadlines[sock] = deadline

    def end_overdue(self) -> None:
        """End the connections whose time is over. Their threads then read the end of the input, and close them."""
        now = time.monotonic()
        # A connection is removed before it is closed, under this lock: so the descriptor is still its own.
        with self._lock:
            for sock, deadline in self._deadlines.items():
                if deadline < now:
                    with suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)
