"""A client connection under random events: data, time and a slow reader on one side, the backend on the other.

What a session owes the backend, its journal and its states are tested in `tests/unit/sessions`. Here a session has a
real `WebSocketProtocol`, and the reference decoder of `tests/fuzz` decodes what the client sent.
"""

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.fuzz import reference
from tests.support.fakes import body_of
from tests.support.frames import frame
from tests.support.websocket_rig import SWITCHING_PROTOCOLS, WebSocketRig
from wsaas import errors
from wsaas.delivery.inbox import MESSAGE_OVERHEAD
from wsaas.delivery.verdicts import DELIVERED, Accepted, Actions, Delivered, Rejected, Retry, Undeliverable
from wsaas.events import Closed, Message, Opened
from wsaas.reason import Reason
from wsaas.sessions.session_state import State
from wsaas.transport.pending_client import MAX_EARLY_DATA, PendingClientProtocol
from wsaas.websocket import frames

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
LIMIT, INBOX, SEND_BUFFER = 400, 1000, 300
CLOSING_TIME = 4.0
ADMITTED = Accepted(None, None)
FORBIDDEN = Rejected(errors.Forbidden("no"), disconnect_owed=False)
TIMED_OUT = Rejected(errors.GatewayTimeout("late"), disconnect_owed=True)
REPLY = Delivered(Actions(reply=Message(text=False, data=b"reply")))
AGAIN = Retry("later", 3.0)
UNDELIVERED = Undeliverable("no", Reason.UNDELIVERED)
GONE = Undeliverable("gone", Reason.BACKEND_GONE)

data_frames = st.tuples(st.sampled_from([TEXT, BINARY]), st.sampled_from([b"m", b"", b"x" * LIMIT])).map(
    lambda made: frame(*made)
)
good_frames = st.one_of(
    data_frames,
    data_frames,
    st.sampled_from([b"", b"1", b"2"]).map(lambda payload: frame(PING, payload)),
    st.just(frame(TEXT, b"a", fin=False) + frame(PONG) + frame(0, b"b", fin=False) + frame(0, b"c")),
)
last_frames = st.sampled_from(
    [
        frame(CLOSE, b"\x03\xe8bye"),
        frame(CLOSE),
        frame(TEXT, b"\xff"),
        frame(BINARY, b"x" * (LIMIT + 1)),
        frame(3),
        frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"),
        frame(BINARY, b"reserved", reserved=2),
    ]
)


def frames_of(data: bytes) -> list[tuple[int, bytes]]:
    """The frames of a server, one by one; each has to conform to section 5 of RFC 6455."""
    found = []
    while data:
        extended = {126: 2, 127: 8}.get(data[1], 0)
        size = int.from_bytes(data[2 : 2 + extended], "big") if extended else data[1]
        end = 2 + extended + size
        found.append(reference.sent(data[:end]))
        data = data[end:]
    return found


