"""The composition root of a node: builds its parts, starts them in order, and drains them."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from wsaas import webhooks
from wsaas.api.api import Api
from wsaas.api.console.console import Console
from wsaas.clock import Clock
from wsaas.cluster.peer_link import LinkServices
from wsaas.cluster.router import Router
from wsaas.cluster.view import ClusterView
from wsaas.counters import Counters
from wsaas.delivery.circuit_breaker import CircuitBreaker
from wsaas.delivery.pool import Limits, Pool
from wsaas.gauges import Gauges
from wsaas.journals import Journals
from wsaas.log import logger
from wsaas.log.throttle import throttle
from wsaas.log.wording import counted
from wsaas.memory.gc_scheduler import GcScheduler
from wsaas.memory.limit import process_limit
from wsaas.metrics import shared_rows
from wsaas.metrics.own import OwnMetrics
from wsaas.metrics.shared_rows import SharedRows
from wsaas.reload import file_sources, reload
from wsaas.run_queue import RunQueue
from wsaas.sessions.drain import Drain
from wsaas.sessions.fan_out import FanOutQueue
from wsaas.sessions.registry import Registry
from wsaas.setting_types import Address
from wsaas.settings import Settings, has_console
from wsaas.shared_counts import SharedCounts
from wsaas.start_report import log_start, start_warnings
from wsaas.statistics import Statistics
from wsaas.transport import descriptors
from wsaas.transport.admission import ConnectionTable
from wsaas.transport.certificates import Certificates
from wsaas.transport.connector import Connector, Destination
from wsaas.transport.context import ServerContext
from wsaas.transport.descriptors import divide_descriptors
from wsaas.transport.listener import is_this_machine
from wsaas.transport.peering import Peering
from wsaas.transport.reservation import NOTHING
from wsaas.transport.server_listeners import ServerListeners, private_settings
from wsaas.transport.timeouts import Timeouts, check_interval
from wsaas.worker_place import WorkerPlace


class Gateway:
    """One node, or one worker of a node.

    Call `start`, then `run`, which returns after `stop`; or call `start` and `drain`. A worker is started in steps:
    `prepare`, `open_journal`, `begin`, `join`, `listen`.

    `journals`: what other processes learn of its connections if it dies. `membership`: in a cluster, None without one.
    """

    def __init__(
        self,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        place: WorkerPlace | None = None,
        view: ClusterView | None = None,
    ) -> None:
        """Build the parts. They do no I/O before `start`. `place`: that of a worker. `view`: of its cluster."""
        self._place = place
        self._settings = settings
        self._clock = Clock(loop)
        self._stop, self._hurry = asyncio.Event(), asyncio.Event()
        self._budget = divide_descriptors(descriptors.hard_limit(), settings.api_connections)
        self._certificates = Certificates(settings)
        self._connector = Connector(loop, _backend(settings, self._certificates))
        self._pool = Pool(self._clock, self._connector.open, _pool_limits(settings, self._budget.backend))
        self._breaker = CircuitBreaker(self._clock, self._pool)
        counters, wall = Counters(), self._clock.wall
        webhook, self._traces = webhooks.build(settings, self._pool, self._breaker, wall, counters)
        self.journals = Journals(settings, self._clock, loop, place)
        if settings.cluster and view is None:
            self.journals.replicate(self._certificates)
        replication = self.journals.replication
        self.membership = replication.membership if replication else None
        memory = process_limit(settings.max_memory, 1 if place is None else place.count)
        limit = settings.max_connections or self._budget.clients
        self._registry = Registry(
            settings, self._clock, webhook, self.journals.journal, limit, memory=memory, shared=_shared_counts(place)
        )
        self.journals.attach(self._registry)
        run_queue = RunQueue(self._clock)
        view = view or self.membership
        self._peering = Peering(loop, LinkServices(self._clock, run_queue), self._registry, view, self._certificates)
        self.peers, self.nodes = self._peering.peers, self._peering.nodes
        self._metrics = OwnMetrics(counters, self.statistics, _shared_rows(place))
        self._console = Console(self._registry, self._pool, self._metrics, run_queue)
        jobs = self._pool.sweep, self._breaker.sweep, self._peering.sweep, memory.check, self._console.watcher.sweep
        more = GcScheduler(lambda: len(self._timeouts)).collect_if_due, throttle.log_due, self._metrics.store
        self._timeouts = Timeouts(self._clock, check_interval(settings), *jobs, *more, lag=counters.loop_lag)
        self._fan_out = FanOutQueue(run_queue, settings.max_publishes, counters)
        api = self._api(self._peering.router, view)
        limits = memory, self._registry.addresses
        context = ServerContext(settings, self._clock, self._timeouts, run_queue, *limits, counters)
        table = ConnectionTable(self._budget, self._timeouts.__len__, counters)
        parts = self._breaker, self._certificates, self._connector, self.journals, self._pool, self._registry
        self._gauges = Gauges(*parts, self._timeouts, view)
        self._listeners = ServerListeners(context, api, self._registry, self._certificates, table)
        holders = api.tokens, webhook.signer, api.aws_keys, webhook.access_keys
        codec = replication.codec if replication else None
        self._file_sources = file_sources(settings, self._certificates, *holders, codec)

    @property
    def addresses(self) -> list[Address]:
        """The bound addresses: for clients, then for REST requests if that is a different one."""
        return self._listeners.addresses

    @property
    def sessions(self) -> Registry:
        """The sessions of the node, by connection id."""
        return self._registry

    def _api(
        self, router: Router | None = None, view: ClusterView | None = None, settings: Settings | None = None
    ) -> Api:
        """Return the REST API, by default that for the other processes of the node."""
        settings = settings or self._settings
        console = self._console if has_console(self._settings) else None
        return Api(settings, self._registry, self._fan_out, router, view, metrics=self._metrics, console=console)

    def statistics(self) -> Statistics:
        """Return the gauges of the process."""
        return self._gauges.read()

    async def start_private(self, folder: Path) -> str:
        """Serve the other processes of the node, and return the path of the socket for that, in `folder`.

        The name of the socket is the prefix of this process's ids. Raises `OSError`.
        """
        path = str(folder / f"{self._registry.prefix}.sock")
        settings = private_settings(self._settings, path)
        await self._listeners.start_private(path, self._api(settings=settings))
        return path

    async def start(self, given: Mapping[str, Sequence[int]] = NOTHING) -> None:
        """Load the TLS files, open the journal and listen.

        `given`: descriptors of sockets that systemd has opened, by address.

        Raises `SettingError` for TLS files that cannot be used, `JournalError` for a journal that cannot be used, and
        `OSError` for an address that cannot be bound.
        """
        self.prepare()
        await self.open_journal()
        await self.join()
        try:
            await self.listen(given)
        except OSError:
            await self.close()
            raise
        log_start(self._settings, self.addresses)
        for warning in start_warnings(self._settings, self.addresses[-1], is_this_machine):
            logger.warning("%s", warning)
        self.begin()

    def prepare(self) -> None:
        """Load the TLS files, and start to export spans. Raises `SettingError`."""
        self._certificates.load()
        if self._traces is not None:
            self._traces.start()
        descriptors.raise_limit()
        if self._place is None or self._place.index == 0:
            descriptors.warn_of_few(self._budget)

    async def open_journal(self) -> None:
        """Open the journal. Raises `JournalError`.

        Waits for the workers of a supervisor that was killed: they use their journals until they have drained.
        """
        await self.journals.open(self._stop)

    def begin(self) -> None:
        """Start the time-outs, and send the DELETEs that an earlier process left."""
        self._timeouts.start()
        self.journals.send_left()
        self.journals.recovery.start()

    async def join(self) -> None:
        """Join the cluster, if there is one: all other nodes know this one then. Takes some seconds without NATS."""
        if self.membership is not None and self.nodes is not None:
            self.membership.on_members(self.nodes.update)
            # Claimed first: the others are not asked to wait for an earlier process of this node.
            self.journals.send_left()
            await self.membership.join()

    async def listen(self, given: Mapping[str, Sequence[int]] = NOTHING) -> None:
        """Listen for clients and REST requests. `given`: as for `start`. Raises `OSError`; call `close` then."""
        await self._listeners.start(self._place, given)
        if self.membership is not None:
            self.membership.announce(is_listening=True)

    def stop_listening(self) -> None:
        """Give up the addresses for clients and REST requests. Connections stay open."""
        self._listeners.close_public()

    def stop_accepting_clients(self) -> None:
        """Let other workers have new clients from now on. A REST API with an address of its own is still served."""
        self._listeners.close_clients()

    async def run(self) -> bool:
        """Serve until `stop` is called, then drain; return whether everything was delivered."""
        await self._stop.wait()
        return await self.drain()

    def reload(self, done: Callable[[bool], object] = bool) -> None:
        """Reload TLS files and secret files, for later handshakes and requests.

        A file that cannot be used changes nothing. Calls `done` with whether all could be used.
        """
        done(reload(self._file_sources))

    def summary(self) -> str:
        """Return what the node does, for people."""
        return f"{counted(len(self._registry), 'client')}, listening on {', '.join(map(str, self.addresses))}"

    def is_alive(self) -> bool:
        """Whether clients are served: a loop that calls this serves them."""
        return True

    def stop(self) -> None:
        """Make `run` drain and return. A second call cuts the drain short."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def hurry(self) -> None:
        """Make `run` return at once, without waiting for a drain."""
        self._stop.set()
        self._hurry.set()

    async def drain(self) -> bool:
        """Close all clients, deliver their DELETEs and close everything else, within `DRAIN_TIMEOUT`.

        Returns whether everything was delivered.
        """
        if self.membership is not None:
            self.membership.announce(is_listening=False)
        self._listeners.leave_clients()
        timeout, to_await = self._settings.drain_timeout, self.journals.recoveries_to_await
        drain = Drain(self._registry, self._clock, timeout, self._hurry, to_await)
        await drain.run()
        throttle.flush()
        # Read before deliveries are abandoned, so that the heir sends them.
        remembered, lost = await self.journals.stop()
        delivered = await drain.give_up(left_to=self.journals.heir) and not lost
        delivered = await self.journals.leave(remembered) and delivered
        await self.close()
        throttle.flush()
        logger.info("stopped")
        return delivered

    async def close(self) -> None:
        """Close everything at once. `drain` does this, too."""
        self._listeners.close()
        self._console.watcher.stop()
        self._fan_out.stop()
        self._timeouts.stop()
        self._breaker.stop()
        self._timeouts.close_all()
        await self._peering.close()
        self._pool.close()
        await self.journals.close()
        await self._connector.close()
        self._metrics.close()
        # One turn of the loop sends buffered data, and another one closes aborted connections.
        await asyncio.sleep(0)
        self._timeouts.expire_all()
        await asyncio.sleep(0)
        if self._traces is not None:
            # Last, as it may block.
            self._traces.close()


def _backend(settings: Settings, certificates: Certificates) -> Destination:
    uri = settings.api_uri
    return Destination(uri.host, uri.port, lambda: certificates.backend, settings.api_timeout, uri.socket)


def _pool_limits(settings: Settings, connections: int) -> Limits:
    return Limits(
        connections=connections,
        attempt=settings.api_timeout,
        idle=settings.keep_alive_timeout,
        body=webhooks.max_answer_size(settings),
        age=settings.api_connection_age or math.inf,
    )


def _shared_rows(place: WorkerPlace | None) -> SharedRows | None:
    if place is None or place.metrics is None:
        return None
    return shared_rows.attach(place.metrics, place.index, place.count)


def _shared_counts(place: WorkerPlace | None) -> SharedCounts | None:
    if place is None or place.counts is None:
        return None
    return SharedCounts(place.counts, place.index, place.count)
