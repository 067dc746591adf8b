"""Listens on one address, TCP or Unix.

The file of a Unix socket outlives a process that is killed, and makes `bind` fail. So a socket file without a listener
is removed. The directory is locked meanwhile, as another process could start to listen between check and removal.
"""

import asyncio
import errno
import fcntl
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any, Final

from wsaas.access import is_loopback_host
from wsaas.setting_types import ABSTRACT, Address

BACKLOG: Final = 4096
"""Connections that the kernel queues until they are accepted."""

ACCEPTORS: Final = 4
"""Number of servers (of the event loop) on one TCP socket for clients. Each server accepts one connection in a turn of
the loop, so several accept a burst in fewer turns. Each connection wakes up all of them, so there are only a few."""

LOCK_TIMEOUT_S: Final = 5.0
"""Seconds to wait for the lock on a directory. Another process that starts holds it for about a millisecond."""

_LOCK_RETRY_S: Final = 0.005


_KEEPS_FILE: Final[dict[str, Any]] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
"""From Python 3.13 on, a server would remove the file of a socket that other workers still accept from."""


class Listener:
    """Listens on one address from `start` until `close`.

    `address`: as given; after `start`, with the port that was bound.
    """

    def __init__(
        self,
        address: Address,
        *,
        mode: int = 0o666,
        acceptors: int = 1,
        shared: bool = False,
        inherited: Sequence[int] = (),
    ) -> None:
        """Prepare to listen.

        `mode`: permissions of the file of a Unix socket; `acceptors`: servers per TCP socket. For an address that
        several workers listen on, `shared` binds with SO_REUSEPORT; `inherited` are descriptors of sockets that listen
        already, whose files belong to the supervisor or to systemd.
        """
        self.address = address
        self._mode = mode
        self._acceptors = acceptors
        self._is_shared = shared
        self._inherited = inherited
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._file: tuple[int, int] | None = None

    async def start(self, factory: Callable[[], asyncio.Protocol]) -> None:
        """Listen; `factory` returns the protocol of a connection. Raises `OSError`, whose `filename` is the address."""
        try:
            if self._inherited:
                for descriptor in self._inherited:
                    await self._serve(socket.socket(fileno=os.dup(descriptor)), factory)
            elif self.address.path:
                sock, self._file = await listen_unix(self.address.path, self._mode)
                await self._serve_unix(sock, factory)
            else:
                await self._start_tcp(factory)
        except OSError as error:
            self.close()
            raise OSError(error.errno, error.strerror or str(error), str(self.address)) from error

    def close(self) -> None:
        """Stop listening, and remove the file of a Unix socket unless it was replaced. May be called again.

        While the socket is open, the inode of its file is not reused, so it identifies the file.
        """
        if self._file is not None:
            remove_unix(self.address.path, self._file)
            self._file = None
        for server in self._servers:
            server.close()
        self._servers.clear()
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    async def _start_tcp(self, factory: Callable[[], asyncio.Protocol]) -> None:
        self._sockets = sockets = bind(self.address, shared=self._is_shared)
        self.address = Address(self.address.host, sockets[0].getsockname()[1])
        for each in sockets:
            # With SO_REUSEADDR, the second process on a port fails only in `listen`. uvloop would ignore the error.
            each.listen(BACKLOG)
        await self._serve_tcp(sockets, factory)

    async def _serve(self, sock: socket.socket, factory: Callable[[], asyncio.Protocol]) -> None:
        if sock.family == socket.AF_UNIX:
            await self._serve_unix(sock, factory)
        else:
            await self._serve_tcp([sock], factory)

    async def _serve_tcp(self, sockets: list[socket.socket], factory: Callable[[], asyncio.Protocol]) -> None:
        self._sockets = [each.dup() for each in sockets for _ in range(self._acceptors - 1)] + sockets
        while self._sockets:
            # A server closes its own socket. `close` closes the sockets that have no server yet.
            sock = self._sockets.pop(0)
            server = await asyncio.get_running_loop().create_server(factory, sock=sock, backlog=BACKLOG)
            self._servers.append(server)

    async def _serve_unix(self, sock: socket.socket, factory: Callable[[], asyncio.Protocol]) -> None:
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_unix_server(factory, sock=sock, backlog=BACKLOG, **_KEEPS_FILE))


