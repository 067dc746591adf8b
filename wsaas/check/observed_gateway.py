"""A gateway whose requests to the backend, and whose REST API, are observed. Its clients have no sockets.

Its parts are those of `gateway.Gateway`: what it accepts and refuses, a gateway accepts and refuses too. It sends no
request twice, writes no journal, and joins no cluster.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Final

from wsaas.check.client import Client
from wsaas.check.observed import Observed
from wsaas.check.observers import DirectExchange, Explanation, ObservedApi, ObservedWebhook
from wsaas.clock import Clock
from wsaas.delivery.circuit_breaker import CircuitBreaker
from wsaas.delivery.failure_report import connect_advice
from wsaas.delivery.journal import NoJournal
from wsaas.delivery.pool import Limits, Outcome, Pool, PooledConnection
from wsaas.delivery.verdicts import Verdict
from wsaas.delivery.webhook import Subject, Webhook
from wsaas.events import Closed, Event, Message, Opened
from wsaas.membership.tasks import wait_for
from wsaas.run_queue import RunQueue
from wsaas.sessions.fan_out import FanOutQueue
from wsaas.sessions.opening_handshake import OpeningHandshake
from wsaas.sessions.registry import Registry
from wsaas.settings import Settings
from wsaas.transport.admission import ConnectionTable
from wsaas.transport.certificates import Certificates
from wsaas.transport.connector import Connector, Destination
from wsaas.transport.context import ServerContext
from wsaas.transport.descriptors import divide_descriptors, hard_limit
from wsaas.transport.server_listeners import ServerListeners
from wsaas.transport.timeouts import Timeouts, check_interval
from wsaas.websocket.handshake import Handshake

BACKEND_CONNECTIONS: Final = 8
MAX_CLIENTS: Final = 100
NORMAL_CLOSURE: Final = 1000
REMOTE_ADDRESS: Final = "127.0.0.1"
CLOSE_TIMEOUT_S: Final = 1.0
"""Seconds that `close` waits for the last DELETEs."""


class ObservedGateway:
    """The parts of a gateway, to be used by one check at a time."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        """Build the parts. They do no I/O before `start`."""
        self.settings = settings = replace(
            settings, api_retry=0.0, journal=None, cluster=(), cluster_tls_ca=None, workers=1
        )
        self.loop = loop
        self.clock = Clock(loop)
        self.certificates = Certificates(settings)
        uri = settings.api_uri
        self.destination = Destination(
            uri.host, uri.port, lambda: self.certificates.backend, settings.api_timeout, uri.socket
        )
        self._connector = Connector(loop, self.destination)
        limits = Limits(
            BACKEND_CONNECTIONS, settings.api_timeout, settings.keep_alive_timeout, settings.max_message_size
        )
        self.pool = Pool(self.clock, self._open, limits)
        self._opened = 0
        self._connect_error: Exception | None = None
        breaker = CircuitBreaker(self.clock, self.pool)
        self.webhook = ObservedWebhook(settings, self.pool, breaker, self.clock.wall)
        self.registry = Registry(settings, self.clock, self.webhook, NoJournal(), MAX_CLIENTS)
        self._timeouts = Timeouts(self.clock, check_interval(settings), self.pool.sweep, breaker.sweep)
        run_queue = RunQueue(self.clock)
        self._fan_out = FanOutQueue(run_queue, settings.max_publishes)
        self.api = ObservedApi(settings, self.registry, self._fan_out)
        context = ServerContext(settings, self.clock, self._timeouts, run_queue)
        table = ConnectionTable(divide_descriptors(hard_limit(), BACKEND_CONNECTIONS), self._timeouts.__len__)
        self._listeners = ServerListeners(context, self.api, self.registry, self.certificates, table)

    def start(self) -> None:
        """Load the TLS files, and start the time-outs. Raises `SettingError`."""
        self.certificates.load()
        self._timeouts.start()

    async def listen(self) -> None:
        """Listen for pushes. Raises `OSError`."""
        try:
            await self._listeners.start()
        except OSError:
            self._listeners.close()
            raise

    async def connect(self, handshake: Handshake) -> tuple[Client, Observed]:
        """Let a client connect; return it and its POST."""
        session = self.registry.register(handshake, REMOTE_ADDRESS)
        client = Client(session)
        opening = OpeningHandshake(self.registry.services, session, handshake, client)
        return client, await self._observe(Opened, opening.start)

    async def deliver(self, client: Client, message: Message) -> Observed:
        """Let an open client send a message; return its PUT."""
        return await self._observe(Message, partial(client.session.receive, message))

    async def disconnect(self, client: Client) -> Observed:
        """Let a client close, or answer a Close; return its DELETE."""
        return await self._observe(Closed, partial(client.session.closed_by_client, NORMAL_CLOSURE, ""))

    async def send(
        self, subject: Subject, event: Event, webhook: Webhook | None = None, *, fresh: bool = False
    ) -> Observed:
        """Send the request for `event` as it is, and return its outcome.

        `webhook`: makes the request, by default as the gateway does. `fresh`: on a new connection.
        """
        exchange = DirectExchange(
            (webhook or self.webhook).request(subject, event), self.settings.api_timeout, self.loop.create_future()
        )
        exchange.fresh = fresh
        before, started = self._opened, perf_counter()
        self.pool.send(exchange)
        outcome = await exchange.done
        verdict, seconds = self.webhook.judge(event, outcome), perf_counter() - started
        detail, advice = self._explained(exchange.explanation)
        return Observed(outcome, verdict, seconds, detail, advice, self._opened - before)

    async def close(self) -> None:
        """Close the clients, wait shortly for their DELETEs, and close everything else."""
        finished = asyncio.Event()
        self.registry.close(lambda: None, finished.set)
        for session in list(self.registry.live()):
            session.lost()
        try:
            await wait_for(finished.wait(), CLOSE_TIMEOUT_S)
        except asyncio.TimeoutError:
            for session in list(self.registry.ending()):
                session.abandon()
        self._listeners.close()
        self._fan_out.stop()
        self._timeouts.stop()
        self.webhook.breaker.stop()
        self._timeouts.close_all()
        self.pool.close()
        await self._connector.close()
        # As in `Gateway.close`: one turn of the loop sends buffered data, and another one closes aborted connections.
        await asyncio.sleep(0)
        self._timeouts.expire_all()
        await asyncio.sleep(0)

    async def _observe(self, kind: type[Event], start: Callable[[], None]) -> Observed:
        """Call `start`, and return the next request about an event of this kind."""
        waiter: asyncio.Future[tuple[Outcome, Verdict, Explanation]] = self.loop.create_future()
        self.webhook.waiting[kind] = waiter
        before, started = self._opened, perf_counter()
        start()
        outcome, verdict, explanation = await waiter
        detail, advice = self._explained(explanation)
        return Observed(outcome, verdict, perf_counter() - started, detail, advice, self._opened - before)

    def _explained(self, explanation: Explanation) -> Explanation:
        """Return what is known about a failure: that of the connection if it could not be opened."""
        error, self._connect_error = self._connect_error, None
        return explanation if error is None else (f": {error}", connect_advice(error))

    def _open(self, factory: Callable[[], PooledConnection], on_error: Callable[[Exception], None]) -> None:
        """Open a connection to the backend, and count it."""

        def opened() -> PooledConnection:
            self._opened += 1
            return factory()

        def failed(error: Exception) -> None:
            self._connect_error = error
            on_error(error)

        self._connector.open(opened, failed)
