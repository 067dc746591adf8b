"""HTTP connections in: REST requests to their answers, handshakes on to a client's edge."""

import asyncio
import math
from dataclasses import dataclass
from typing import cast

from wsaas import errors
from wsaas.api.api import Api, refuse
from wsaas.http.request import BODY, DEAD, HEAD, IDLE, Item, RejectedRequest, Request, RequestParser
from wsaas.http.serialize import answer, dated, fault_answer, kept_alive
from wsaas.log.throttle import throttle
from wsaas.sessions.registry import Registry
from wsaas.transport.admission import REFUSAL_S, Gate
from wsaas.transport.context import ServerContext
from wsaas.transport.pending_client import PendingClientProtocol
from wsaas.transport.run_queue import SLICE_S
from wsaas.transport.socket_address import peer_address
from wsaas.websocket import handshake

BURST = 32
"""Requests of one connection that are answered before others have their turn."""

_NOT_HERE = "This address serves only WebSockets."

MAX_ORIGIN = 100
"""Characters of an `Origin` that the log shows."""

LARGE = 64 * 1024
"""Bytes of an answer behind which others have their turn too."""


@dataclass(frozen=True, slots=True)
class Site:
    """What the connections of one listener share.

    `control` is None where REST requests find nothing, `registry` where clients do.
    """

    common: ServerContext
    control: Api | None
    registry: Registry | None
    gate: Gate

    def body_limit(self, request: Request) -> int:
        """Return how many bytes of its body are needed to answer `request`; see `http1.BodyLimit`."""
        if request.target == b"*":
            return 0
        if self.control is None:
            raise errors.NotFound(_NOT_HERE)
        return self.control.body_limit(request)