def bind(address: Address, *, shared: bool = False) -> list[socket.socket]:
    """Return bound sockets for a TCP `address`: one for each IP address of its host, all with the same port.

    `shared`: with SO_REUSEPORT, so that other processes of this user that set it, too, can share the port. Raises
    `OSError` if no address can be bound, or if one is in use.
    """
    found = socket.getaddrinfo(address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    unavailable: OSError | None = None
    port = address.port
    for family, _, _, _, place in sorted(set(found)):
        try:
            listener = _bind_tcp(family, (place[0], port, *place[2:]), shared=shared)
        except OSError as error:
            # A name may have addresses of a family that this machine lacks.
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                unavailable = error
                continue
            for other in sockets:
                other.close()
            raise
        port = listener.getsockname()[1]
        sockets.append(listener)
    if unavailable and not sockets:
        raise unavailable
    return sockets


def is_this_machine(host: str) -> bool:
    """Return whether `host` is an IP address of this machine or a loopback name."""
    if is_loopback_host(host):
        return True
    try:
        family = socket.AF_INET if isinstance(ip_address(host), IPv4Address) else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
    except (OSError, ValueError):
        return False
    return True


def _bind_tcp(family: int, place: tuple[str | int, ...], *, shared: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(place)
    except OSError:
        listener.close()
        raise
    return listener


async def listen_unix(path: str, mode: int) -> tuple[socket.socket, tuple[int, int] | None]:
    """Return a socket that listens at `path`, with permissions `mode`, and the identity of its file, if it has one.

    Raises `OSError`.
    """
    if path.startswith(ABSTRACT):
        return _listen_abstract(path), None
    async with _locked(Path(path).parent) as is_locked:
        return _listen_unix(path, mode, is_locked=is_locked), _identity(path)


def remove_unix(path: str, identity: tuple[int, int] | None) -> None:
    """Remove the file of a Unix socket, unless it has none or was replaced. Call it while the socket is open."""
    if identity is not None:
        with suppress(OSError):
            if _identity(path) == identity:
                Path(path).unlink()


def _listen_unix(path: str, mode: int, *, is_locked: bool) -> socket.socket:
    """Return a socket that listens at `path`.

    With `is_locked`, it replaces a socket without a listener. Raises `OSError` if there is a listener or another file.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            listener.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _remove_stale(path, is_locked=is_locked)
            listener.bind(path)
        # Before `listen`, so that nobody connects while the file has another mode.
        Path(path).chmod(mode)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _listen_abstract(name: str) -> socket.socket:
    """Return a socket with a name that is no file, and so has no permissions either. Raises `OSError`."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(f"\0{name[len(ABSTRACT) :]}")
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _remove_stale(path: str, *, is_locked: bool) -> None:
    """Remove the socket at `path` if it has no listener. Raises `OSError` for anything else."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise FileExistsError(errno.EEXIST, "a file that is not a socket exists there; it was not replaced")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # Otherwise `connect` waits while the backlog is full.
        probe.setblocking(False)
        result = probe.connect_ex(path)
    if result == errno.ECONNREFUSED and is_locked:
        Path(path).unlink()
    elif result == errno.ECONNREFUSED:
        why = "its directory is not readable, so it cannot be locked to replace the socket"
        advice = "remove the socket, or make the directory readable"
        raise OSError(errno.EADDRINUSE, f"nobody listens on the socket there, but {why}: {advice}")
    elif result in (0, errno.EAGAIN, errno.EPROTOTYPE):
        raise OSError(errno.EADDRINUSE, "it is in use by another process")
    else:
        raise OSError(result, f"a socket exists there, but connecting to it failed: {os.strerror(result)}")


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


@asynccontextmanager
async def _locked(folder: Path) -> AsyncIterator[bool]:
    """Lock `folder` against other gateways. Raises `OSError` after `LOCK_TIMEOUT_S`.

    Yields False if it cannot be locked because this process may write to it but not read it.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        yield False
        return
    try:
        deadline = asyncio.get_running_loop().time() + LOCK_TIMEOUT_S
        while not _lock(descriptor):
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(errno.EAGAIN, f"another process keeps the directory {folder} locked")
            await asyncio.sleep(_LOCK_RETRY_S)
        yield True
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
