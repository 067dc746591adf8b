"""The server side of HTTP: answers requests in their order, and lends its transport while an answer has to wait."""

import math
from enum import Enum
from typing import Final, cast

from wsaas.errors import HTTPError
from wsaas.http.deferred import DeferredResponse
from wsaas.http.request import BODY, CLOSED, HEAD, RejectedRequest, Request
from wsaas.http.serialize import OK, OutgoingResponse, serialize, serialize_ok
from wsaas.http.streamed import StreamedResponse
from wsaas.run_queue import SLICE_S
from wsaas.transport.deferring import DeferringProtocol
from wsaas.transport.http_connection import AT_NEXT_CHECK, HttpConnection
from wsaas.transport.pending_client import PendingClientProtocol
from wsaas.transport.site import Site
from wsaas.transport.streaming import StreamingProtocol
from wsaas.websocket.handshake import is_handshake

MAX_BATCH: Final = 32
"""Maximum number of requests of one connection that are answered before other connections are served."""

LARGE_RESPONSE: Final = 64 * 1024
"""Size (bytes) of a response after which other connections are served."""


class Progress(Enum):
    """How far the received requests were answered."""

    ALL_ANSWERED = "all complete requests were answered"
    SLICE_OVER = "the slice of time is over: more requests may be complete"
    TAKEN_OVER = "another protocol has taken over the transport"


ALL_ANSWERED: Final = Progress.ALL_ANSWERED
SLICE_OVER: Final = Progress.SLICE_OVER
TAKEN_OVER: Final = Progress.TAKEN_OVER


Waiting = tuple[Request, DeferredResponse] | PendingClientProtocol


