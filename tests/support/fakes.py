"""Fakes of time, transports, connections and the backend. Nothing happens unless a test makes it happen."""

import asyncio
from dataclasses import MISSING, fields
from typing import Any

from wsaas.access import Proxies
from wsaas.clock import Clock, Timer
from wsaas.counters import Counters
from wsaas.delivery.circuit_breaker import CLOSED, CircuitBreaker
from wsaas.delivery.event_bodies import connect_body, disconnect_body
from wsaas.delivery.journal import LocalJournal, NoJournal
from wsaas.delivery.pool import Exchange, Opener, Pool
from wsaas.delivery.webhook import Webhook
from wsaas.errors import HTTPError
from wsaas.events import Closed, Message, Opened
from wsaas.metrics.own import OwnMetrics
from wsaas.sessions.groups import Groups
from wsaas.sessions.opening_handshake import OpeningHandshake
from wsaas.sessions.ports import ClientConnection, PendingClient
from wsaas.sessions.registry import Registry
from wsaas.sessions.session import Services, Session, SessionListener
from wsaas.settings import load
from wsaas.statistics import Statistics
from wsaas.transport.admission import ConnectionTable, SharedGate
from wsaas.transport.descriptors import DescriptorBudget
from wsaas.transport.timeouts import Timeouts
from wsaas.websocket.handshake import Handshake

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ANSWER_TO_KEY = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def make_settings(**values):
    """Return the default settings, but with `values` (by field name, as text)."""
    return load({"api_uri": "backend:8000/hook", **values}, {})


def make_handshake(subprotocols=(), authorization=None):
    """Return what `handshake.read` returns for a client without extensions."""
    return Handshake(KEY, "/room", "a=b", {"host": "localhost:8080"}, list(subprotocols), authorization)


def make_opened(at=0.0, **values):
    """Return the event of a client that asks to connect."""
    usual: dict[str, Any] = {
        "connection_id": "id",
        "ws_uri": "node/id",
        "timeout_ms": 30_000,
        "remote_address": "192.0.2.7",
        "path": "/room",
        "query": "",
        "headers": {},
        "subprotocols": [],
    }
    return Opened(at, **(usual | values))


def opened_by(handshake, **values):
    """Return the event of the client that sent `handshake`."""
    said = {name: getattr(handshake, name) for name in ("path", "query", "headers", "subprotocols")}
    return make_opened(**said, **values)


def make_closed(body=b"{}", at=0.0, delay=0.0):
    """Return the event of a disconnected client whose DELETE has this `body`."""
    return Closed(at, delay, body)


def body_of(event):
    """Return the body of the request that is sent for `event`."""
    if isinstance(event, Message):
        return event.data
    return connect_body(event) if isinstance(event, Opened) else disconnect_body(event)


def read_all(reader, *pieces):
    """Return all items that a `RequestParser` reads from `pieces`."""
    items = []
    for piece in pieces:
        reader.receive(piece)
        while (item := reader.next()) is not None or reader.is_busy:
            if item is not None:
                items.append(item)
    return items


class FakeTimer(Timer):
    """A call that a `FakeClock` makes when it is due."""

    def __init__(self, at, callback, args):
        self.at = at
        self.callback = callback
        self.args = args
        self.cancelled = False

    def cancel(self):
        self.cancelled = True


class FakeClock(Clock):
    """A `Clock` whose time passes when a test says so."""

    def __init__(self, now=1000.0):
        self._now = now
        self._timers = []

    def now(self):
        return self._now

    def wall(self):
        return 1_700_000_000.0 + self._now

    def call_later(self, delay, callback, *args):
        timer = FakeTimer(self._now + delay, callback, args)
        self._timers.append(timer)
        return timer

    def stand_still(self, seconds):
        """Let time pass without making calls, as in a stall."""
        self._now += seconds

    def turn(self):
        """Make all scheduled calls, as one turn of the loop does; those that they schedule wait for the next one."""
        due, self._timers = self.timers, []
        for timer in due:
            timer.callback(*timer.args)

    @property
    def timers(self):
        """The timers that are neither due nor cancelled, the next one first."""
        return sorted((timer for timer in self._timers if not timer.cancelled), key=lambda timer: timer.at)

    def advance(self, seconds):
        """Let time pass, and make each call when it becomes due."""
        end = self._now + seconds
        while (timers := self.timers) and timers[0].at <= end:
            timer = timers[0]
            self._timers.remove(timer)
            self._now = max(self._now, timer.at)
            timer.callback(*timer.args)
        self._now = end


class Stopwatch:
    """The timer of a `RunQueue`: it advances by `step` seconds whenever it is read, and by what is added to `now`."""

    def __init__(self, step=0.0):
        self.now = 0.0
        self.step = step

    def __call__(self):
        self.now += self.step
        return self.now


