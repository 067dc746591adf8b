"""The whole gateway: everything built and wired, listening, and stopped in order. The only owner of tasks."""

import asyncio
import errno
import math
import resource
import signal
import socket
import ssl
from collections.abc import Callable

from wsaas import __version__
from wsaas.client import Common
from wsaas.clock import Clock
from wsaas.control import Control
from wsaas.events import Reason
from wsaas.heartbeat import Heartbeat, period
from wsaas.log import logger
from wsaas.pool import Limits, Pool, PooledConnection
from wsaas.registry import Registry
from wsaas.server import HttpProtocol, Site
from wsaas.settings import Address, Settings, control_address, listen_address
from wsaas.webhook import Webhook

BACKLOG = 4096
SPARE_DESCRIPTORS = 64
"""Descriptors that are kept free for files, listeners and REST requests when the table is full of clients."""

LONGEST_GAP = 0.05
"""Most seconds between two clients that are told to go: a few are not kept waiting."""


class Gateway:
    """One node. `start`, then `run` until a signal or `stop`; or `start` and `drain` by hand."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        """Build everything; listen to nothing yet."""
        self._loop = loop
        self._settings = settings
        self._clock = Clock(loop)
        self._tasks: set[asyncio.Task[None]] = set()
        self._hurry = asyncio.Event()
        self._stop = asyncio.Event()
        self._tls = ssl.create_default_context() if settings.api_uri.scheme == "https" else None
        limits = Limits(
            connections=settings.api_connections,
            attempt=settings.api_timeout / 1000,
            idle=settings.keep_alive_timeout / 1000,
            body=settings.max_message_size,
        )
        self._pool = Pool(self._clock, self._open, limits)
        self._heartbeat = Heartbeat(self._clock, period(settings), self._pool.sweep)
        self._sockets = _raise_descriptor_limit() - settings.api_connections - SPARE_DESCRIPTORS
        webhook = Webhook(settings, self._pool, self._clock.wall)
        limit = settings.max_connections or self._sockets
        self._registry = Registry(settings, self._clock, webhook, limit)
        self._servers: list[asyncio.Server] = []
        self.addresses: list[Address] = []

    async def start(self) -> None:
        """Listen. Raises `OSError` where an address cannot be had."""
        settings = self._settings
        common = Common(settings, self._clock, self._heartbeat)
        control = Control(settings, self._registry)
        clients, rest = listen_address(settings), control_address(settings)
        crowded = self._is_crowded
        try:
            if clients == rest:
                await self._listen(clients, Site(common, control, self._registry, crowded))
            else:
                await self._listen(clients, Site(common, None, self._registry, crowded))
                await self._listen(rest, Site(common, control, None, crowded))
        except OSError:
            await self._close()
            raise
        if not (rest.is_loopback or settings.control_token):
            logger.warning("anybody who reaches %s can push to clients: set CONTROL_TOKEN, or CONTROL_LISTEN", rest)
        self._heartbeat.start()

    async def run(self) -> bool:
        """Serve until SIGTERM, SIGINT or `stop`, then drain; a second signal hurries.

        Returns whether everything was delivered.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.stop)
        await self._stop.wait()
        return await self.drain()

    def stop(self) -> None:
        """Ask `run` to stop; asked again, to waste no time on it."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def drain(self) -> bool:
        """Let the clients go, tell the backend, and close, within `DRAIN_TIMEOUT`.

        Returns whether everything was delivered.
        """
        emptied = asyncio.Event()
        timeout = self._settings.drain_timeout / 1000
        deadline = self._clock.now() + timeout
        logger.info("stopping: %d clients, at most %g s", len(self._registry), timeout)
        self._registry.shut(emptied.set)
        await self._dismiss(timeout / 2)
        await self._either(emptied, max(0.0, deadline - self._clock.now()) / 2)
        self._drop()
        await self._either(emptied, max(0.0, deadline - self._clock.now()))
        delivered = self._give_up()
        await self._close()
        logger.info("stopped")
        return delivered

    async def _dismiss(self, within: float) -> None:
        """Tell every client to go, spread so that they do not all come back at once."""
        sessions = list(self._registry.live())
        gap = min(LONGEST_GAP, within / max(1, len(sessions)))
        due = self._clock.now()
        for session in sessions:
            session.close(Reason.SHUTDOWN)
            due += gap
            if due > self._clock.now():
                await self._either(self._hurry, due - self._clock.now())

    def _drop(self) -> None:
        """Wait no longer for clients that do not answer their Close: the backend has still to be told of them."""
        for session in list(self._registry.live()):
            session.edge.finish()
            session.lost()

    async def _either(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for `event`, for somebody in a hurry, or for `seconds`."""
        waits = [asyncio.ensure_future(each.wait()) for each in {event, self._hurry}]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    def _give_up(self) -> bool:
        """Log what the backend was not told; return whether it was told everything."""
        left = [*self._registry.live(), *self._registry.ending()]
        for session in left:
            lost = len(session.outbox.abandon())
            logger.error("%s: stopped before the backend was told of its end (%d events lost)", session.ws_uri, lost)
        return not left

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        self._heartbeat.stop()
        for each in self._heartbeat.watched():
            each.finish()
        self._pool.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # One turn of the loop for what is buffered; then whatever is left is overdue.
        await asyncio.sleep(0)
        for each in self._heartbeat.watched():
            each.sweep(math.inf)
        await asyncio.sleep(0)

    def _is_crowded(self) -> bool:
        return len(self._heartbeat) >= self._sockets

    async def _listen(self, address: Address, site: Site) -> None:
        def make() -> HttpProtocol:
            return HttpProtocol(site)

        if address.path:
            self._servers.append(await self._loop.create_unix_server(make, address.path, backlog=BACKLOG))
            bound = address
        else:
            sockets = bind(address)
            for listener in sockets:
                self._servers.append(await self._loop.create_server(make, sock=listener, backlog=BACKLOG))
            bound = Address(address.host, sockets[0].getsockname()[1])
        self.addresses.append(bound)
        logger.info("wsaas %s listening on %s", __version__, bound)

    def _open(self, make: Callable[[], PooledConnection], failed: Callable[[Exception], None]) -> None:
        task = self._loop.create_task(self._connect(make, failed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, make: Callable[[], PooledConnection], failed: Callable[[Exception], None]) -> None:
        backend = self._settings.api_uri
        opening = self._loop.create_connection(make, backend.host, backend.port, ssl=self._tls)
        try:
            await asyncio.wait_for(opening, self._settings.api_timeout / 1000)
        except Exception as error:  # noqa: BLE001 - whatever it was, somebody waits for this connection
            failed(error)


def bind(address: Address) -> list[socket.socket]:
    """Return the bound sockets of `address`: one for each address family that its host has here, all on one port.

    Raises `OSError` when there is none, or when another program has one of them.
    """
    found = socket.getaddrinfo(address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    port = address.port
    for family, _, _, _, place in sorted(set(found)):
        try:
            listener = _bound(family, (place[0], port, *place[2:]))
        except OSError as error:
            # A name may stand for a family that this machine does not speak.
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                absent = error
                continue
            for other in sockets:
                other.close()
            raise
        port = listener.getsockname()[1]
        sockets.append(listener)
    if absent and not sockets:
        raise absent
    return sockets


def _bound(family: int, place: tuple[str | int, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(place)
    except OSError:
        listener.close()
        raise
    return listener


def _raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one; return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
