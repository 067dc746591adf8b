"""Reports to the service manager (sd_notify(3)): a datagram of lines `NAME=value` to a Unix socket.

Written here, as it is a few lines: of the packages for it, `sdnotify` has had no release since 2017, and
`systemd-python` and `cysystemd` need the headers of systemd and a C compiler.
"""

import errno
import socket
from typing import Final

from wsaas.log import logger

_ABSTRACT: Final = "@"


class Notifier:
    """Sends reports to the socket at `path` (`NOTIFY_SOCKET`): absolute, or with an `@` if it is abstract.

    Does nothing without a path. A report never blocks: one that does not arrive is logged and lost.
    """

    def __init__(self, path: str = "") -> None:
        """Open nothing yet."""
        self._path = path
        self._socket: socket.socket | None = None

    @property
    def is_on(self) -> bool:
        """Whether there is anybody to report to."""
        return bool(self._path)

    def send(self, **fields: str | int) -> bool:
        """Report `fields`. Returns False if systemd has no room for them now, so that a later attempt may succeed."""
        if not self._path:
            return True
        text = "\n".join(f"{name}={value}" for name, value in fields.items())
        try:
            self._open().sendto(text.encode("utf-8", "backslashreplace"), address_of(self._path))
        except OSError as error:
            # A path that is too long has no number of an error, only a text.
            why = error.strerror or error
            logger.warning("systemd at %s could not be told %s: %s", self._path, ", ".join(fields), why)
            if error.errno in (errno.EAGAIN, errno.ENOBUFS):
                return False
            # Nobody is there, and systemd listens again only for a new process.
            self.close()
        return True

    def close(self) -> None:
        """Report nothing any more. May be called again."""
        self._path = ""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        return self._socket


def address_of(path: str) -> str:
    """Return the address of the Unix socket at `path` for the `socket` module."""
    return f"\0{path[1:]}" if path.startswith(_ABSTRACT) else path
