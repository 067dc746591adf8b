"""The messages of this process over NATS: publishes with acknowledgements, requests, and subscriptions.

The bus connects in the background, for ever, to one of the servers after the other. Nothing waits for it: without a
connection, a publish is reported as not acknowledged.
"""

import asyncio
import itertools
import os
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import orjson

from wsaas.clock import NO_TIMER, Clock
from wsaas.cluster_setting_types import NatsServer
from wsaas.log.throttle import throttle
from wsaas.membership.nats_connection import Headers, NatsConnection, NatsError, NatsOptions
from wsaas.membership.tasks import end_tasks, start_task, wait_for

ACK_TIMEOUT_S: Final = 1.0
"""Seconds after which a publish counts as not acknowledged."""

REQUEST_TIMEOUT_S: Final = 2.0
"""Seconds that a request waits for its answer, unless it says otherwise."""

PING_INTERVAL_S: Final = 1.0
PING_TIMEOUT_S: Final = 3.0
"""A server that does not answer a ping in this time is left for another one. It may be frozen."""

RETRY_S: Final = (0.1, 1.0)
"""Seconds between two attempts to connect: at first, and at most. Each is chosen at random between its half and it."""

MIN_VERSION: Final = (2, 11)
"""The oldest NATS server with entries that end by themselves (per-message TTL)."""

_CONFLICTS: Final = frozenset({10071, 10164})
_NO_RESPONDERS: Final = "503"
_TOO_LARGE: Final = 10054


class Ack(NamedTuple):
    """What JetStream says about a publish. `sequence`: that of the message, which is its revision in a bucket.

    With an `error` (for people) and its `code`, the message was not stored.
    """

    sequence: int
    error: str = ""
    code: int = 0

    @property
    def is_stored(self) -> bool:
        """Whether the message was stored."""
        return not self.error

    @property
    def is_conflict(self) -> bool:
        """Whether the message was not stored because its subject has another last sequence than expected."""
        return self.code in _CONFLICTS


class Message(NamedTuple):
    """A message that was received. `reply`: where to send an answer, or empty."""

    subject: str
    reply: str
    data: bytes
    headers: Headers


OnAck = Callable[[Ack | None], None]
OnMessage = Callable[[Message], object]


