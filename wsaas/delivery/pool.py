"""Keep-alive connections to the backend, which send requests and report each response, or failure, by a callback.

`Pool` decides which connection takes a request, when another connection is opened, and how long a request waits for
one. It does so synchronously and without I/O of its own. `PooledConnection` is the protocol of one connection. To open
one takes a task, which the pool does not own: it calls the `Opener` that it is given.
"""

import asyncio
import math
import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Final, Protocol, cast

from wsaas.clock import Clock
from wsaas.delivery.failure_report import NOT_RETRIED, connect_advice, log_unanswered, quote
from wsaas.http.response import REQUEST_TIMEOUT, BadResponse, Response, ResponseParser
from wsaas.log.throttle import throttle


class Failure(Enum):
    """Why there is no response. The request was not sent after `UNREACHABLE` and `POOL_TIMEOUT`."""

    UNREACHABLE = "cannot be reached"
    POOL_TIMEOUT = "had no connection free in time"
    BROKEN = "closed the connection without a complete answer"
    TIMED_OUT = "did not answer in time"
    INVALID_RESPONSE = "did not answer in valid HTTP"


Outcome = Response | Failure

_ADVICE: Final = {
    Failure.POOL_TIMEOUT: "answer sooner, or raise API_CONNECTIONS",
    Failure.BROKEN: "the backend's log may say why",
    Failure.TIMED_OUT: "answer sooner, or raise API_TIMEOUT",
    Failure.INVALID_RESPONSE: "fix the backend, or the proxy in front of it",
}
_MAYBE_TLS: Final = "the backend's log may say why; if it speaks TLS, API_URI has to start with https://"
"""What to do if a connection ends before any data was received."""

_NOT_HTTP: Final = "API_URI has to lead to an HTTP server, and to start with https:// if that speaks TLS"
"""What to do if the first line of a response is not HTTP."""

EXCERPT_SIZE: Final = 80
"""Bytes of an invalid response that are logged."""

UNSENT: Final = (Failure.UNREACHABLE, Failure.POOL_TIMEOUT)
"""Failures of requests that were not sent."""


MIN_AGE_FACTOR: Final = 0.8
MAX_AGE_FACTOR: Final = 0.9
"""Each connection expires after a random part of `Limits.age` between these two, so that not all expire at once. The
next sweep closes it, which comes within a tenth of `Limits.age`."""


class Exchange(ABC):
    """A request, as bytes. `answered` is called with its outcome.

    `wait_timeout`: seconds that it may wait for a connection.
    `deadline`: when it has waited for too long.
    `retried`: its sender sends it again after a failure.
    `fresh`: it must be sent on a connection that has not been used before.
    `started`: when it was written to a connection, and `took`: seconds from then to its outcome.
    """

    __slots__ = ("deadline", "fresh", "request", "retried", "started", "took", "wait_timeout")

    def __init__(self, request: bytes, wait_timeout: float, *, retried: bool) -> None:
        """Send `request`; it may wait for a connection for `wait_timeout` seconds."""
        self.request = request
        self.wait_timeout = wait_timeout
        self.retried = retried
        self.deadline = 0.0
        self.fresh = False
        self.started = self.took = 0.0

    @abstractmethod
    def answered(self, outcome: Outcome) -> None:
        """Handle the outcome. Called once, and not before `Pool.send` has returned."""

    def explain(self, detail: str, advice: str) -> None:  # noqa: B027 - most senders do not need it
        """Learn what else is known about the `Failure` that `answered` gets next, and what to do about it."""

    @property
    def loss(self) -> str:
        """What a failure means if the request is not retried, for the log."""
        return NOT_RETRIED

    @property
    def refuses_client(self) -> bool:
        """Whether a client is refused if this fails. Otherwise, a failure may just be repeated."""
        return False


class Opener(Protocol):
    """Opens connections to the backend."""

    def __call__(self, factory: "Callable[[], PooledConnection]", on_error: Callable[[Exception], None]) -> None:
        """Start to connect, and return. Later, either `factory` is called for the protocol, or `on_error`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a pool.

    `connections`: maximum number of connections.
    `attempt`: seconds for one request.
    `idle`: seconds that a connection may be idle.
    `body`: maximum size of a response body, in bytes.
    `age`: seconds after which a connection is replaced, so that the pool follows changes in DNS.
    """

    connections: int
    attempt: float
    idle: float
    body: int
    age: float = math.inf


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """The connections without an exchange, with one, and being opened; and the exchanges that wait for a connection."""

    idle: int
    busy: int
    opening: int
    waiting: int


NO_TRANSPORT: Final = asyncio.Transport()
"""The transport of a connection that is not open: nothing is ever written to it."""


