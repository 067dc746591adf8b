"""Keep-alive connections to the backend: a request out, its response (or why there is none) back by a plain call.

`Pool` decides, synchronously and without I/O of its own: which connection takes a request, when another is opened,
who waits and for how long. `PooledConnection` is the protocol of one connection. Opening one needs a task, which
belongs to the gateway: the pool asks for it through the `Opener` that it is given.
"""

import asyncio
import math
import random
import socket
import ssl
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Protocol, cast

from wsaas.clock import Clock
from wsaas.delivery.failure_report import NOT_RETRIED, log_unanswered, quote
from wsaas.http.response import REQUEST_TIMEOUT, BadResponse, Response, ResponseParser
from wsaas.log.throttle import throttle


class Failure(Enum):
    """Why there is no response. After `UNREACHABLE` and `POOL_TIMEOUT` it is certain that the backend saw nothing."""

    UNREACHABLE = "cannot be reached"
    POOL_TIMEOUT = "had no connection free in time"
    BROKEN = "closed the connection without a complete answer"
    TIMED_OUT = "did not answer in time"
    INVALID_RESPONSE = "did not answer in valid HTTP"


Outcome = Response | Failure

_ADVICE = {
    Failure.POOL_TIMEOUT: "answer sooner, or raise API_CONNECTIONS",
    Failure.BROKEN: "the backend's log may say why",
    Failure.TIMED_OUT: "answer sooner, or raise API_TIMEOUT",
    Failure.INVALID_RESPONSE: "the backend, or a proxy in front of it, has to be fixed",
}
_CONNECT_ADVICE = (
    (
        ssl.SSLCertVerificationError,
        "its certificate has to be valid for the host in API_URI, and signed by an authority in API_TLS_CA",
    ),
    (ssl.SSLError, "API_URI starts with https://: it has to lead to a server that speaks TLS"),
    (socket.gaierror, "correct the host in API_URI, or its DNS entry"),
    (Exception, "start it, or correct API_URI"),
)
"""What to do about each kind of failed connect; the first that fits."""

_MAYBE_TLS = "the backend's log may say why; if it speaks TLS, API_URI has to start with https://"
"""What to do where a connection ends without a byte."""

_NOT_HTTP = "API_URI has to lead to an HTTP server, and to start with https:// if that speaks TLS"
"""What to do where not even the first line is HTTP."""

EXCERPT_SIZE = 80
"""Bytes that are quoted of what is not HTTP."""

UNSENT = (Failure.UNREACHABLE, Failure.POOL_TIMEOUT)
"""Failures after which it is certain that the backend saw nothing."""


MIN_AGE_FACTOR, MAX_AGE_FACTOR = 0.8, 0.9
"""The parts of `Limits.age` between which each connection ends: not all at the same time, and none later than it may,
as the sweep that closes it comes within a tenth of that time."""


class Exchange(ABC):
    """A request, as bytes, and what is called with its outcome.

    `wait_timeout`: seconds that it may wait for a connection. `retried`: its sender sends it again after a failure.
    `fresh`: only a connection that served no request before will do.
    """

    __slots__ = ("deadline", "fresh", "request", "retried", "wait_timeout")

    def __init__(self, request: bytes, wait_timeout: float, *, retried: bool) -> None:
        """Start where nothing was sent yet."""
        self.request = request
        self.wait_timeout = wait_timeout
        self.retried = retried
        self.deadline = 0.0
        self.fresh = False

    @abstractmethod
    def answered(self, outcome: Outcome) -> None:
        """Take the outcome. Called once, and never before `Pool.send` returned."""


class Opener(Protocol):
    """Opens connections to the backend."""

    def __call__(self, factory: "Callable[[], PooledConnection]", on_error: Callable[[Exception], None]) -> None:
        """Start to connect and return. Either `factory` is called for the protocol, or `on_error`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Most `connections`; seconds for one `attempt` and for being `idle`; bytes of a `body` that are kept.

    `age`: seconds after which a connection takes no further request, so that a name that moves is followed.
    """

    connections: int
    attempt: float
    idle: float
    body: int
    age: float = math.inf


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """Open connections without and with an exchange on them, connections being opened, exchanges that wait for one."""

    idle: int
    busy: int
    opening: int
    waiting: int


NO_TRANSPORT = asyncio.Transport()
"""The transport of a connection that is not open: nothing is ever written to it."""