class HttpProtocol(asyncio.Protocol):
    """One connection that speaks HTTP. Answers leave in the order of the requests, those to one burst in one write."""

    __slots__ = ("_deadline", "_new", "_paused", "_proven", "_queued", "_reader", "_site", "_transport")

    def __init__(self, site: Site) -> None:
        """Serve what `site` has."""
        self._deadline = 0.0
        self._new = True
        self._paused = False
        self._proven = False
        self._queued = False
        self._reader = RequestParser(site.common.settings.max_message_size, site.body_limit)
        self._site = site
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request, but not for ever."""
        self._transport = cast(asyncio.Transport, transport)
        common = self._site.common
        self._deadline = common.clock.now() + common.settings.handshake_timeout
        fault = self._site.gate.admit(self)
        if fault is not None:
            self._turn_away(fault)
        common.timeouts.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Let go of everything."""
        self._reader.close()
        self._site.gate.discard(self)
        self._site.common.timeouts.discard(self)

    def data_received(self, data: bytes) -> None:
        """Answer the requests that became whole."""
        push = self._reader.whole(data)
        if push is not None:
            if not self._proven:
                self._prove(push)
            self._transport.write(dated(self._say(push), self._site.common.clock.wall()))
            self._new = False
            self._deadline = 0.0
        else:
            self._reader.receive(data)
            if not self._queued:
                # While others wait for their turn one request is answered at once, and the rest is queued behind them.
                self._serve(0.0 if self._site.common.run_queue else SLICE_S)
            if self._reader.phase is BODY:
                self._site.common.memory.note(len(data))

    def pause_writing(self) -> None:
        """Who does not read answers gets no further ones."""
        self._paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._paused = False
        if not self._queued:
            self._go_on()

    def check_deadline(self, now: float) -> None:
        """Close a connection that is idle for too long, or whose request does not come to its end."""
        if not self._deadline:
            settings = self._site.common.settings
            slow = self._reader.phase is HEAD and not self._paused
            self._deadline = now + (settings.handshake_timeout if slow else settings.keep_alive_timeout)
        elif now >= self._deadline:
            if self._paused or self._reader.phase not in (HEAD, BODY) or self._transport.is_closing():
                self._transport.abort()
            else:
                fault = errors.RequestTimeout("The request did not arrive completely in time.")
                self._end(self._fault(fault))

    def close_gracefully(self) -> None:
        """Send what is buffered, but not for ever, and close."""
        self._deadline = self._site.common.closing_deadline()
        self._transport.close()

    # What the gate asks.

    def peer_address(self) -> str:
        """Return the address of the other end, empty for a Unix socket."""
        return peer_address(self._transport)

    def idle_since(self) -> float:
        """Return a time by which idle connections can be ordered, infinity for one that is within a request."""
        if self._reader.phase is not IDLE:
            return math.inf
        settings = self._site.common.settings
        return self._deadline or self._site.common.clock.now() + settings.keep_alive_timeout

    def abort(self) -> None:
        """Close at once."""
        self._reader.close()
        self._transport.abort()

    def _prove(self, request: Request) -> None:
        """Let a connection stay that is the backend's, as an authorized request shows."""
        control = self._site.control
        if control is not None and control.authorizes(request):
            self._proven = True
            self._site.gate.mark_authorized(self)

    def _turn_away(self, fault: errors.HTTPError) -> None:
        """Refuse a connection that was just accepted, without a descriptor for long."""
        if self._site.gate.refuse(self):
            self._end(self._fault(fault))
            self._deadline = self._site.common.clock.now() + REFUSAL_S
        else:
            self._reader.close()
            self._transport.abort()

    def _serve(self, seconds: float) -> None:
        """Answer requests that were read: one at least, others for `seconds`, and no more than this client takes."""
        reader, timer = self._reader, self._site.common.run_queue.timer
        end = timer() + seconds
        before = reader.phase
        answers: list[bytes] = []
        while (item := reader.next()) is not None:
            if type(item) is Request and b"upgrade" in item.headers and handshake.is_handshake(item):
                if self._shake_hands(item, answers):
                    return
            else:
                answers.append(self._answer(item))
            if len(answers) == BURST or len(answers[-1]) >= LARGE or timer() >= end:
                break
        phase = reader.phase
        if phase is DEAD:
            if before is not DEAD:
                self._end(b"".join(answers))
            return
        if answers:
            self._transport.write(answers[0] if len(answers) == 1 else b"".join(answers))
        if reader.is_busy or (item is not None and reader.pending):
            self._wait_for_turn()
        if answers or (phase is not before and not (self._new and phase is HEAD)):
            # Something new is waited for: the next sweep sets its deadline. The first head's runs since the accept.
            self._new = False
            self._deadline = 0.0

    def _wait_for_turn(self) -> None:
        """Leave the rest of what was read, which may be more requests, until others had their turn."""
        self._transport.pause_reading()
        if not self._paused:
            self._queued = True
            self._site.common.run_queue.add(self._take_turn)

    def _take_turn(self) -> None:
        self._queued = False
        if not self._paused:
            self._go_on()

    def _go_on(self) -> None:
        """Serve what was read and left alone, and read again when that is done."""
        if not self._transport.is_closing():
            self._serve(SLICE_S)
            if not (self._queued or self._paused):
                self._transport.resume_reading()

    def _answer(self, item: Item) -> bytes:
        if type(item) is Request:
            request, fault = item, None
        elif type(item) is RejectedRequest:
            request, fault = item.request, item.fault
        else:
            return item if isinstance(item, bytes) else self._fault(cast(errors.HTTPError, item))
        if request.method == b"GET" and self._site.registry is not None and handshake.lost_upgrade(request):
            _warn_of_proxy(self.peer_address())
            return dated(refuse(request, handshake.upgrade_lost()), self._site.common.clock.wall())
        said = self._say(request) if fault is None else refuse(request, fault)
        if not self._proven:
            self._prove(request)
        if request.keep_alive and request.version == "1.0":
            said = kept_alive(said)
        return dated(said, self._site.common.clock.wall())

    def _say(self, request: Request) -> bytes:
        if request.target == b"*":
            # About no resource: a ping (RFC 9110 section 9.3.7).
            return answer(200, b"", ("Allow", "GET, HEAD, PUT, DELETE, OPTIONS"), keep_alive=request.keep_alive)
        if self._site.control is not None:
            return self._site.control.answer(request)
        return refuse(request, errors.NotFound(_NOT_HERE))

    def _fault(self, fault: errors.HTTPError) -> bytes:
        """Return the last answer."""
        return dated(fault_answer(fault, keep_alive=False), self._site.common.clock.wall())

    def _shake_hands(self, request: Request, answers: list[bytes]) -> bool:
        """Return whether the client is on its way in; otherwise why not is the last of `answers`."""
        site = self._site
        try:
            if site.registry is None:
                raise errors.NotFound("This address does not serve WebSockets.")
            settings = site.common.settings
            shaken = handshake.read(request, settings.allowed_origins, compression=settings.compression)
            address = self._remote_address(request)
            site.gate.check_client()
            site.registry.check(address, site.gate.count_of(self, address))
        except errors.HTTPError as fault:
            _log_refusal(self.peer_address(), request, fault)
            answers.append(self._fault(fault))
            self._reader.close()
            return False
        transport = self._transport
        if answers:
            transport.write(b"".join(answers))
        site.gate.discard(self)
        site.common.timeouts.discard(self)
        door = PendingClientProtocol(site.common, transport, shaken, self._reader.rest)
        transport.set_protocol(door)
        door.session = site.registry.admit(shaken, address, door)
        return True

    def _remote_address(self, request: Request) -> str:
        """Return the address of whoever sent `request`, empty where a Unix socket hides it."""
        address = peer_address(self._transport)
        if b"x-forwarded-for" not in request.headers:
            return address
        forwarded = [entry.decode("latin-1") for entry in request.tokens(b"x-forwarded-for")]
        return self._site.common.settings.trusted_proxies.client(address, forwarded)

    def _end(self, last_words: bytes) -> None:
        """Send the last answer, and wait for the peer to close."""
        self._reader.close()
        if last_words:
            self._transport.write(last_words)
        self._deadline = self._site.common.half_close(self._transport)


def _log_refusal(address: str, request: Request, fault: errors.HTTPError) -> None:
    """Log that a handshake from `address` is refused, and why, before the backend hears of it."""
    if handshake.lost_upgrade(request) or (request.method == b"GET" and request.version == "1.0"):
        _warn_of_proxy(address)
        return
    log = throttle.warning if isinstance(fault, errors.Unavailable) else throttle.info
    why = fault.message
    if isinstance(fault, errors.Forbidden):
        origin = request.headers.get(b"origin", b"").decode("latin-1")
        why += f" ALLOWED_ORIGINS does not have {origin[:MAX_ORIGIN]!r}"
    log(("handshake", fault.message), "a handshake from %s was refused with %d: %s", _shown(address), fault.status, why)


def _warn_of_proxy(address: str) -> None:
    """Log that handshakes do not get through the proxy at `address`."""
    throttle.warning(
        "upgrade lost",
        "a WebSocket handshake from %s came without its Upgrade, or as HTTP/1.0: if that is a proxy, %s",
        _shown(address),
        handshake.UPGRADE_ADVICE,
    )


def _shown(address: str) -> str:
    return address or "a Unix socket"