class PooledConnection(asyncio.Protocol):
    """One connection to the backend, with at most one exchange on it.

    `deadline`: when the response is overdue or, without an exchange, when the connection has been idle too long.
    `expires`: when it is too old to take another exchange.
    `reused`: the connection was idle before, so the backend may have closed it while the request was on its way.

    A reused connection is *stale* if it ends before any data is received, or with a 408 that closes it: servers and
    proxies end idle connections like this. The request is then sent again at once, on a fresh connection. That is safe
    for every method: the 408 says that the server did not receive a complete request (RFC 9110 section 15.5.9). On a
    fresh connection there is no such race, so a 408 is a response like any other.
    """

    __slots__ = ("_has_received", "_parser", "_pool", "_transport", "deadline", "exchange", "expires", "reused")

    def __init__(self, pool: "Pool") -> None:
        """Prepare a connection of `pool`; the pool's `Opener` opens it."""
        self._parser = ResponseParser(pool.limits.body)
        self._pool = pool
        self._transport = NO_TRANSPORT
        self._has_received = False
        self.deadline = 0.0
        self.expires = math.inf
        self.exchange: Exchange | None = None
        self.reused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the connection to the pool."""
        self._transport = cast(asyncio.Transport, transport)
        self._pool.opened(self)

    def start(self, exchange: Exchange, now: float) -> None:
        """Send the request, `now` (monotonic seconds). Only for an open connection without an exchange."""
        self.exchange = exchange
        exchange.started = now
        self.deadline = now + self._pool.limits.attempt
        self._has_received = False
        self._transport.write(exchange.request)

    def data_received(self, data: bytes) -> None:
        """Read the response."""
        is_first, self._has_received = not self._has_received, True
        try:
            response = self._parser.feed(data)
        except BadResponse as error:
            detail = f": {error}, in {quote(data[:EXCERPT_SIZE].decode('latin-1'))}"
            self.end(Failure.INVALID_RESPONSE, detail, _NOT_HTTP if is_first and not data.startswith(b"HTTP/") else "")
            return
        exchange = self.exchange
        if exchange is None:
            self.end(Failure.INVALID_RESPONSE)
        elif response is not None:
            self._answered(exchange, response)
        elif self._parser.is_request_timeout and self.reused:
            self._end_stale()

    def connection_lost(self, exc: Exception | None) -> None:
        """Complete a response that ends with the connection, or fail the exchange.

        An error completes no response (RFC 9112 section 8).
        """
        exchange = self.exchange
        if exchange is not None and exc is None and (response := self._parser.eof()) is not None:
            self._answered(exchange, response)
        self.end(Failure.BROKEN, f" ({exc})" if exc else "", "" if self._has_received or exc else _MAYBE_TLS)

    def end(self, failure: Failure, detail: str = "", advice: str = "") -> None:
        """Close the connection. An exchange on it fails with `failure`, or is sent again if the connection was stale.

        For the log: `detail` is what else is known about the failure, `advice` replaces the usual advice.
        """
        exchange, self.exchange = self.exchange, None
        self._pool.closed(self)
        if self._transport is not NO_TRANSPORT:
            self._transport.abort()
            self._transport = NO_TRANSPORT
            self._parser.close()
        if exchange is None:
            return
        if failure is Failure.BROKEN and self.reused and not self._has_received:
            exchange.fresh = True
            self._pool.send(exchange)
        else:
            if not self._pool.is_closed:
                _log(exchange, failure, detail, advice)
            exchange.took = self._pool.clock.now() - exchange.started
            exchange.answered(failure)

    def _end_stale(self) -> None:
        """Close a stale connection: the 408 is not an answer to the request."""
        self._has_received = False
        self.end(Failure.BROKEN)

    def _answered(self, exchange: Exchange, response: Response) -> None:
        keep_alive = response.keep_alive
        if not keep_alive and response.status == REQUEST_TIMEOUT and self.reused:
            self._end_stale()
            return
        self.exchange = None
        self.reused = True
        pool = self._pool
        now = pool.clock.now()
        exchange.took = now - exchange.started
        if keep_alive:
            pool.idle(self, now)
        else:
            self.end(Failure.BROKEN)
        exchange.answered(response)


class Pool:
    """The connections to the backend. The most recently used idle one is taken first, so that spare ones time out."""

    def __init__(self, clock: Clock, open_connection: Opener, limits: Limits) -> None:
        """Open connections with `open_connection`, within `limits`, when exchanges need them."""
        self.clock = clock
        self._open = open_connection
        self.limits = limits
        self._all: set[PooledConnection] = set()
        self._idle: list[PooledConnection] = []
        self._waiting: deque[Exchange] = deque()
        self._fresh: deque[Exchange] = deque()
        self._opening: set[PooledConnection] = set()
        self.is_closed = False

    def __repr__(self) -> str:
        """Show the counts."""
        counts = self.counts()
        return f"<Pool idle={counts.idle} busy={counts.busy} opening={counts.opening} waiting={counts.waiting}>"

    def counts(self) -> PoolCounts:
        """Return the number of connections in each state, and of the exchanges that wait."""
        idle = len(self._idle)
        waiting = len(self._waiting) + len(self._fresh)
        return PoolCounts(idle, len(self._all) - idle, len(self._opening), waiting)

    def send(self, exchange: Exchange) -> None:
        """Start `exchange` on an idle connection, or as soon as one is free."""
        if self._idle and not exchange.fresh:
            self._idle.pop().start(exchange, self.clock.now())
            return
        exchange.deadline = self.clock.now() + exchange.wait_timeout
        (self._fresh if exchange.fresh else self._waiting).append(exchange)
        self._open_more()

    def opened(self, connection: PooledConnection) -> None:
        """Use a connection that was just opened, or close it if it was given up meanwhile."""
        if connection not in self._opening:
            connection.end(Failure.BROKEN)
            return
        self._opening.remove(connection)
        self._all.add(connection)
        now = self.clock.now()
        connection.expires = now + self.limits.age * random.uniform(MIN_AGE_FACTOR, MAX_AGE_FACTOR)  # noqa: S311 - no secret
        if self._fresh:
            connection.start(self._fresh.popleft(), now)
        else:
            self.idle(connection, now)
            connection.reused = connection.exchange is None

    def idle(self, connection: PooledConnection, now: float) -> None:
        """Start the exchange that has waited longest on `connection`, or keep the connection idle."""
        if self._fresh and not self._opening:
            # All connections are in use, and an exchange needs a fresh one: close this one to make room.
            connection.end(Failure.BROKEN)
        elif now >= connection.expires:
            # An exchange that waits gets a new connection.
            connection.end(Failure.BROKEN)
        elif self._waiting:
            connection.start(self._waiting.popleft(), now)
        else:
            connection.deadline = now + self.limits.idle
            self._idle.append(connection)

    def closed(self, connection: PooledConnection) -> None:
        """Remove `connection`; harmless when that was done before."""
        if connection in self._all:
            self._all.remove(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._open_more()

    def sweep(self, now: float) -> None:
        """Fail the exchanges that are overdue, and close the connections that were idle too long or have expired."""
        for connection in list(self._all):
            # Checked here, as the end of another connection may have started an exchange on this one.
            if now >= connection.deadline or (now >= connection.expires and connection.exchange is None):
                connection.end(Failure.TIMED_OUT, f" ({self.limits.attempt:g} s)")
        late = [exchange for exchange in (*self._fresh, *self._waiting) if now >= exchange.deadline]
        if late:
            self._fresh = deque(exchange for exchange in self._fresh if now < exchange.deadline)
            self._waiting = deque(exchange for exchange in self._waiting if now < exchange.deadline)
            for exchange in late:
                _log(exchange, Failure.POOL_TIMEOUT)
                _unsent(exchange, Failure.POOL_TIMEOUT)

    def fail_waiting(self) -> None:
        """Fail all exchanges that wait for a connection."""
        self._fail_all_waiting(Failure.POOL_TIMEOUT)

    def fail_waiting_retries(self) -> None:
        """Fail the exchanges that wait for a connection and are retried: they queue in the circuit breaker instead."""
        returned = [exchange for exchange in self._waiting if exchange.retried]
        self._waiting = deque(exchange for exchange in self._waiting if not exchange.retried)
        for exchange in returned:
            _unsent(exchange, Failure.POOL_TIMEOUT)

    def close(self) -> None:
        """Close every connection, and fail all exchanges."""
        self.is_closed = True
        for connection in list(self._all):
            connection.end(Failure.TIMED_OUT)
        self._fail_all_waiting(Failure.POOL_TIMEOUT)

    def _open_more(self) -> None:
        wanted = len(self._fresh) + len(self._waiting)
        while len(self._opening) < wanted and len(self._all) + len(self._opening) < self.limits.connections:
            connection = PooledConnection(self)
            self._opening.add(connection)
            self._open(partial(_itself, connection), partial(self._failed, connection))

    def _failed(self, connection: PooledConnection, error: Exception) -> None:
        """Give up `connection`, which could not be opened, unless it opened at the moment of its time-out."""
        if connection not in self._opening:
            return
        self._opening.remove(connection)
        cause = "connect", type(error), getattr(error, "errno", None)
        fields = {"error": error, "advice": connect_advice(error)}
        throttle.warning(cause, "cannot connect to the backend: %(error)s; %(advice)s", fields)
        if len(self._all) == len(self._idle):
            # No connection is busy, so none will become free for the waiting exchanges.
            self._fail_all_waiting(Failure.UNREACHABLE)

    def _fail_all_waiting(self, failure: Failure) -> None:
        waiting = [*self._fresh, *self._waiting]
        self._fresh.clear()
        self._waiting.clear()
        for exchange in waiting:
            _unsent(exchange, failure)


def _log(exchange: Exchange, failure: Failure, detail: str = "", advice: str = "") -> None:
    """Log that `exchange` failed, and what follows."""
    exchange.explain(detail, advice or _ADVICE[failure])
    if exchange.retried:
        what = "the request is sent again"
    else:
        what = "a client was refused" if exchange.refuses_client else exchange.loss
    log_unanswered(exchange.request, failure.value, f"{what}; {advice or _ADVICE[failure]}", detail)


def _itself(connection: PooledConnection) -> PooledConnection:
    return connection


def _unsent(exchange: Exchange, failure: Failure) -> None:
    """Fail an exchange that waited. If it is `fresh`, it was sent before: the backend may have seen it."""
    exchange.answered(Failure.BROKEN if exchange.fresh else failure)