class Bus:
    """The connection to NATS. Call `open` once, and `close` at the end."""

    def __init__(self, servers: Sequence[NatsServer], options: NatsOptions, clock: Clock) -> None:
        """Connect to nothing yet."""
        self._clock = clock
        self._connection: NatsConnection | None = None
        self._count = 0
        # Random bytes are no secret here: they tell apart the inboxes of processes.
        self._inbox = f"_INBOX.{os.urandom(9).hex()}."
        self._lost = asyncio.Event()
        self._on_state: list[Callable[[bool], None]] = []
        self._options = options
        self._requests: dict[str, asyncio.Future[Message | None]] = {}
        self._servers = list(servers)
        self._subscriptions: dict[str, OnMessage] = {}
        self._task: asyncio.Task[None] | None = None
        self._timer = NO_TIMER
        self._waiting: dict[str, tuple[float, OnAck]] = {}
        self._why_lost = ""
        self.is_connected = False
        self.server = ""

    def __len__(self) -> int:
        """Return the number of publishes that wait for their acknowledgement."""
        return len(self._waiting)

    async def open(self) -> None:
        """Start to connect, and return at once."""
        random.shuffle(self._servers)
        self._task = start_task(self._run(), "the connection to NATS")

    async def close(self) -> None:
        """Close the connection. All waiting publishes are reported as not acknowledged."""
        if self._task is not None:
            await end_tasks([self._task])

    def on_state(self, callback: Callable[[bool], None]) -> None:
        """Call `callback` with True after each connect, and with False after each loss of the connection."""
        self._on_state.append(callback)

    def publish(self, subject: str, data: bytes, on_ack: OnAck, *, headers: Headers | None = None) -> None:
        """Publish to a stream of JetStream.

        `on_ack` is called once: with the acknowledgement, or with None if there was none within `ACK_TIMEOUT_S`, or the
        connection was lost: the message may be stored then, even later. If nothing can be sent, `on_ack` is called
        before this method returns.
        """
        connection = self._connection
        if connection is None or not connection.is_writable:
            on_ack(None)
            return
        if len(data) > connection.max_payload:
            on_ack(Ack(0, f"it is larger than max_payload of NATS, {connection.max_payload} bytes", _TOO_LARGE))
            return
        self._count += 1
        token = str(self._count)
        if self._timer is NO_TIMER:
            self._timer = self._clock.call_later(ACK_TIMEOUT_S, self._sweep)
        self._waiting[token] = (self._clock.now() + ACK_TIMEOUT_S, on_ack)
        connection.publish(subject, data, self._inbox + token, headers)

    def send(self, subject: str, data: bytes) -> None:
        """Send a message to the subscribers of `subject`, if there is a connection."""
        if self._connection is not None and self._connection.is_writable:
            self._connection.publish(subject, data)

    async def request(
        self, subject: str, data: bytes = b"", *, headers: Headers | None = None, timeout: float = REQUEST_TIMEOUT_S
    ) -> Message | None:
        """Return the answer to a request; None without one in `timeout` seconds, or if nobody subscribes to it."""
        connection = self._connection
        if connection is None or not connection.is_writable:
            return None
        self._count += 1
        token = str(self._count)
        answer = self._requests[token] = asyncio.get_running_loop().create_future()
        connection.publish(subject, data, self._inbox + token, headers)
        try:
            found = await wait_for(answer, timeout)
        except asyncio.TimeoutError:
            return None
        finally:
            self._requests.pop(token, None)
        return None if found is None or _is_unheard(found) else found

    async def store(
        self, subject: str, data: bytes, headers: Headers, timeout: float = REQUEST_TIMEOUT_S
    ) -> Ack | None:
        """Publish to a stream, and wait for the acknowledgement; None without one in `timeout` seconds."""
        answer = await self.request(subject, data, headers=headers, timeout=timeout)
        return None if answer is None else _ack(answer)

    async def subscribe(self, subject: str, on_message: OnMessage) -> None:
        """Call `on_message` for each message on `subject`, on this connection and on all later ones.

        If this connection fails meanwhile, only on later ones.
        """
        self._subscriptions[subject] = on_message
        connection = self._connection
        if connection is None:
            return
        try:
            await self._subscribe(connection, subject, on_message)
            await connection.ping(PING_TIMEOUT_S)
        except NatsError as error:
            if connection is self._connection:
                self._connection_lost(str(error))

    async def unsubscribe(self, subject: str) -> None:
        """Handle the messages on `subject` no longer."""
        self._subscriptions.pop(subject, None)
        if self._connection is not None:
            await self._connection.unsubscribe(subject)

    def new_inbox(self) -> str:
        """Return a subject that nobody else uses, to subscribe to."""
        self._count += 1
        return f"{self._inbox[:-1]}-{self._count}"

    async def _run(self) -> None:
        """Connect to one server after the other, and stay connected as long as possible."""
        failures = 0
        servers = itertools.cycle(self._servers)
        try:
            while True:
                server = next(servers)
                connection = NatsConnection(server, self._options, self._connection_lost)
                try:
                    await connection.open()
                    await self._connected(connection, server)
                except NatsError as error:
                    failures += 1
                    await connection.close()
                    throttle.warning(("NATS", server), "cannot use NATS at %s: %s", server, error)
                else:
                    failures = 0
                    await self._watch(connection)
                    await self._disconnected(connection)
                    throttle.warning(("NATS", server), "lost the connection to NATS at %s: %s", server, self._why_lost)
                delay = min(RETRY_S[1], RETRY_S[0] * 2 ** min(failures, 10))
                await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311 - no secret
        finally:
            if self._connection is not None:
                await self._disconnected(self._connection)

    async def _connected(self, connection: NatsConnection, server: NatsServer) -> None:
        """Subscribe, and let the connection be used. Raises `NatsError`."""
        if (version := _version(connection.version)) < MIN_VERSION:
            raise NatsError(f"it is version {'.'.join(map(str, version))}, but a cluster needs 2.11 or later")
        self._lost.clear()
        self._why_lost = ""
        await connection.subscribe(f"{self._inbox}*", self._answered)
        for subject, on_message in [*self._subscriptions.items()]:
            await self._subscribe(connection, subject, on_message)
        await connection.ping(PING_TIMEOUT_S)
        self._connection = connection
        self.server = str(server)
        self.is_connected = True
        throttle.info(("NATS", "connected"), "connected to NATS %s at %s", connection.version, server)
        for callback in self._on_state:
            callback(True)

    async def _watch(self, connection: NatsConnection) -> None:
        """Return when the connection is lost, or the server does not answer any more."""
        while not self._lost.is_set():
            with suppress(asyncio.TimeoutError):
                await wait_for(self._lost.wait(), PING_INTERVAL_S)
                return
            try:
                await connection.ping(PING_TIMEOUT_S)
            except NatsError as error:
                self._connection_lost(str(error))

    async def _disconnected(self, connection: NatsConnection) -> None:
        self._connection = None
        self.is_connected = False
        self._timer.cancel()
        self._timer = NO_TIMER
        waiting, self._waiting = self._waiting, {}
        for _, on_ack in waiting.values():
            on_ack(None)
        requests, self._requests = self._requests, {}
        for request in requests.values():
            _resolve(request, None)
        for callback in self._on_state:
            callback(False)
        await connection.close()

    def _connection_lost(self, why: str) -> None:
        self._why_lost = why
        self._lost.set()

    async def _subscribe(self, connection: NatsConnection, subject: str, on_message: OnMessage) -> None:
        def received(name: str, reply: str, data: bytes, headers: Headers) -> None:
            on_message(Message(name, reply, data, headers))

        await connection.subscribe(subject, received)

    def _answered(self, subject: str, reply: str, data: bytes, headers: Headers) -> None:
        """Handle a message in the inbox of this process."""
        token = subject[len(self._inbox) :]
        if waiting := self._waiting.pop(token, None):
            waiting[1](_ack(Message(subject, reply, data, headers)))
        elif request := self._requests.pop(token, None):
            _resolve(request, Message(subject, reply, data, headers))

    def _sweep(self) -> None:
        """Report the publishes whose time is over. All have the same time limit, so they are in order."""
        self._timer = NO_TIMER
        now = self._clock.now()
        while self._waiting:
            token, (deadline, on_ack) = next(iter(self._waiting.items()))
            if deadline > now:
                self._timer = self._clock.call_later(deadline - now, self._sweep)
                return
            del self._waiting[token]
            on_ack(None)


def _resolve(request: "asyncio.Future[Message | None]", answer: Message | None) -> None:
    """Resolve a request, unless its time was over in this turn of the loop."""
    if not request.done():
        request.set_result(answer)


def _ack(answer: Message) -> Ack:
    """Return the acknowledgement in `answer`."""
    if _is_unheard(answer):
        return Ack(0, "JetStream does not answer", int(_NO_RESPONDERS))
    found = orjson.loads(answer.data)
    if error := found.get("error"):
        return Ack(0, str(error.get("description", "refused")), int(error.get("err_code", 0)))
    return Ack(int(found["seq"]))


def _is_unheard(answer: Message) -> bool:
    """Return whether NATS says that nobody subscribes to the subject of a request."""
    return not answer.data and answer.headers.get("Status") == _NO_RESPONDERS


def _version(text: str) -> tuple[int, ...]:
    """Return major and minor version."""
    return tuple(int(part) if part.isdecimal() else 0 for part in text.split(".")[:2])