class FakeTransport(asyncio.Transport):
    """An `asyncio.Transport` that records writes. `backlog`: the size of the write buffer that it reports.

    `options`: of its socket, if it has one.
    """

    def __init__(self, protocol=None, peername=("192.0.2.7", 50000)):
        self.protocol = protocol
        self.options: Any = None
        self.peername = peername
        self.writes = []
        self.backlog = 0
        self.high = None
        self.reading = True
        self.ended = False
        self.closed = False
        self.aborted = False

    def take(self):
        """Return everything written so far, and clear it."""
        data = b"".join(self.writes)
        self.writes.clear()
        return data

    def lose(self):
        """End the connection, as the loop does after `close`, `abort`, or the end of the peer."""
        self.closed = True
        self.protocol.connection_lost(None)

    def write(self, data):
        if self.ended:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not self.closed:
            self.writes.append(data)

    def write_eof(self):
        self.ended = True

    def close(self):
        self.closed = True

    def abort(self):
        self.closed = self.aborted = True

    def is_closing(self):
        return self.closed

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def set_protocol(self, protocol):
        self.protocol = protocol

    def get_protocol(self):
        return self.protocol

    def get_extra_info(self, name, default=None):
        if name == "socket" and self.options is not None:
            return self
        return self.peername if name == "peername" else default

    def setsockopt(self, level, option, value):
        self.options[level, option] = value

    def get_write_buffer_size(self):
        return self.backlog

    def get_write_buffer_limits(self):
        return 0, self.high or 65536

    def set_write_buffer_limits(self, high=None, low=None):
        assert low is None
        self.high = high


class FakeOpener(Opener):
    """An `Opener` whose connections open, or fail to, one by one, the oldest first."""

    def __init__(self):
        self.pending = []
        self.transports = []

    def __call__(self, make, failed):
        self.pending.append((make, failed))

    def open(self):
        make, _ = self.pending.pop(0)
        transport = FakeTransport(make())
        self.transports.append(transport)
        transport.protocol.connection_made(transport)
        return transport

    def fail(self):
        _, failed = self.pending.pop(0)
        failed(ConnectionRefusedError("nobody there"))


class CallbackExchange(Exchange):
    """An exchange that calls a function with its outcome."""

    def __init__(self, request, callback, wait_timeout, *, retried=False):
        super().__init__(request, wait_timeout, retried=retried)
        self.callback = callback

    @property
    def refuses_client(self):
        return self.request.startswith(b"POST ")

    def answered(self, outcome):
        self.callback(outcome)


class FakePool(Pool):
    """A `Pool` that records the exchanges."""

    def __init__(self):
        self.sent = []

    def send(self, exchange):
        self.sent.append(exchange)

    def fail_waiting(self):
        """Nothing waits for a connection."""

    def fail_waiting_retries(self):
        """Nothing waits for a connection."""

    def answer(self, outcome, took=0.0):
        """Answer the oldest exchange, after `took` seconds."""
        exchange = self.sent.pop(0)
        exchange.took = took
        exchange.answered(outcome)


class FakeBreaker(CircuitBreaker):
    """A `CircuitBreaker` whose state a test sets. `waiting`: deliveries that wait; `observed`: outcomes, in order."""

    def __init__(self):
        self.state = CLOSED
        self.unreachable_s = 0.0
        self.waiting = []
        self.observed = []

    def unreachable_for(self, _now):
        return self.unreachable_s

    def wait(self, delivery):
        assert self.state is not CLOSED
        self.waiting.append(delivery)

    def observe(self, delivery, outcome):
        self.observed.append((delivery, outcome))


class FakeWebhook(Webhook):
    """A `Webhook` that a test answers with verdicts. `events`: each event once, in the order of first attempts."""

    breaker: "FakeBreaker"

    def __init__(self):
        self.breaker = FakeBreaker()
        self.is_per_connection = False
        self.counters = Counters()
        self.windows = {Opened: 0.0, Message: 30.0, Closed: 300.0}
        self.calls = []
        self.events = []
        self.access_keys = None
        self.tries = 0
        self.subject = None
        self.given_up_for = []
        self._requests = set()

    def given_up(self, subject, event, why):  # noqa: ARG002 - it is recorded as one of the events already
        self.given_up_for.append(why)

    def abandoned(self):
        self.given_up_for.append("abandoned")

    def call(self, delivery, event, is_direct=False):  # noqa: ARG002 - a fake request takes no time
        self.subject = delivery.subject
        self.tries += 1
        self.calls.append((event, delivery.judged))
        request = type(event), event.number, event.at, body_of(event)
        if request not in self._requests:
            self._requests.add(request)
            self.events.append(event)

    @property
    def pending(self):
        """The event that has waited longest for its answer."""
        return self.calls[0][0]

    def answer(self, verdict):
        event, judged = self.calls.pop(0)
        judged(verdict)
        return event


class FakeTimeouts(Timeouts):
    """A `Timeouts` without a timer: `check` checks the deadlines of all `connections`."""

    def __init__(self):
        self.connections = []

    def replace(self, connection, successor):
        self.connections.remove(connection)
        self.add(successor)

    def __len__(self):
        return len(self.connections)

    def add(self, connection):
        assert connection not in self.connections
        self.connections.append(connection)

    def discard(self, connection):
        if connection in self.connections:
            self.connections.remove(connection)

    def check(self, now):
        for connection in list(self.connections):
            connection.check_deadline(now)