class ClientMachine(RuleBasedStateMachine):
    """One client, its connection, and a fake backend."""

    @initialize(
        rate=st.sampled_from(["0", "0", "2"]),
        early_data=good_frames,
        is_admitted=st.sampled_from([True, True, False]),
        calm=st.integers(0, 40),
        frames_per_slice=st.sampled_from([1, 2, 1000]),
    )
    def start(self, rate, early_data, is_admitted, calm, frames_per_slice):
        self.rig = WebSocketRig(
            early_data=early_data,
            max_message_rate=rate,
            max_message_size=str(LIMIT),
            inbox=str(INBOX),
            send_buffer=str(SEND_BUFFER),
            ws_timeout="10000",
            handshake_timeout=str(int(CLOSING_TIME * 1000)),
        ).slices_of(frames_per_slice)
        self.transport, self.session = self.rig.transport, self.rig.session
        self.webhook = self.rig.webhook
        self.unsent = b""
        self.delivered = early_data
        self.wrote = b""
        self.pushed = []
        self.maybe_accepted = None
        self.gave_up = False
        self.failing = None
        """The event that the backend asked to retry, and the time of its first failure."""
        self.held = False
        self.lost = False
        self.ended_in_handshake = False
        self.ended_at = None
        self.calm = calm
        """The number of steps in which nothing ends the connection yet."""
        if is_admitted:
            self.the_backend_decides(ADMITTED)

    @property
    def may_end(self):
        return self.calm <= 0

    def state_is(self, *states):
        return self.session.state in states

    @property
    def is_in(self):
        return not isinstance(self.transport.protocol, PendingClientProtocol)

    # The client.

    @precondition(lambda self: len(self.unsent) < 5000)
    @rule(more=st.lists(good_frames, min_size=1, max_size=8), left=st.sampled_from([0, 0, 0, 1, 3, 100]))
    def the_client_sends(self, more, left):
        self.unsent += b"".join(more)
        self.bytes_arrive(len(self.unsent) - left)

    @precondition(lambda self: self.may_end)
    @rule(last=last_frames)
    def the_client_writes_what_ends_it(self, last):
        self.unsent += last

    @rule(size=st.sampled_from([1, 5, 100, 100_000]))
    def bytes_arrive(self, size):
        if size <= 0 or not self.unsent or not self.transport.reading or self.transport.closed:
            return
        piece, self.unsent = self.unsent[:size], self.unsent[size:]
        self.delivered += piece
        tries = self.webhook.tries
        self.transport.protocol.data_received(piece)
        if self.held and self.state_is(State.OPEN, State.CLOSING):
            assert self.webhook.tries == tries, "nothing is started while a client does not take what it gets for it"

    @precondition(lambda self: self.may_end and not self.lost)
    @rule()
    def the_client_vanishes(self):
        self.lost = True
        self.transport.lose()

    @precondition(lambda self: self.may_end and not self.lost and not self.transport.closed and self.transport.reading)
    @rule()
    def the_client_ends_its_side(self):
        self.ended_in_handshake = not self.is_in
        self.transport.protocol.eof_received()
        self.transport.closed = True
        assert not self.state_is(State.OPEN, State.CLOSING)

    @precondition(lambda self: self.transport.closed and not self.lost)
    @rule()
    def the_loop_reports_the_end(self):
        self.the_client_vanishes()

    @rule(backlog=st.sampled_from([0, 100, SEND_BUFFER, 2 * SEND_BUFFER]))
    def the_client_reads_or_does_not(self, backlog):
        self.transport.backlog = backlog
        if backlog == 0 and self.is_in and not self.lost:
            self.transport.protocol.resume_writing()
            self.held = False

    # The backend.

    @precondition(lambda self: self.maybe_accepted is None and self.webhook.calls)
    @rule(verdict=st.sampled_from([ADMITTED, ADMITTED, ADMITTED, FORBIDDEN, TIMED_OUT]))
    def the_backend_decides(self, verdict):
        self.maybe_accepted = isinstance(verdict, Accepted) or verdict.disconnect_owed
        self.webhook.answer(verdict)

    @precondition(lambda self: self.maybe_accepted is not None and self.webhook.calls)
    @rule(verdict=st.sampled_from([DELIVERED, DELIVERED, DELIVERED, REPLY, REPLY, AGAIN, UNDELIVERED, GONE]))
    def the_backend_answers(self, verdict):
        gives_up = isinstance(verdict, Undeliverable) or (verdict is AGAIN and self.is_too_late_for_another_try())
        if gives_up and not self.may_end:
            verdict, gives_up = DELIVERED, False
        if isinstance(self.webhook.pending, Closed) and verdict is not AGAIN:
            verdict, gives_up = DELIVERED, False
        if verdict is REPLY and self.state_is(State.OPEN):
            self.pushed.append((BINARY, b"reply"))
            self.held = self.transport.backlog > SEND_BUFFER
        self.gave_up = self.gave_up or gives_up
        self.webhook.answer(verdict)

    def is_too_late_for_another_try(self):
        """Whether the retry window of the pending event, which begins with its first failure, is over."""
        now, asked = self.rig.clock.now(), self.webhook.pending
        if self.failing is None or self.failing[0] is not asked:
            self.failing = (asked, now)
        return now >= self.failing[1] + self.webhook.windows[type(asked)]

    @rule(text=st.booleans(), data=st.sampled_from([b"", b"push", b"\xff", b"p" * SEND_BUFFER]))
    def the_backend_pushes(self, text, data):
        ended = self.state_is(State.CLOSING, State.DISCONNECTED, State.CLOSED)
        waits = 0 if ended else self.session.buffered
        size = len(frames.encode(BINARY, data))
        try:
            self.session.send(frames.TEXT if text else frames.BINARY, data)
        except errors.Gone:
            assert ended
        except errors.BadText:
            assert text
            assert data == b"\xff"
        except errors.SlowClient:
            assert waits > 0
            assert waits + size > SEND_BUFFER
        else:
            assert not ended
            assert not waits or waits + size <= SEND_BUFFER
            self.pushed.append((TEXT if text else BINARY, data))

    @precondition(lambda self: self.may_end)
    @rule(reason=st.sampled_from([Reason.BACKEND_CLOSED, Reason.SHUTDOWN]))
    def the_client_has_to_go(self, reason):
        self.session.close(reason)

    # Time.

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 6.0]), checks=st.integers(1, 4))
    def time_passes(self, seconds, checks):
        if not self.may_end:
            seconds = min(seconds, 1.0)
        self.rig.pass_time(seconds, checks)
        if not self.transport.reading:
            # A Close of the client may be among the data that is not read.
            self.ended_at = None
        # A client that breaks the protocol while closing gets the time-out once more.
        if self.ended_at is not None and not self.lost and self.rig.clock.now() >= self.ended_at + 2 * CLOSING_TIME:
            assert self.transport.closed, "nobody who ended stays"

    # Invariants.

    @invariant()
    def what_the_client_gets_is_what_was_pushed_in_order_and_nothing_behind_a_close(self):
        self.wrote += self.transport.take()
        if not self.wrote.startswith(SWITCHING_PROTOCOLS):
            # A client that ended its side during the handshake gets no 101, even if the backend accepts it.
            assert not self.is_in or self.ended_in_handshake
            assert self.wrote == b"" or self.wrote.startswith(b"HTTP/1.1 ")
            return
        frames = frames_of(self.wrote[len(SWITCHING_PROTOCOLS) :])
        data = [each for each in frames if each[0] in (TEXT, BINARY)]
        assert data == self.pushed
        closes = [index for index, (opcode, _) in enumerate(frames) if opcode == CLOSE]
        assert len(closes) <= 1
        for index in closes:
            assert all(opcode == PONG for opcode, _ in frames[index + 1 :])
        pings = [payload for kind, *rest in self.meaning().received if kind == PING for payload in rest]
        for opcode, payload in frames:
            if opcode == PONG:
                # The replies are in order.
                del pings[: pings.index(payload) + 1]
            assert (opcode, payload) == (PING, b"") or opcode != PING

    def meaning(self):
        """The messages that the client has sent so far."""
        return reference.Decoder(self.delivered, LIMIT).read()

    def messages(self):
        return [each for each in self.meaning().received if each[0] in (TEXT, BINARY)]

    @invariant()
    def the_backend_hears_what_the_client_sent_in_order(self):
        told = self.webhook.events
        assert not told or isinstance(told[0], Opened)
        sent = self.messages()
        heard = [(TEXT if event.text else BINARY, event.data) for event in told if isinstance(event, Message)]
        assert heard == sent[: len(heard)]
        assert self.session.info.messages_in <= len(sent)
        assert self.session.info.bytes_in == sum(len(data) for _, data in sent[: self.session.info.messages_in])

    @invariant()
    def the_backend_is_told_of_the_end_once_and_nothing_later(self):
        told = self.webhook.events
        ends = [event for event in told if isinstance(event, Closed)]
        if ends:
            assert ends == told[-1:]
            assert self.maybe_accepted
            assert self.state_is(State.CLOSED)
            assert orjson.loads(body_of(ends[0]))["messages_out"] == self.session.info.messages_out == len(self.pushed)

    @invariant()
    def everything_is_counted(self):
        info, state = self.session.info, self.session.state
        counters = self.webhook.counters
        assert (counters.open, counters.closing) == (state is State.OPEN, state is State.CLOSING)
        assert (counters.messages_in, counters.bytes_in) == (info.messages_in, info.bytes_in)
        assert (counters.pushed + counters.replied, counters.bytes_out) == (info.messages_out, info.bytes_out)
        assert counters.messages_undelivered == info.messages_undelivered
        assert counters.backlog == self.session.outbox.level
        ends = sum(counters.closed.values())
        assert ends == counters.connection_durations.count
        assert sum(counters.handshakes.values()) + (state is State.CONNECTING) == 1
        assert ends + counters.open + counters.closing == counters.handshakes[101]

    @invariant()
    def memory_is_bounded(self):
        # The limit may be exceeded by one message, as a message is counted when it is complete.
        assert self.session.outbox.level <= INBOX + LIMIT + MESSAGE_OVERHEAD
        if not self.is_in:
            assert len(self.transport.protocol._early_data) <= MAX_EARLY_DATA + 100_000

    @invariant()
    def a_client_is_read_unless_too_much_waits_or_it_sends_too_fast(self):
        if self.is_in and self.state_is(State.OPEN, State.CLOSING):
            is_paused = bool(self.transport.protocol._paused_by)
            assert self.transport.reading is not is_paused
            if is_paused and not self.rig.clock.timers:
                assert self.session.outbox.level > INBOX // 2

    @invariant()
    def nothing_waits_for_nothing(self):
        if not (self.webhook.calls or self.rig.clock.timers or self.held):
            assert self.session.outbox.level == 0

    @invariant()
    def time_goes_by(self):
        self.calm -= 1

    @invariant()
    def the_time_of_the_end_is_noted(self):
        if self.ended_at is None and self.is_in and not self.state_is(State.OPEN):
            self.ended_at = self.rig.clock.now()

    @invariant()
    def each_connection_is_in_timeouts(self):
        connections = self.rig.timeouts.connections
        if self.lost:
            assert connections == []
        elif self.transport.closed and not connections:
            assert self.state_is(State.DISCONNECTED, State.CLOSED)
        else:
            assert connections == [self.transport.protocol]

    @invariant()
    def the_listener_is_called_once(self):
        assert self.rig.listener.calls in ([], ["client_disconnected"], ["client_disconnected", "session_finished"])
        assert ("client_disconnected" in self.rig.listener.calls) == self.state_is(State.DISCONNECTED, State.CLOSED)

    def teardown(self):
        if not hasattr(self, "rig"):
            return
        if not self.lost:
            self.the_client_vanishes()
        if self.maybe_accepted is None:
            self.the_backend_decides(ADMITTED)
        while self.webhook.calls or self.rig.clock.timers:
            self.rig.clock.advance(5.0)
            if self.webhook.calls:
                self.the_backend_answers(DELIVERED)
        assert self.rig.listener.calls == ["client_disconnected", "session_finished"]
        ends = [event for event in self.webhook.events if isinstance(event, Closed)]
        assert len(ends) == bool(self.maybe_accepted)
        if self.is_in:
            assert self.session.info.messages_in == len(self.messages()), "what was read before the end counts"
        if self.is_in and not self.gave_up:
            heard = [event for event in self.webhook.events if isinstance(event, Message)]
            assert len(heard) == self.session.info.messages_in
            assert self.session.info.messages_undelivered == 0


ClientMachine.TestCase.settings = settings(deadline=None, max_examples=200, stateful_step_count=50)
TestClientMachine = ClientMachine.TestCase