class PooledConnection(asyncio.Protocol):
    """One connection to the backend, with at most one exchange on it.

    `deadline`: when its answer is overdue or, without an exchange, when it was idle for too long.
    `expires`: when it is too old to take another exchange.
    `reused`: it was idle before, so that the backend may have closed it while the next request was on its way. The
    request is then sent again on a fresh connection, at once: when the connection ends without a byte of an answer, or
    with a 408 that closes it. By that, servers and proxies end connections on which no request came in time. It says
    that the server did not receive a complete request, which is why any request, a POST too, may be repeated (RFC 9110
    section 15.5.9). On a fresh connection there is no such race: a 408 is an answer like any other there.
    """

    __slots__ = ("_heard", "_pool", "_reader", "_transport", "deadline", "exchange", "expires", "reused")

    def __init__(self, pool: "Pool") -> None:
        """Belong to `pool`."""
        self._pool = pool
        self._reader = ResponseParser(pool.limits.body)
        self._transport = NO_TRANSPORT
        self._heard = False
        self.deadline = 0.0
        self.expires = math.inf
        self.exchange: Exchange | None = None
        self.reused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the connection to the pool."""
        self._transport = cast(asyncio.Transport, transport)
        self._pool.opened(self)

    def start(self, exchange: Exchange, deadline: float) -> None:
        """Send the request; its answer has until `deadline`. Only for an open connection without an exchange."""
        self.exchange = exchange
        self.deadline = deadline
        self._heard = False
        self._transport.write(exchange.request)

    def data_received(self, data: bytes) -> None:
        """Read the response."""
        is_first, self._heard = not self._heard, True
        try:
            response = self._reader.feed(data)
        except BadResponse as error:
            detail = f": {error}, in {quote(data[:EXCERPT_SIZE].decode('latin-1'))}"
            self.end(Failure.INVALID_RESPONSE, detail, _NOT_HTTP if is_first and not data.startswith(b"HTTP/") else "")
            return
        exchange = self.exchange
        if exchange is None:
            self.end(Failure.INVALID_RESPONSE)
        elif response is not None:
            self._answered(exchange, response)
        elif self._reader.is_request_timeout and self.reused:
            self._end_stale()

    def connection_lost(self, exc: Exception | None) -> None:
        """Finish the response that the end makes whole, or tell whoever waits for one that none will come.

        An end that is an error makes nothing whole (RFC 9112 section 8).
        """
        exchange = self.exchange
        if exchange is not None and exc is None and (response := self._reader.eof()) is not None:
            self._answered(exchange, response)
        self.end(Failure.BROKEN, f" ({exc})" if exc else "", "" if self._heard or exc else _MAYBE_TLS)

    def end(self, failure: Failure, detail: str = "", advice: str = "") -> None:
        """Close for good. An exchange on it ends in `failure`, or starts again if the connection was stale.

        `detail`: what else is known of the failure, for the log; `advice`: what to do about it, unless the usual.
        """
        exchange, self.exchange = self.exchange, None
        self._pool.closed(self)
        if self._transport is not NO_TRANSPORT:
            self._transport.abort()
            self._transport = NO_TRANSPORT
            self._reader.close()
        if exchange is None:
            return
        if failure is Failure.BROKEN and self.reused and not self._heard:
            exchange.fresh = True
            self._pool.send(exchange)
        else:
            if not self._pool.is_closed:
                _log(exchange, failure, detail, advice)
            exchange.answered(failure)

    def _end_stale(self) -> None:
        """Close for good: what was heard is no answer to the request."""
        self._heard = False
        self.end(Failure.BROKEN)

    def _answered(self, exchange: Exchange, response: Response) -> None:
        if not response.keep_alive and response.status == REQUEST_TIMEOUT and self.reused:
            self._end_stale()
            return
        self.exchange = None
        self.reused = True
        if response.keep_alive:
            self._pool.idle(self)
        else:
            self.end(Failure.BROKEN)
        exchange.answered(response)


class Pool:
    """The connections. The one used last is used first, so that sockets stay warm and spare ones can go."""

    def __init__(self, clock: Clock, open_connection: Opener, limits: Limits) -> None:
        """Open nothing before it is needed."""
        self._clock = clock
        self._open = open_connection
        self.limits = limits
        self._all: set[PooledConnection] = set()
        self._idle: list[PooledConnection] = []
        self._waiting: deque[Exchange] = deque()
        self._fresh: deque[Exchange] = deque()
        self._opening: set[PooledConnection] = set()
        self.is_closed = False

    def __repr__(self) -> str:
        """Say how many connections are in which state, and how many exchanges wait for one."""
        counts = self.counts()
        return f"<Pool idle={counts.idle} busy={counts.busy} opening={counts.opening} waiting={counts.waiting}>"

    def counts(self) -> PoolCounts:
        """Return how many connections are in which state, and how many exchanges wait for one."""
        idle = len(self._idle)
        waiting = len(self._waiting) + len(self._fresh)
        return PoolCounts(idle, len(self._all) - idle, len(self._opening), waiting)

    def send(self, exchange: Exchange) -> None:
        """Start `exchange` on an idle connection, or as soon as there is one for it."""
        if self._idle and not exchange.fresh:
            self._idle.pop().start(exchange, self._clock.now() + self.limits.attempt)
            return
        exchange.deadline = self._clock.now() + exchange.wait_timeout
        (self._fresh if exchange.fresh else self._waiting).append(exchange)
        self._open_more()

    def opened(self, connection: PooledConnection) -> None:
        """Take in a connection that was just opened; one that was given up for failed is closed."""
        if connection not in self._opening:
            connection.end(Failure.BROKEN)
            return
        self._opening.remove(connection)
        self._all.add(connection)
        connection.expires = self._clock.now() + self.limits.age * random.uniform(MIN_AGE_FACTOR, MAX_AGE_FACTOR)  # noqa: S311 - no secret
        if self._fresh:
            connection.start(self._fresh.popleft(), self._clock.now() + self.limits.attempt)
        else:
            self.idle(connection)
            connection.reused = connection.exchange is None

    def idle(self, connection: PooledConnection) -> None:
        """Give `connection`, which has no exchange, to the exchange that waits longest, or keep it."""
        now = self._clock.now()
        if self._fresh and not self._opening:
            # All connections are taken and somebody needs a new one: make room.
            connection.end(Failure.BROKEN)
        elif now >= connection.expires:
            # What waits gets a new one.
            connection.end(Failure.BROKEN)
        elif self._waiting:
            connection.start(self._waiting.popleft(), now + self.limits.attempt)
        else:
            connection.deadline = now + self.limits.idle
            self._idle.append(connection)

    def closed(self, connection: PooledConnection) -> None:
        """Forget `connection`; harmless when it was forgotten already."""
        if connection in self._all:
            self._all.remove(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._open_more()

    def sweep(self, now: float) -> None:
        """End what is overdue: answers, waiting, and idle connections that nobody needed for long or that are old."""
        for connection in list(self._all):
            # Asked now, not before: it may have been started again by what the end of another set off.
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
        """Fail the exchanges that wait for a connection and are retried: they wait for their retry instead."""
        returned = [exchange for exchange in self._waiting if exchange.retried]
        self._waiting = deque(exchange for exchange in self._waiting if not exchange.retried)
        for exchange in returned:
            _unsent(exchange, Failure.POOL_TIMEOUT)

    def close(self) -> None:
        """Close every connection; whatever is on one, or waits for one, fails."""
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
        """Give up `connection`; not one that was opened in the meantime, as its time-out may come a moment late."""
        if connection not in self._opening:
            return
        self._opening.remove(connection)
        cause = "connect", type(error), getattr(error, "errno", None)
        advice = next(text for kind, text in _CONNECT_ADVICE if isinstance(error, kind))
        throttle.warning(cause, "cannot connect to the backend: %s; %s", error, advice)
        if len(self._all) == len(self._idle):
            # Otherwise others are being served, and their connections will come free for those that wait.
            self._fail_all_waiting(Failure.UNREACHABLE)

    def _fail_all_waiting(self, failure: Failure) -> None:
        waiting = [*self._fresh, *self._waiting]
        self._fresh.clear()
        self._waiting.clear()
        for exchange in waiting:
            _unsent(exchange, failure)


def _log(exchange: Exchange, failure: Failure, detail: str = "", advice: str = "") -> None:
    """Log that `exchange` failed for the reason `failure`."""
    if exchange.retried:
        what = "the request is sent again"
    else:
        what = "a client was refused" if exchange.request.startswith(b"POST ") else NOT_RETRIED
    log_unanswered(exchange.request, failure.value, f"{what}; {advice or _ADVICE[failure]}", detail)


def _itself(connection: PooledConnection) -> PooledConnection:
    return connection


def _unsent(exchange: Exchange, failure: Failure) -> None:
    """Fail `exchange`, which got no connection. A `fresh` one was sent on a stale one: the backend may have seen it."""
    exchange.answered(Failure.BROKEN if exchange.fresh else failure)
