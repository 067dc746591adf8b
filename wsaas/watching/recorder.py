"""Records what happens to one connection while it is watched.

The recorder takes the place of nothing: the objects that do (`sessions.watched_client`, `delivery.watched_webhook`,
and those of the transport) report to it. States are noticed at the next event, or when somebody looks.
"""

import zlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from wsaas.clock import Clock
from wsaas.counters import EVENT_NAMES
from wsaas.delivery.event_delivery import NO_LISTENER
from wsaas.delivery.pool import Failure, Outcome
from wsaas.delivery.watched_webhook import Answer
from wsaas.delivery.webhook import BINARY, Subject, Webhook
from wsaas.errors import HTTPError, RefusedWithClose
from wsaas.events import Event, Message, Opened
from wsaas.http.headers import END
from wsaas.http.response import Response
from wsaas.sessions.heartbeat_session import HeartbeatSession
from wsaas.sessions.session import Session
from wsaas.sessions.session_state import CONNECTING
from wsaas.watching.events import Body, ConnectBody, HeaderPairs, Query, RequestHead, Target, WatchedEvent
from wsaas.watching.masking import mask_subprotocol
from wsaas.watching.ring import Ring
from wsaas.websocket import frames
from wsaas.websocket.frames import Close, Encoder, Ping, Pong, Received
from wsaas.websocket.handshake import Handshake

MAX_UNSENT: Final = 1000
"""Messages for a client that waits for its 101 that are remembered, to tell where they came from."""

SWITCHING_PROTOCOLS: Final = 101
_NO_ANSWER: Final = WatchedEvent("", "response", 0.0, {})
_NAMES: Final = {
    frames.TEXT: "text",
    frames.BINARY: "binary",
    frames.CLOSE: "close",
    frames.PING: "ping",
    frames.PONG: "pong",
}
_BINARY_LINE: Final = f"\r\n{BINARY}".encode()
_TAIL: Final = b"\0\0\xff\xff"


class _Encoded(NamedTuple):
    """A message for the client, and its frame. `waiting`: how many bytes waited for the client before."""

    waiting: int
    frame: bytes
    opcode: int
    data: bytes
    cause: str