class HttpProtocol(HttpConnection):
    """One HTTP connection.

    Responses are sent in the order of their requests. The responses to a batch of pipelined requests are sent in one
    write. `_is_first`: no request was answered yet. `_is_queued`: the connection waits for its turn in the run queue.
    `_is_half_closed`: the caller has closed its side, so the connection ends when all requests are answered.
    `_waiting`: a request whose response is deferred, and this response; or the client that sent a handshake. If
    anything happens before the answer is there, a `DeferringProtocol` or the protocol of the client takes over the
    transport. Usually nothing does, which saves two changes of the protocol for each push that is forwarded, and one
    for each client.
    """

    __slots__ = ("_is_first", "_is_half_closed", "_is_queued", "_waiting")

    def __init__(self, site: Site) -> None:
        """Serve `site`."""
        super().__init__(site)
        self._is_first = True
        self._is_half_closed = False
        self._is_queued = False
        self._waiting: Waiting | None = None

    def data_received(self, data: bytes) -> None:
        """Answer the requests that are complete now."""
        if self._waiting is not None:
            self._hand_over(self._waiting).data_received(data)
            return
        if self._is_first and (handshake := self._parser.parse_handshake(data)) is not None:
            # The shortcut for a handshake (`python -m benchmarks micro`, case `connect and disconnect`).
            refusal: list[bytes] = []
            if not self._accept_handshake(handshake, refusal):
                self._end(b"".join(refusal))
            return
        push = self._parser.parse_push(data)
        if push is not None:
            # The shortcut for a push that arrives alone (`python -m benchmarks micro`, case `push`).
            response = self._site.respond_to_path(push)
            if not self._is_authorized:
                self._is_first = False
                self._note_authorized(push)
            if response is OK:
                self._transport.write(serialize_ok(int(self._site.context.clock.wall())))
                self._deadline = AT_NEXT_CHECK
            elif not isinstance(response, OutgoingResponse):
                self._begin_answer(push, response)
            else:
                self._transport.write(serialize(response, self._site.context.clock.wall(), push))
                self._deadline = AT_NEXT_CHECK
        else:
            self._parser.receive(data)
            if not self._is_queued:
                # While other connections wait, one request is answered at once, and the rest after these connections.
                self._serve(0.0 if self._site.context.run_queue.waiting else SLICE_S)
            if self._parser.phase is BODY:
                self._site.context.memory.note(len(data))

    def eof_received(self) -> bool:
        """Close, but only after a deferred response: a caller may close its side after its last request."""
        return self._waiting is not None and bool(self._hand_over(self._waiting).eof_received())

    def pause_writing(self) -> None:
        """Stop answering until the peer has read earlier responses."""
        if self._waiting is not None:
            self._hand_over(self._waiting).pause_writing()
            return
        self._is_write_paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Answer the requests that arrived meanwhile."""
        self._is_write_paused = False
        if not self._is_queued:
            self._resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """End; cancel a deferred response, or end the session of a client that waits."""
        # Nothing takes over a lost transport: it would refer to its protocol for ever.
        waiting, self._waiting = self._waiting, None
        super().connection_lost(exc)
        if isinstance(waiting, PendingClientProtocol):
            waiting.connection_lost(exc)
        elif waiting is not None:
            waiting[1].cancel()

    def check_deadline(self, now: float) -> None:
        """Close the connection if it was idle for too long, or its request was not complete in time."""
        if self._waiting is not None:
            self._hand_over(self._waiting).check_deadline(now)
        else:
            super().check_deadline(now)

    def close_gracefully(self) -> None:
        """Send what is buffered and close, within `HANDSHAKE_TIMEOUT`."""
        if self._waiting is not None:
            self._hand_over(self._waiting).close_gracefully()
        else:
            super().close_gracefully()

    def continue_with(
        self, request: Request, response: OutgoingResponse, data: bytes, *, is_write_paused: bool, is_last: bool
    ) -> None:
        """Send the deferred `response` to `request`, then serve `data`, which was buffered meanwhile."""
        serialized = serialize(response, self._site.context.clock.wall(), request)
        self.go_on(request, serialized, data, is_write_paused=is_write_paused, is_last=is_last)

    def go_on(self, request: Request, serialized: bytes, data: bytes, *, is_write_paused: bool, is_last: bool) -> None:
        """Send the rest of the response to `request`, then serve `data`, which was buffered meanwhile."""
        self._deadline = AT_NEXT_CHECK
        self._is_first = False
        self._is_half_closed |= is_last
        self._is_write_paused = is_write_paused
        self._parser.receive(data)
        if self._parser.phase is CLOSED or not request.keep_alive:
            self._end(serialized)
            if self._is_half_closed:
                self.close_gracefully()
            return
        self._transport.write(serialized)
        if not is_write_paused and (data or self._is_half_closed or self._parser.pending or self._parser.is_busy):
            self._resume()

    def _serve(self, seconds: float) -> None:
        """Answer received requests: at least one, and others for `seconds`, up to `MAX_BATCH`."""
        parser = self._parser
        before = parser.phase
        responses: list[bytes] = []
        progress = self._answer_received(seconds, responses)
        if progress is TAKEN_OVER:
            return
        phase = parser.phase
        if phase is CLOSED:
            if before is not CLOSED:
                self._end(b"".join(responses))
            return
        if responses:
            self._transport.write(b"".join(responses))
        if parser.is_busy or (progress is SLICE_OVER and parser.pending):
            self._wait_for_turn()
        if responses or (phase is not before and not (self._is_first and phase is HEAD)):
            # The time limit of the first head counts from the accept, so it is not set again.
            self._is_first = False
            self._deadline = AT_NEXT_CHECK

    def _answer_received(self, seconds: float, responses: list[bytes]) -> Progress:
        """Append the responses to received requests to `responses`, for `seconds`, up to `MAX_BATCH`.

        If another protocol has taken over the transport, the responses were sent already.
        """
        parser, timer = self._parser, self._site.context.run_queue.timer
        end = timer() + seconds
        while (item := parser.next()) is not None:
            if isinstance(item, Request) and b"upgrade" in item.headers and is_handshake(item):
                if self._accept_handshake(item, responses):
                    return TAKEN_OVER
            else:
                answer = self._site.answer(item, self)
                if not self._is_authorized and isinstance(item, Request | RejectedRequest):
                    self._note_authorized(item if isinstance(item, Request) else item.request)
                if not isinstance(answer, bytes):
                    if responses:
                        self._transport.write(b"".join(responses))
                    self._begin_answer(cast(Request, item), answer)
                    return TAKEN_OVER
                responses.append(answer)
            if len(responses) == MAX_BATCH or len(responses[-1]) >= LARGE_RESPONSE or timer() >= end:
                return SLICE_OVER
        return ALL_ANSWERED

    def _accept_handshake(self, request: Request, responses: list[bytes]) -> bool:
        """Send `responses`, and hand the transport to the protocol of a client that waits for the backend's decision.

        Return False if the handshake is refused instead. The error is then appended to `responses`.
        """
        try:
            opening, client = self._site.admit(request, self, self._transport, self._parser.trailing_data)
        except HTTPError as error:
            responses.append(self._site.serialize_error(error))
            self._parser.close()
            return False
        if responses:
            self._transport.write(b"".join(responses))
        self._site.gate.discard(self)
        self._waiting = client
        opening.start()
        return True

    def _begin_answer(self, request: Request, response: DeferredResponse | StreamedResponse) -> None:
        """Answer nothing else until the `response` is complete."""
        if isinstance(response, DeferredResponse):
            self._defer(request, response)
        else:
            self._deadline = math.inf
            StreamingProtocol(self._site.context, self._transport, self, request, response).start()

    def _defer(self, request: Request, response: DeferredResponse) -> None:
        """Answer nothing else until the `response` is there."""
        # The connection does not count as idle, so the gate evicts others first.
        self._deadline = math.inf
        self._waiting = request, response
        response.on_response(self._resolved)

    def _resolved(self, response: OutgoingResponse) -> None:
        """Send the deferred response."""
        waiting, self._waiting = self._waiting, None
        if not isinstance(waiting, tuple) or self._transport.is_closing():
            return
        request, parser = waiting[0], self._parser
        is_usual = response is OK and request.method == b"PUT" and request.version == "1.1"
        if is_usual and parser.is_idle and not self._is_half_closed:
            # The usual case: a push that came alone.
            self._is_first = False
            self._transport.write(serialize_ok(int(self._site.context.clock.wall())))
            self._deadline = AT_NEXT_CHECK
        else:
            self.continue_with(request, response, b"", is_write_paused=False, is_last=False)

    def _hand_over(self, waiting: Waiting) -> DeferringProtocol | PendingClientProtocol:
        """Let another protocol wait for the answer; return it."""
        self._waiting = None
        if isinstance(waiting, PendingClientProtocol):
            waiting.start()
            return waiting
        deferring = DeferringProtocol(self._site.context, self._transport, self, *waiting)
        deferring.start()
        return deferring

    # Fairness: a connection with many requests takes turns with the others.

    def _wait_for_turn(self) -> None:
        """Let other connections be served before the rest of the requests."""
        self._transport.pause_reading()
        if not self._is_write_paused:
            self._is_queued = True
            self._site.context.run_queue.add(self._take_turn)

    def _take_turn(self) -> None:
        self._is_queued = False
        if not self._is_write_paused:
            self._resume()

    def _resume(self) -> None:
        """Answer received requests, and continue to read when all are answered."""
        if not self._transport.is_closing():
            self._serve(SLICE_S)
            if self._is_queued or self._is_write_paused:
                return
            if not self._is_half_closed:
                self._transport.resume_reading()
            elif not isinstance(self._waiting, tuple):
                self.close_gracefully()
