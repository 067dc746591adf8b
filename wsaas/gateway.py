"""The whole gateway: everything built and wired, listening, and stopped in order."""

import asyncio
import math
import resource
import signal
import ssl
from collections.abc import Callable
from functools import partial

from wsaas.api.api import Api
from wsaas.clock import Clock
from wsaas.delivery.circuit_breaker import CircuitBreaker
from wsaas.delivery.journal import NoJournal, Remembered, SqliteJournal
from wsaas.delivery.pool import Limits, Pool
from wsaas.delivery.recovery import Recovery
from wsaas.delivery.webhook import Webhook
from wsaas.log import logger
from wsaas.log.throttle import throttle
from wsaas.memory import usage as memory_usage
from wsaas.memory.limit import RELIEF, MemoryLimit
from wsaas.memory.process import GcScheduler
from wsaas.reload import file_sources, reload
from wsaas.sessions.drain import Drain
from wsaas.sessions.registry import Registry
from wsaas.setting_types import Address
from wsaas.settings import Settings, control_address, listen_address
from wsaas.start_report import start_line, start_warnings
from wsaas.transport.admission import ConnectionTable, ControlGate, Gate, SharedGate, divide
from wsaas.transport.certificates import Certificates
from wsaas.transport.connector import Connector
from wsaas.transport.context import ServerContext
from wsaas.transport.http_server import HttpProtocol, Site
from wsaas.transport.listener import ACCEPTORS, Listener, is_own
from wsaas.transport.server_tls import ServerTLSTransport
from wsaas.transport.timeouts import Timeouts, check_interval

MANY_DESCRIPTORS = 1 << 20
"""What no limit of open files is taken for."""


