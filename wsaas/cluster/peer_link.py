"""A connection to another process of the gateway, on which requests are pipelined.

The requests of one turn of the loop are sent in one write. The responses arrive in the order of the requests, so no
request needs a number.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, cast

from wsaas.clock import Clock
from wsaas.cluster.forwarded import PEER_HEAD, serialize_request
from wsaas.cluster.link_policy import WORKER_POLICY, LinkPolicy
from wsaas.cluster.link_state import CLOSED, CONNECTED, CONNECTING, FAILED, IDLE, TRANSITIONS, LinkState
from wsaas.errors import RETRY_AFTER, Gone, HTTPError, Unavailable, Unknown
from wsaas.http.deferred import PENDING, DeferredResponse
from wsaas.http.request import Request
from wsaas.http.response import BadResponse
from wsaas.http.response_stream import ResponseStream
from wsaas.http.serialize import OK, OutgoingResponse, error_response
from wsaas.log.throttle import throttle
from wsaas.run_queue import TURN_S, RunQueue

MAX_OUTSTANDING: Final = 4096
"""Requests on one link that wait for their responses."""

MAX_UNSENT: Final = 64 * 1024 * 1024
"""Bytes of requests that the peer has not read yet. One request always fits. A peer that works reads them in
milliseconds, so only a peer that hangs should ever make a caller wait."""

RESET: Final = struct.pack("ii", 1, 0)
"""The value of SO_LINGER with which a close resets the connection."""

NEVER: Final = float("inf")

IN_USE: Final = -1.0
"""The `idle_since` of a connection that was used after the last check."""

ProtocolFactory = Callable[[], asyncio.Protocol]
Connect = Callable[[ProtocolFactory, Callable[[Exception], None]], None]
"""Starts to connect and returns at once. Later it calls the factory, or the other function with what went wrong."""


@dataclass(frozen=True, slots=True)
class LinkServices:
    """What all links of a node share."""

    clock: Clock
    run_queue: RunQueue


Waiting = tuple[float, DeferredResponse]
"""A request that waits for its response: when it is due (monotonic seconds), and the response.

