"""The server's side of HTTP connections: requests in, responses in their order out, handshakes on to a client."""

import asyncio
import math
from typing import Final, cast

from wsaas.errors import HTTPError, RequestTimeout
from wsaas.http.deferred import DeferredResponse
from wsaas.http.request import BODY, CLOSED, HEAD, IDLE, RejectedRequest, Request, RequestParser
from wsaas.http.serialize import OK, OutgoingResponse, serialize, serialize_ok
from wsaas.transport.admission import REFUSAL_S
from wsaas.transport.deferring import DeferrableProtocol, DeferringProtocol
from wsaas.transport.run_queue import SLICE_S
from wsaas.transport.site import Site
from wsaas.transport.socket_address import peer_address
from wsaas.websocket.handshake import is_handshake

MAX_BATCH: Final = 32
"""Requests of one connection that are answered before other connections are served."""

LARGE_RESPONSE: Final = 64 * 1024
"""Bytes of a response after which other connections are served."""

_UNCONNECTED: Final = asyncio.Transport()


class HttpProtocol(DeferrableProtocol):
    """One connection that speaks HTTP.

    Responses leave in the order of their requests, those to a batch of pipelined ones in one write. While one of them
    is deferred, a `DeferringProtocol` has the transport.
    """

    __slots__ = (
        "_deadline",
        "_is_authorized",
        "_is_first",
        "_is_paused",
        "_is_queued",
        "_parser",
        "_site",
        "_transport",
    )

    def __init__(self, site: Site) -> None:
        """Serve what `site` serves."""
        self._deadline = 0.0
        # Nothing was answered yet.
        self._is_first = True
        # The other end does not take its responses.
        self._is_paused = False
        # It is the backend's, as an authorized request showed.
        self._is_authorized = False
        self._is_queued = False
        self._parser = RequestParser(site.context.settings.max_message_size, site.body_limit)
        self._site = site
        self._transport = _UNCONNECTED

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request, for `HANDSHAKE_TIMEOUT` at most."""
        self._transport = cast(asyncio.Transport, transport)
        context = self._site.context
        self._deadline = context.clock.now() + context.settings.handshake_timeout
        error = self._site.gate.admit(self)
        if error is not None:
            self._refuse_connection(error)
        context.timeouts.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Read no more, and leave the gate and the time-outs."""
        self._parser.close()
        self._site.gate.discard(self)
        self._site.context.timeouts.discard(self)

    def data_received(self, data: bytes) -> None:
        """Answer the requests that are complete."""
        push = self._parser.parse_push(data)
        if push is not None:
            # The shortcut of a push that comes alone (`python -m benchmarks micro`, case `push`).
            response = self._site.respond_to_path(push)
            if not self._is_authorized:
                self._is_first = False
                self._note_authorized(push)
            if response is OK:
                self._transport.write(serialize_ok(int(self._site.context.clock.wall())))
                self._deadline = 0.0
            elif isinstance(response, DeferredResponse):
                self._defer(push, response)
            else:
                self._transport.write(serialize(response, self._site.context.clock.wall(), push))
                self._deadline = 0.0
        else:
            self._parser.receive(data)
            if not self._is_queued:
                # While other connections wait, one request is answered at once, and the others are queued behind them.
                self._serve(0.0 if self._site.context.run_queue else SLICE_S)
            if self._parser.phase is BODY:
                self._site.context.memory.note(len(data))

    def pause_writing(self) -> None:
        """Answer no more requests until the responses so far are taken."""
        self._is_paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on with the requests that were received meanwhile."""
        self._is_paused = False
        if not self._is_queued:
            self._resume()

    def check_deadline(self, now: float) -> None:
        """Close a connection that is idle for too long, or whose request is not complete in time."""
        if not self._deadline:
            settings = self._site.context.settings
            is_slow = self._parser.phase is HEAD and not self._is_paused
            self._deadline = now + (settings.handshake_timeout if is_slow else settings.keep_alive_timeout)
        elif now >= self._deadline:
            if self._is_paused or self._parser.phase not in (HEAD, BODY) or self._transport.is_closing():
                self._transport.abort()
            else:
                self._end(self._site.serialize_error(RequestTimeout("The request did not arrive completely in time.")))

    def close_gracefully(self) -> None:
        """Send what is buffered and close, within `HANDSHAKE_TIMEOUT`."""
        self._deadline = self._site.context.closing_deadline()
        self._transport.close()

    # What the gate asks.

    def peer_address(self) -> str:
        """Return the address of the other end, empty for a Unix socket."""
        return peer_address(self._transport)

    def idle_since(self) -> float:
        """Return a time by which idle connections can be ordered, infinity for one that is within a request."""
        if self._parser.phase is not IDLE:
            return math.inf
        context = self._site.context
        return self._deadline or context.clock.now() + context.settings.keep_alive_timeout

    def abort(self) -> None:
        """Close at once, for want of descriptors."""
        self._parser.close()
        self._transport.abort()

    def _refuse_connection(self, error: HTTPError) -> None:
        """Answer `error` to a connection that was just accepted, if enough descriptors are left to wait for its end."""
        if self._site.gate.refuse(self):
            self._end(self._site.serialize_error(error))
            self._deadline = self._site.context.clock.now() + REFUSAL_S
        else:
            self._parser.close()
            self._transport.abort()

    def _note_authorized(self, request: Request) -> None:
        """Keep the connection if it is the backend's, as an authorized request shows."""
        if self._site.authorizes(request):
            self._is_authorized = True
            self._site.gate.mark_authorized(self)

    # Requests that were received, in their order.

    def _serve(self, seconds: float) -> None:
        """Answer requests that were received: one at least, others for `seconds`, at most a batch of them."""
        parser = self._parser
        before = parser.phase
        responses: list[bytes] = []
        has_more = self._answer_received(seconds, responses)
        if has_more is None:
            return
        phase = parser.phase
        if phase is CLOSED:
            if before is not CLOSED:
                self._end(b"".join(responses))
            return
        if responses:
            self._transport.write(b"".join(responses))
        if parser.is_busy or (has_more and parser.pending):
            self._wait_for_turn()
        if responses or (phase is not before and not (self._is_first and phase is HEAD)):
            # Something new is waited for: the next check sets its deadline. The first head's counts from the accept.
            self._is_first = False
            self._deadline = 0.0

    def _answer_received(self, seconds: float, responses: list[bytes]) -> bool | None:
        """Add the answers to what was received to `responses`, for `seconds` and a batch at most.

        Return whether the parser may have more; None where another protocol has the transport now, behind `responses`.
        """
        parser, timer = self._parser, self._site.context.run_queue.timer
        end = timer() + seconds
        while (item := parser.next()) is not None:
            if isinstance(item, Request) and b"upgrade" in item.headers and is_handshake(item):
                if self._accept_handshake(item, responses):
                    return None
            else:
                answer = self._site.answer(item, self)
                if not self._is_authorized and isinstance(item, Request | RejectedRequest):
                    self._note_authorized(item if isinstance(item, Request) else item.request)
                if isinstance(answer, DeferredResponse):
                    if responses:
                        self._transport.write(b"".join(responses))
                    self._defer(cast(Request, item), answer)
                    return None
                responses.append(answer)
            if len(responses) == MAX_BATCH or len(responses[-1]) >= LARGE_RESPONSE or timer() >= end:
                return True
        return False

    def _wait_for_turn(self) -> None:
        """Serve other connections before the rest of what was received."""
        self._transport.pause_reading()
        if not self._is_paused:
            self._is_queued = True
            self._site.context.run_queue.add(self._take_turn)

    def _take_turn(self) -> None:
        self._is_queued = False
        if not self._is_paused:
            self._resume()

    def _resume(self) -> None:
        """Serve what was received and not answered yet, and read on when that is done."""
        if not self._transport.is_closing():
            self._serve(SLICE_S)
            if not (self._is_queued or self._is_paused):
                self._transport.resume_reading()

    # What gives the transport to another protocol, or ends it.

    def _defer(self, request: Request, response: DeferredResponse) -> None:
        """Let the place of `response` be held."""
        # It is not idle: the gate evicts others first.
        self._deadline = math.inf
        DeferringProtocol(self._site.context, self._transport, self, request, response).start()

    def continue_with(self, request: Request, response: OutgoingResponse, data: bytes, *, is_paused: bool) -> None:
        """Send the `response` to `request`, which was deferred, and serve `data`, which came meanwhile."""
        self._deadline = 0.0
        self._is_first = False
        self._is_paused = is_paused
        self._parser.receive(data)
        is_last = self._parser.phase is CLOSED or not request.keep_alive
        serialized = serialize(response, self._site.context.clock.wall(), request)
        if is_last:
            self._end(serialized)
            return
        self._transport.write(serialized)
        if not self._is_paused:
            self._resume()

    def _accept_handshake(self, request: Request, responses: list[bytes]) -> bool:
        """Give the transport to a client that waits for the backend's decision, behind `responses`.

        Return False where the handshake is refused instead; why is the last of `responses` then.
        """
        try:
            accepted, address = self._site.check_handshake(request, self)
        except HTTPError as error:
            responses.append(self._site.serialize_error(error))
            self._parser.close()
            return False
        if responses:
            self._transport.write(b"".join(responses))
        self._site.gate.discard(self)
        self._site.context.timeouts.discard(self)
        self._site.admit(accepted, address, self._transport, self._parser.trailing_data)
        return True

    def _end(self, last_response: bytes) -> None:
        """Send the last response, and wait for the other end to close."""
        self._parser.close()
        if last_response:
            self._transport.write(last_response)
        self._deadline = self._site.context.half_close(self._transport)