class Recorder:
    """Turns what is reported about the connection of `session` into events in `ring`.

    `encode`: the session's encoder before it was watched. `on_event` is called after each event.
    """

    __slots__ = (
        "_answer",
        "_attempt",
        "_clock",
        "_encoded",
        "_is_acting",
        "_is_closing",
        "_is_finished",
        "_is_paused",
        "_number",
        "_on_event",
        "_state",
        "encode",
        "ring",
        "session",
    )

    def __init__(self, session: Session, ring: Ring, clock: Clock, on_event: Callable[[], None]) -> None:
        """Record nothing yet. `clock`: gives the times."""
        self._answer = _NO_ANSWER
        self._attempt = 0
        self._clock = clock
        self._encoded: list[_Encoded] = []
        # Whether an answer of the backend is acted on: what is sent then is a reply, perhaps with a Close.
        self._is_acting = self._is_closing = False
        self._is_finished = False
        self._is_paused = False
        # That of the latest event. The event itself may be large.
        self._number: int | str = -1
        self._on_event = on_event
        self._state = session.state
        self.encode: Encoder = session.encode
        self.ring = ring
        self.session = session

    @property
    def is_finished(self) -> bool:
        """Whether the session has nothing left to deliver, and nothing more will happen."""
        return self._is_finished

    def look(self) -> None:
        """Record changes that nobody reports: those of the state."""
        session = self.session
        if session.state is not self._state:
            self._state = session.state
            reason = session.reason.value if session.reason else None
            self._add("state", state=session.state.name, reason=reason)
        if session.outbox.backlogged is not self._is_paused:
            self._is_paused = not self._is_paused
            self._add("state", paused=self._is_paused)
        if not self._is_finished and session.outbox.listener is NO_LISTENER:
            self._is_finished = True
            self._add("end")

    # The handshake.

    def handshake(self, handshake: Handshake) -> None:
        """The client has sent `handshake`."""
        self._add(
            "handshake",
            method="GET",
            path=handshake.path,
            query=Query(handshake.query),
            headers=HeaderPairs([*handshake.headers.items()]),
            remote_address=self.session.info.remote_address,
        )

    def accepted(self, subprotocol: str | None) -> None:
        """The client was sent its 101."""
        self._add(
            "opened",
            status=SWITCHING_PROTOCOLS,
            subprotocol=subprotocol and mask_subprotocol(subprotocol),
            compression=self.encode is not frames.encode,
        )
        self.look()

    def refused(self, error: HTTPError) -> None:
        """The handshake was answered with `error`."""
        self.look()
        if not isinstance(error, RefusedWithClose):
            self._add("refused", status=error.status, code=error.code)
        else:
            self._add("refused", status=error.status, code=error.code, close=error.close_code)
            close = Close(error.close_code, error.close_reason)
            self._close("out", close, 2 + len(close.reason.encode()), "reply")

    # Frames.

    def received(self, received: Received) -> None:
        """The client sent a message or a control frame, or broke the protocol."""
        self.look()
        if isinstance(received, Message):
            self._frame("in", frames.TEXT if received.text else frames.BINARY, received.data)
        elif isinstance(received, Ping):
            self._frame("in", frames.PING, received.payload)
        elif isinstance(received, Pong):
            self._add("frame", direction="in", opcode="pong", size=0)
        elif isinstance(received, Close):
            size = 0 if received.code == frames.NO_STATUS else 2 + len(received.reason.encode())
            self._close("in", received, size)
        else:
            # There is no frame that could be shown. The gateway answers with a Close, which says what was wrong.
            self._add("state", violation=received.reason, code=received.code)

    def encoded(self, frame: bytes, opcode: int, data: bytes, *, shared: bool) -> None:
        """A message became a `frame`, which is written next, or never."""
        session, encoded = self.session, self._encoded
        waiting = session.buffered
        if session.state is not CONNECTING:
            encoded.clear()
        elif encoded and encoded[-1].waiting == waiting:
            # The message before was refused, as too much waits already.
            encoded.pop()
        if len(encoded) < MAX_UNSENT:
            cause = "reply" if self._is_acting else "publish" if shared else "push"
            encoded.append(_Encoded(waiting, frame, opcode, data, cause))

    def sent(self, data: bytes) -> None:
        """Complete frames were written to the client."""
        self.look()
        at = 0
        while at < len(data):
            known = next((each for each in self._encoded if data.startswith(each.frame, at)), None)
            if known is None:
                at = self._unknown_frame(data, at)
            else:
                at += len(known.frame)
                self._encoded.remove(known)
                if known.cause == "push":
                    self.pushed("PUT", 200, "OK", len(known.data))
                self._frame("out", known.opcode, known.data, known.cause)

    def pushed(self, method: str, status: int, code: str, size: int | None = None) -> None:
        """The backend made a request for the `ws_uri`. The size of a refused one is not known."""
        self._add("push", method=method, status=status, code=code, size=size)

    # Requests to the backend.

    def requested(self, event: Event, request: bytes, subject: Subject, webhook: Webhook) -> int:
        """The `webhook` made a request; return which attempt for this event it is."""
        self.look()
        self._attempt = self._attempt + 1 if event.number == self._number else 1
        self._number = event.number
        end = request.index(END)
        head, body = request[:end], Body(request[end + len(END) :], is_text=_BINARY_LINE not in request[:end])
        method, target, _ = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
        fields = {
            "event": EVENT_NAMES[type(event)],
            "ce_id": f"{subject.id}:{event.number}",
            "attempt": self._attempt,
            "method": method,
            "target": Target(target),
            "headers": RequestHead(head),
            "body": ConnectBody(event, subject, webhook) if isinstance(event, Opened) else body,
        }
        made = self._make("request", fields)
        # First, as the ring counts the size of an event when it is added.
        made.keep_for_replay(event, subject, webhook)
        self._record(made)
        return self._attempt

    def answered(self, event: Event, attempt: int, outcome: Outcome, answer: Answer) -> None:
        """The outcome of a request is about to be judged."""
        self.look()
        self._is_acting = True
        self._is_closing = isinstance(outcome, Response) and b"ws-close" in outcome.headers
        fields = {
            "ce_id": f"{self.session.id}:{event.number}",
            "attempt": attempt,
            **shown_outcome(outcome, answer),
            "took_ms": answer.took * 1000,
            "retry_in_ms": None,
        }
        self._answer = self._add("response", **fields)

    def judged(self, result: str, retry_due: float | None) -> None:
        """The answer reported last was acted on."""
        self._is_acting = self._is_closing = False
        self._answer.fields["result"] = result
        if retry_due is not None:
            self._answer.fields["retry_in_ms"] = max(0.0, retry_due - self._clock.now()) * 1000
        self.look()

    # Internals.

    def _add(self, kind: str, **fields: Any) -> WatchedEvent:
        event = self._make(kind, fields)
        self._record(event)
        return event

    def _make(self, kind: str, fields: dict[str, Any]) -> WatchedEvent:
        return WatchedEvent(self.session.id, kind, self._clock.wall(), fields)

    def _record(self, event: WatchedEvent) -> None:
        self.ring.add(event)
        self._on_event()

    def _frame(self, direction: str, opcode: int, data: bytes, cause: str | None = None) -> None:
        fields: dict[str, Any] = {"direction": direction, "opcode": _NAMES[opcode], "size": len(data)}
        if cause is not None:
            fields["cause"] = cause
        self._add("frame", **fields, body=Body(data, is_text=opcode != frames.BINARY))

    def _close(self, direction: str, close: Close, size: int, cause: str | None = None) -> None:
        fields = {} if cause is None else {"cause": cause}
        self._add(
            "frame", direction=direction, opcode="close", size=size, code=close.code, reason=close.reason, **fields
        )

    def _unknown_frame(self, data: bytes, at: int) -> int:
        """Record a control frame, or a message that was encoded for several clients before; return where it ends."""
        opcode, (start, stop) = data[at] & frames.OPCODE, _payload(data, at)
        payload = data[start:stop]
        if opcode == frames.CLOSE:
            code = int.from_bytes(payload[:2], "big") if payload else frames.NO_STATUS
            close = Close(code, payload[2:].decode())
            self._close("out", close, len(payload), "reply" if self._is_closing else "gateway")
        elif opcode & frames.CONTROL:
            self._frame("out", opcode, payload, "gateway")
        else:
            if data[at] & frames.DEFLATED:
                payload = zlib.decompressobj(-zlib.MAX_WBITS).decompress(payload + _TAIL)
            session = self.session
            is_heartbeat = isinstance(session, HeartbeatSession) and session.is_answer(payload)
            self._frame("out", opcode, payload, "gateway" if is_heartbeat else "publish")
        return stop


def shown_outcome(outcome: Outcome, answer: Answer) -> dict[str, Any]:
    """Return the fields of an answer of the backend, or of the failure to get one."""
    if isinstance(outcome, Failure):
        return {"failure": f"{outcome.value}{answer.detail}"}
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in outcome.headers.items()]
    return {"status": outcome.status, "headers": HeaderPairs(headers), "body": Body(outcome.body)}


def _payload(data: bytes, at: int) -> tuple[int, int]:
    """Return where the payload of the frame at `at`, which the gateway made, begins and ends."""
    length = data[at + 1]
    if length == frames.TWO_BYTES:
        return at + 4, at + 4 + int.from_bytes(data[at + 2 : at + 4], "big")
    if length == frames.EIGHT_BYTES:
        return at + 10, at + 10 + int.from_bytes(data[at + 2 : at + 10], "big")
    return at + 2, at + 2 + length