class Gateway:
    """One node. `start`, then `run` until a signal or `stop`; or `start` and `drain` by hand."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        """Build everything; listen to nothing yet. Raises `SettingError` where the files of TLS cannot be used."""
        self._certificates = Certificates(settings)
        self._loop = loop
        self._settings = settings
        self._clock = Clock(loop)
        self._connector = Connector(loop, settings, self._certificates)
        self._hurry = asyncio.Event()
        self._stop = asyncio.Event()
        budget = divide(_raise_descriptor_limit(), settings.api_connections)
        limits = Limits(
            connections=budget.backend,
            attempt=settings.api_timeout,
            idle=settings.keep_alive_timeout,
            body=settings.max_message_size,
            age=settings.api_connection_age or math.inf,
        )
        self._pool = Pool(self._clock, self._connector.open, limits)
        self._breaker = CircuitBreaker(self._clock, self._pool)
        gc_scheduler = GcScheduler(lambda: len(self._timeouts))
        most = memory_usage.available() // 2 if settings.max_memory is None else settings.max_memory or math.inf
        self._memory = MemoryLimit(most, partial(memory_usage.in_use, most * RELIEF), memory_usage.trim)
        sweeps = self._pool.sweep, self._breaker.sweep, gc_scheduler.sweep, self._memory.sweep, throttle.sweep
        self._timeouts = Timeouts(self._clock, check_interval(settings), *sweeps)
        self._connections = ConnectionTable(budget, self._timeouts.__len__, self._clock)
        webhook = Webhook(settings, self._pool, self._breaker, self._clock.wall)
        limit = settings.max_connections or budget.clients
        self._journal: SqliteJournal | None = None
        if settings.journal is not None:
            full = settings.journal_sync == "full"
            self._journal = SqliteJournal(settings.journal, self._clock, loop.call_soon_threadsafe, power_proof=full)
        journal = self._journal or NoJournal()
        self._registry = Registry(settings, self._clock, webhook, journal, limit, memory=self._memory)
        self._recovery = Recovery(self._registry.services)
        if self._journal is not None:
            self._journal.remembered = self._remembered
            self._registry.owe = self._recovery.keep
        self._control = Api(settings, self._registry)
        self._file_sources = file_sources(settings, self._certificates, self._control.tokens, webhook.signer)
        self._listeners: list[Listener] = []
        self.on_hangup: Callable[[], None] = self.reload
        """What SIGHUP does from `install_signal_handlers` on."""

    @property
    def addresses(self) -> list[Address]:
        """Where it listens: for clients, then for REST requests if that is elsewhere."""
        return [each.address for each in self._listeners]

    async def start(self) -> None:
        """Listen. Raises `OSError` where an address cannot be had, `JournalError` where the journal cannot."""
        settings = self._settings
        if self._journal is not None:
            self._recovery.add(self._journal.open())
        common = ServerContext(settings, self._clock, self._timeouts, self._memory, self._registry.addresses)
        control = self._control
        clients, rest = listen_address(settings), control_address(settings)
        seats = self._connections, self._registry.addresses, settings.trusted_proxies
        try:
            if clients == rest:
                await self._listen(clients, Site(common, control, self._registry, SharedGate(*seats)), self._client_tls)
            else:
                await self._listen(clients, Site(common, None, self._registry, Gate(*seats)), self._client_tls)
                await self._listen(rest, Site(common, control, None, ControlGate(*seats)), self._control_tls)
        except OSError:
            await self._close()
            raise
        logger.info("%s", start_line(settings, self.addresses))
        for warning in start_warnings(settings, self.addresses[-1], is_own):
            logger.warning("%s", warning)
        self._timeouts.start()
        self._recovery.start()

    async def run(self) -> bool:
        """Serve until SIGTERM, SIGINT or `stop`, then drain; a second signal hurries.

        Returns whether everything was delivered.
        """
        self.install_signal_handlers()
        await self._stop.wait()
        return await self.drain()

    def install_signal_handlers(self) -> None:
        """Let SIGTERM and SIGINT stop this node from now on; before `run`, as soon as it runs.

        SIGHUP loads files again from now on (see `reload`); its default action would end the process.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.stop)
        self._loop.add_signal_handler(signal.SIGHUP, self.on_hangup)

    def reload(self) -> None:
        """Load the files of TLS and of secrets again: they count from the next handshake or request on.

        A file that cannot be used changes nothing.
        """
        reload(self._file_sources)

    def stop(self) -> None:
        """Ask `run` to stop; asked again, to waste no time on it."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def drain(self) -> bool:
        """Let the clients go, tell the backend, and close, within `DRAIN_TIMEOUT`.

        Returns whether everything was delivered.
        """
        drain = Drain(self._registry, self._clock, self._settings.drain_timeout, self._hurry)
        await drain.run()
        # Whatever was sent again is not from now on.
        throttle.flush()
        remembered = self._remembered()
        self._recovery.stop()
        delivered = await drain.give_up(journaled=self._journal is not None)
        if self._journal is not None and not self._journal.close(remembered):
            delivered = False
        await self._close()
        throttle.flush()
        logger.info("stopped")
        return delivered

    def _remembered(self) -> list[Remembered]:
        """Return all that belongs into the journal."""
        return [*self._registry.live(), *self._registry.ending(), *self._recovery.entries()]

    async def _close(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._timeouts.stop()
        self._breaker.stop()
        self._timeouts.close_all()
        self._pool.close()
        if self._journal is not None:
            self._journal.close()
        await self._connector.close()
        # One turn of the loop to send what is buffered.
        await asyncio.sleep(0)
        self._timeouts.expire_all()
        await asyncio.sleep(0)

    def _client_tls(self) -> ssl.SSLContext | None:
        return self._certificates.clients

    def _control_tls(self) -> ssl.SSLContext | None:
        return self._certificates.control

    async def _listen(self, address: Address, site: Site, tls: Callable[[], ssl.SSLContext | None]) -> None:
        acceptors = 1 if site.registry is None else ACCEPTORS
        listener = Listener(address, mode=self._settings.listen_mode, acceptors=acceptors)
        await listener.start(lambda: self._receive(site, tls()))
        self._listeners.append(listener)

    def _receive(self, site: Site, tls: ssl.SSLContext | None) -> asyncio.Protocol:
        """Return who takes a connection that was just accepted."""
        protocol = HttpProtocol(site)
        return protocol if tls is None else ServerTLSTransport(protocol, tls, site.common, site.gate)


def _raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one; return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return MANY_DESCRIPTORS if hard == resource.RLIM_INFINITY else hard
