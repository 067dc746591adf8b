"""Passes the WebSocket of a browser on to a gateway, as a proxy would.

So the page needs only one address, its own, whether it is opened on this machine, on another one or through a forwarded
port. The gateway itself stays on this machine.
"""

import socket
import struct
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import BufferedIOBase
from typing import Final

CONNECT_TIMEOUT_S: Final = 5.0
LINGER_S: Final = 5.0
"""Time for the browser to close its side after the gateway did."""
WRITE_TIMEOUT_S: Final = 30
"""Time for a browser that does not read. The gateway notices it, too, but cannot end a thread that waits here."""
CHUNK: Final = 64 * 1024


def connect(address: str) -> socket.socket:
    """Connect to host:port. Raises `OSError`."""
    host, _, port = address.rpartition(":")
    gateway = socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S)
    gateway.settimeout(None)
    gateway.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return gateway


def limit_writes(browser: socket.socket) -> None:
    """Give a browser `WRITE_TIMEOUT_S` to read. Unlike `settimeout`, this does not limit the wait for a silent one."""
    browser.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", WRITE_TIMEOUT_S, 0))


def request_head(path: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return the head of a GET request."""
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")


def relay(browser: socket.socket, received: BufferedIOBase, gateway: socket.socket) -> None:
    """Pass all bytes on in both directions until both sides have ended. `received`: reads from `browser`.

    Writes to `browser` have to be limited.
    """
    upward = threading.Thread(target=_copy, args=(lambda: received.read1(CHUNK), gateway), name="tunnel", daemon=True)
    upward.start()
    _copy(lambda: gateway.recv(CHUNK), browser)
    with suppress(OSError):
        browser.settimeout(LINGER_S)
    upward.join(LINGER_S)
    with suppress(OSError):
        browser.shutdown(socket.SHUT_RDWR)
    upward.join()


def _copy(read: Callable[[], bytes], to: socket.socket) -> None:
    """Pass on what `read` returns until its end, or until `to` does not take it, and then end `to`."""
    with suppress(OSError):
        while data := read():
            to.sendall(data)
    with suppress(OSError):
        to.shutdown(socket.SHUT_WR)