The link resolves the response in time, so the response itself has no deadline."""


class PeerConnection(asyncio.Protocol):
    """One connection of a link, and the requests on it.

    `waiting`: the requests without a response, oldest first. The last ones among them are in `unsent`, as bytes: they
    leave at the end of this turn of the loop, or as soon as the connection is open. `idle_since`: when a check first
    saw it without requests, `IN_USE` after each request.
    """

    __slots__ = (
        "_clock",
        "_is_full",
        "_is_queued",
        "_link",
        "_stream",
        "_timeout",
        "_transport",
        "_unsent_size",
        "idle_since",
        "unsent",
        "waiting",
    )

    def __init__(self, link: "PeerLink") -> None:
        """Belong to `link`. It has no transport yet."""
        self._clock = link.services.clock
        self._is_full = False
        self._is_queued = False
        self._link = link
        self._stream = ResponseStream()
        self._timeout = link.policy.timeout
        self._transport: asyncio.Transport | None = None
        self._unsent_size = 0
        self.idle_since = IN_USE
        self.unsent: deque[bytes] = deque()
        self.waiting: deque[Waiting] = deque()

    def send(self, request: bytes) -> DeferredResponse:
        """Send a serialized request. Raises `Unavailable` where too much waits for the peer already."""
        if self._is_full or self._unsent_size > MAX_UNSENT or len(self.waiting) >= MAX_OUTSTANDING:
            raise self._link.overload()
        response = DeferredResponse(NEVER, _ignore)
        self.resend(request, (self._clock.now() + self._timeout, response))
        return response

    def resend(self, request: bytes, waiting: Waiting) -> None:
        """Send a request that may not have been sent on an earlier connection."""
        unsent = self.unsent
        if not unsent and self._transport is not None:
            self._clock.call_later(0.0, self._flush)
        unsent.append(request)
        self._unsent_size += len(request)
        self.idle_since = IN_USE
        self.waiting.append(waiting)

    def drop_unsent(self) -> DeferredResponse:
        """Drop the oldest request, and return its response. Only before the connection is open."""
        self._unsent_size -= len(self.unsent.popleft())
        return self.waiting.popleft()[1]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the requests that wait."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(MAX_UNSENT)
        self._link.connected(self)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Resolve the responses that are complete now."""
        self._stream.receive(data)
        if not self._is_queued:
            self._resolve(TURN_S)

    def pause_writing(self) -> None:
        """Take no more requests: the peer does not read them."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Take requests again."""
        self._is_full = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Resolve the responses that arrived before, and report the loss to the link."""
        self._resolve(NEVER)
        self._link.lost(self, self._link.describe(exc) if exc else "")

    def abort(self) -> None:
        """Close at once. What the peer has not received is lost: it may not be carried out much later.

        The kernel would send it again for minutes, so it would arrive after the end of a partition.
        """
        transport = self._transport
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        if sock is not None and self.waiting and not transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        transport.abort()

    def _flush(self) -> None:
        unsent = self.unsent
        # After an error, a transport of uvloop raises for a write. What was not sent is sent again after the loss.
        if unsent and self._transport is not None and not self._transport.is_closing():
            # uvloop makes a system call for each write.
            self._transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))
            unsent.clear()
            self._unsent_size = 0

    def _resolve(self, seconds: float) -> None:
        """Resolve complete responses for `seconds`; the others follow in later turns of the loop.

        They are for many callers, so they get the time that all queued connections together get.
        """
        stream, waiting, run_queue = self._stream, self.waiting, self._link.services.run_queue
        end = run_queue.timer() + seconds
        try:
            while (response := stream.next()) is not None:
                if len(waiting) == len(self.unsent):
                    self._link.lost(self, ": it sent a response to no request")
                    return
                waiting.popleft()[1].resolve(response if response is OK else self._link.judge(response))
                if run_queue.timer() >= end:
                    self._is_queued = True
                    run_queue.add(self._take_turn)
                    return
        except BadResponse as error:
            self._link.lost(self, f": a response is not valid: {error}")

    def _take_turn(self) -> None:
        self._is_queued = False
        self._resolve(TURN_S)


class PeerLink:
    """Forwards requests to one peer. It connects when the first request has to be sent, and again after a loss.

    Each response is resolved, at the latest by `sweep` after the time-out of the `policy`. If the peer does not answer,
    the response is 503 for a request that was not sent, and 504 for a request that may have been carried out. If the
    peer is gone, it is 410, as its clients are gone with it.

    A lost connection decides nothing at first: the requests without a response wait for the news that the peer is gone.
    """

    __slots__ = ("_connect", "_connection", "_end", "_lost", "_name", "policy", "services", "state")

    def __init__(self, services: LinkServices, name: str, connect: Connect, policy: LinkPolicy = WORKER_POLICY) -> None:
        """Reach the peer `name` by `connect`. The name is for the log."""
        self.policy = policy
        self.services = services
        self._connect = connect
        self._connection = PeerConnection(self)
        self._end: HTTPError = Gone("This connection has ended.")
        self._lost: deque[Waiting] = deque()
        self._name = name
        self.state = IDLE

    def forward(self, request: Request, connection_id: str) -> DeferredResponse:  # noqa: ARG002 - a peer may need it
        """See `router.Peer`. Raises `Unavailable` where too much waits for the peer already."""
        return self.send(serialize_request(request))

    def head(self, request: Request) -> bytes:  # noqa: ARG002 - a node needs it
        """Return the first headers of a request on behalf of the caller of `request`."""
        return PEER_HEAD

    def send(self, request: bytes) -> DeferredResponse:
        """Send a serialized request. Raises `Unavailable` where too much waits for the peer, `Gone` if it is gone."""
        state = self.state
        if state is CLOSED:
            raise self._end.with_traceback(None)
        response = self._connection.send(request)
        if state is IDLE:
            self._open()
        return response

    def sweep(self, now: float) -> None:
        """Resolve the responses that are overdue, and connect again after a failure. Close idle connections."""
        lost, connection = self._lost, self._connection
        while lost and lost[0][0] <= now:
            lost.popleft()[1].resolve(_unknown())
        if self.state is CONNECTED:
            _give_up_due(connection.waiting, now)
            self._check_connection(connection, now)
            return
        while connection.unsent and connection.waiting[0][0] <= now:
            connection.drop_unsent().resolve(error_response(self._unreachable()))
        if self.state is FAILED:
            if connection.unsent:
                self._open()
            else:
                self._move(IDLE)

    def close(self, error: HTTPError | None = None) -> None:
        """Close the connection: the peer is gone, or the node is stopping.

        Requests are answered with 410, or with `error`.
        """
        self._end = error or self._end
        self._move(CLOSED)
        connection = self._connection
        connection.abort()
        connection.unsent.clear()
        waiting = [*self._lost, *connection.waiting]
        self._lost.clear()
        connection.waiting.clear()
        for _, response in waiting:
            if response.state is PENDING:
                response.resolve(error_response(self._end))

    # What the connection calls.

    def judge(self, response: OutgoingResponse) -> OutgoingResponse:
        """Return the response to pass on for one that is not `OK`."""
        return response

    def describe(self, error: Exception) -> str:
        """Return what an `error` of the connection was, to put after "was lost"."""
        return f" ({error})"

    def overload(self) -> HTTPError:
        """Return the error for a request that cannot be taken."""
        return Unavailable(f"Too many requests wait for {self._name}.", RETRY_AFTER)

    def connected(self, connection: PeerConnection) -> None:
        """The connection is open."""
        if self.state is CLOSED:
            connection.abort()
        else:
            self._move(CONNECTED)

    def lost(self, connection: PeerConnection, why: str) -> None:
        """The connection was lost, or cannot be used any more."""
        if self.state is CLOSED or connection is not self._connection:
            return
        connection.abort()
        if len(connection.waiting) > len(connection.unsent):
            text = "the connection to %s was lost%s; requests on it may have been carried out"
            throttle.warning(("peer lost", self._name), text, self._name, why)
        self._connection = PeerConnection(self)
        limit = self.services.clock.now() + self.policy.verdict
        while len(connection.waiting) > len(connection.unsent):
            due, response = connection.waiting.popleft()
            self._lost.append((min(due, limit), response))
        for request, waiting in zip(connection.unsent, connection.waiting, strict=True):
            self._connection.resend(request, waiting)
        if connection.unsent:
            self._open()
        else:
            self._move(IDLE)

    def _open(self) -> None:
        self._move(CONNECTING)
        self._connect(self._current, self._failed)

    def _current(self) -> PeerConnection:
        return self._connection

    def _failed(self, error: Exception) -> None:
        if self.state is CONNECTING:
            throttle.warning(("peer connect", self._name), "cannot connect to %s: %s", self._name, error)
            self._move(FAILED)
            if not self.policy.is_patient:
                self._refuse_unsent()

    def _refuse_unsent(self) -> None:
        """Answer the requests that were not sent with 503."""
        connection = self._connection
        # The callers may send their next requests meanwhile: these wait for the next connection.
        for _ in range(len(connection.unsent)):
            connection.drop_unsent().resolve(error_response(self._unreachable()))

    def _check_connection(self, connection: PeerConnection, now: float) -> None:
        """Replace a connection on which nothing is answered, and close an idle one."""
        waiting = connection.waiting
        if waiting:
            if waiting[0][0] + self.policy.silence <= now:
                self.lost(connection, ": it has not answered for too long")
        elif connection.idle_since == IN_USE:
            connection.idle_since = now
        elif connection.idle_since + self.policy.idle <= now:
            self.lost(connection, "")

    def _unreachable(self) -> HTTPError:
        return Unavailable(f"The process that holds this connection ({self._name}) cannot be reached.", RETRY_AFTER)

    def _move(self, state: LinkState) -> None:
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"a link that is {self.state.value} cannot be {state.value}")
        self.state = state


def _give_up_due(waiting: deque[Waiting], now: float) -> None:
    """Answer the requests that are due with 504. They keep their places in `waiting` for their late responses."""
    if waiting and waiting[0][0] <= now:
        # A copy, as callers send their next requests.
        for _, response in list(takewhile(lambda each: each[0] <= now, waiting)):
            if response.state is PENDING:
                response.give_up(_unknown())


def _unknown() -> OutgoingResponse:
    why = "The process that holds this connection did not answer in time: the request may have been carried out."
    return error_response(Unknown(why))


def _ignore() -> None:
    """Do nothing: the response is dropped when it arrives."""