def make_gate(registry, timeouts, *, clients=10, kind=SharedGate):
    """Return a gate before `registry` with room for `clients` and for one REST connection."""
    table = ConnectionTable(DescriptorBudget(clients, 1, 1, 1), timeouts.__len__)
    return kind(table, registry.addresses, Proxies())


class FakeConnection(ClientConnection):
    """The connection of a client that has its 101. `calls`: the methods that the session called, in order.

    `written`: the frames; `backlog`: bytes that the client has not taken; `ended`: called when it is closed.
    """

    def __init__(self):
        self.ended = lambda: None
        self.calls = []
        self.written = []
        self.backlog = 0

    @property
    def transport(self):
        return self

    def write(self, data, /):
        self.written.append(data)

    def get_write_buffer_size(self):
        return self.backlog

    def start(self):
        self.calls.append("start")

    def expect_close(self):
        self.calls.append("expect_close")

    def close_gracefully(self):
        self.calls.append("close_gracefully")
        self.ended()

    def pause(self):
        self.calls.append("pause")

    def resume(self):
        self.calls.append("resume")

    def watch(self, _recorder):
        self.calls.append("watch")

    def unwatch(self):
        self.calls.append("unwatch")


class FakePendingClient(PendingClient):
    """A client in its handshake. `accepted`: its subprotocol and first frames; `refused`: the error that it got."""

    def __init__(self):
        self.connection = FakeConnection()
        self.accepted = None
        self.refused: HTTPError | None = None

    def accept(self, subprotocol, first_frames):
        assert self.accepted is None
        assert self.refused is None
        self.accepted = (subprotocol, first_frames)
        return self.connection

    def refuse(self, error):
        assert self.accepted is None
        assert self.refused is None
        self.refused = error


def start_session(registry: Registry, client: PendingClient, address: str = "192.0.2.7") -> Session:
    """Register a session for `client` and start it, as an accepted handshake does."""
    handshake = make_handshake()
    session = registry.register(handshake, address)
    OpeningHandshake(registry.services, session, handshake, client).start()
    return session


class FakeJournal(LocalJournal):
    """A `Journal` that writes when a test says so. `entries`: by id, what is written; `pending`: what is not, in order.

    An entry is a dictionary with the columns of a row.
    """

    def __init__(self):
        self.entries = {}
        self.pending = []

    def add(self, connection, done):
        entry = connection.entry()

        def write():
            assert entry.id not in self.entries
            self.entries[entry.id] = {
                "ws_uri": entry.ws_uri,
                "authorization": entry.authorization,
                "context": None,
                "connected_at": entry.connected_at,
                "closed": None,
                "replicated": entry.is_replicated,
            }

        self.pending.append(("add", write, done))

    def set_context(self, connection_id, context):
        def write():
            self.entries[connection_id]["context"] = context

        self.pending.append(("set_context", write, None))

    def set_disconnect(self, connection_id, closed):
        written = make_closed(disconnect_body(closed), closed.at)

        def write():
            if connection_id in self.entries:
                self.entries[connection_id]["closed"] = written

        self.pending.append(("set_disconnect", write, None))

    def remove(self, connection_id):
        self.pending.append(("remove", lambda: self.entries.pop(connection_id, None), None))

    def set_replicated(self, connection_id, is_replicated, done=None):
        def write():
            if connection_id in self.entries:
                self.entries[connection_id]["replicated"] = is_replicated

        self.pending.append(("set_replicated", write, done))

    @property
    def waiting(self):
        """The names of the pending changes."""
        return [what for what, _, _ in self.pending]

    def write(self):
        """Write all pending changes, but not those that follow from them; return their names."""
        batch, self.pending = self.pending, []
        for _, write, done in batch:
            write()
            if done is not None:
                done(True)
        return [what for what, _, _ in batch]

    def fail(self):
        """Fail all pending changes. Additions are dropped; the others are tried again, without another report."""
        batch, self.pending = self.pending, []
        for _, _, done in batch:
            if done is not None:
                done(False)
        self.pending[:0] = [(what, write, None) for what, write, _ in batch if what != "add"]


def make_services(settings, clock, webhook, listener=None, journal=None):
    """Return the parts that all sessions share, without a journal unless one is given."""
    listener = listener or FakeSessionListener()
    groups: Groups[Session] = Groups(settings.max_groups)
    return Services(settings, clock, webhook, journal or NoJournal(), listener, groups, counters=webhook.counters)


def make_metrics(counters, **gauges):
    """Return the metrics of a process with `counters`, and with gauges that are zero unless they are given."""
    required = dict.fromkeys((each.name for each in fields(Statistics) if each.default is MISSING), 0)
    return OwnMetrics(counters, lambda: Statistics(**{**required, "circuit_breaker_state": "closed", **gauges}))


class FakeSessionListener(SessionListener):
    """Records the calls of a session. `owed`: the entries of DELETEs that were given up."""

    is_open = True

    def __init__(self):
        self.calls = []
        self.owed = []

    def disconnect_failed(self, session):
        self.owed.append(session.entry())

    def client_disconnected(self, _session):
        self.calls.append("client_disconnected")

    def session_finished(self, _session):
        self.calls.append("session_finished")
