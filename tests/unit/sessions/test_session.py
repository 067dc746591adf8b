import math
from typing import Any

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.fakes import (
    FakeClock,
    FakeConnection,
    FakeJournal,
    FakePendingClient,
    FakeSessionListener,
    FakeWebhook,
    body_of,
    make_handshake,
    make_services,
    make_settings,
)
from wsaas import errors
from wsaas.clock import rfc3339
from wsaas.delivery.circuit_breaker import OPEN
from wsaas.delivery.journal import Entry, NoJournal
from wsaas.delivery.verdicts import DELIVERED, Accepted, Actions, Delivered, Rejected, Retry, Undeliverable
from wsaas.events import Closed, Message, Opened
from wsaas.reason import Reason
from wsaas.sessions.connection_info import ConnectionInfo
from wsaas.sessions.information import information
from wsaas.sessions.opening_handshake import OpeningHandshake
from wsaas.sessions.session import REFUSALS, Session
from wsaas.sessions.session_state import TRANSITIONS, State
from wsaas.websocket import frames
from wsaas.websocket.frames import Close

ID = "abcdefghijklmnopqrstuv"
WS_URI = f"localhost:8080/{ID}"
OK = Accepted(None, None)
FORBIDDEN = Rejected(errors.Forbidden("no"), disconnect_owed=False)
TIMED_OUT = Rejected(errors.GatewayTimeout("late"), disconnect_owed=True)
AGAIN = Retry("the backend is tired")
UNDELIVERED = Undeliverable("no", Reason.UNDELIVERED)
GONE = Undeliverable("gone", Reason.BACKEND_GONE)


def shown(rig):
    """Return what GET shows of the session."""
    return information(rig.session, rig.services)


class Rig:
    """A session whose client, listener and backend are fakes."""

    def __init__(self, offered=(), preferred="", authorization=None, journal=None, **values):
        self.clock = FakeClock()
        self.webhook = FakeWebhook()
        self.listener = FakeSessionListener()
        self.pending_client = FakePendingClient()
        self.connection = self.pending_client.connection
        if preferred:
            values["subprotocols"] = preferred
        self.journal: Any = journal or NoJournal()
        self.services = make_services(make_settings(**values), self.clock, self.webhook, self.listener, self.journal)
        services = self.services
        handshake = make_handshake(offered, authorization)
        info = ConnectionInfo(ID, services.settings.ws_hostname.text, handshake, "192.0.2.7", self.clock)
        self.session = Session(services, info, handshake)
        OpeningHandshake(services, self.session, handshake, self.pending_client).start()
        self.connection.ended = self.session.lost

    def enter(self):
        self.webhook.answer(OK)
        return self

    def bring_to(self, state):
        if state is not State.CONNECTING:
            self.enter()
        self.bring_to_later(state)
        assert self.session.state is state
        return self

    def bring_to_later(self, state):
        """Bring an open session to a later state."""
        if state is State.CLOSING:
            self.session.close(Reason.SHUTDOWN)
        elif state is State.DISCONNECTED:
            self.session.disconnected(FakeConnection())
        elif state is State.CLOSED:
            self.session.lost()

    def receive(self, data=b"hello"):
        self.session.receive(Message(text=True, data=data))

    def answer_all(self):
        while self.webhook.calls:
            self.webhook.answer(OK if isinstance(self.webhook.pending, Opened) else DELIVERED)

    @property
    def ends(self):
        """The bodies of the DELETEs that were sent."""
        return [orjson.loads(body_of(event)) for event in self.webhook.events if isinstance(event, Closed)]

    @property
    def end(self):
        """The code and the reason of the only DELETE."""
        (body,) = self.ends
        return body["code"], body["reason"]


@pytest.fixture
def rig():
    return Rig()


def close_frame(code, text):
    return frames.encode_close(code, text)


# The opening handshake.


def test_the_backend_is_asked_at_once_and_the_client_waits(rig):
    (asked,) = rig.webhook.events
    assert isinstance(asked, Opened)
    assert asked.number == 0
    assert asked.at == rig.clock.wall()
    body = orjson.loads(body_of(asked))
    assert body["ws_uri"] == WS_URI
    assert body["id"] == ID
    assert body["timeout"] == 30000
    assert body["request"]["path"] == "/room"
    assert body["request"]["remote_address"] == "192.0.2.7"
    assert rig.session.state is State.CONNECTING
    assert (rig.pending_client.accepted, rig.pending_client.refused) == (None, None)
    assert rig.listener.calls == []


def test_ws_uri_starts_with_ws_hostname_unchanged():
    assert Rig(ws_hostname="https://node:1/prefix").session.ws_uri == f"https://node:1/prefix/{ID}"


def test_requests_carry_the_authorization_of_the_handshake():
    subject = Rig(authorization=b"Bearer x").webhook.subject
    assert subject is not None
    assert subject.authorization == b"Bearer x"


def test_an_admitted_client_is_open_and_its_connection_is_started(rig):
    rig.webhook.answer(OK)
    assert rig.session.state is State.OPEN
    assert rig.pending_client.accepted == (None, b"")
    assert rig.connection.calls == ["start"]
    assert rig.session.reason is None
    assert rig.listener.calls == []


def test_a_context_is_kept_and_sent_with_messages(rig):
    rig.webhook.answer(Accepted(None, "cart=7"))
    rig.receive()
    assert rig.session.info.context == "cart=7"
    assert rig.webhook.subject.context == "cart=7"


def test_without_a_context_none_is_sent(rig):
    rig.enter().receive()
    assert rig.session.info.context is None
    assert rig.webhook.subject.context is None


@pytest.mark.parametrize(
    ("offered", "named", "preferred", "chosen"),
    [
        (["a", "b"], "b", "", "b"),
        (["a", "b"], None, "b,a", "b"),
        (["a", "b"], "a", "b,a", "a"),
        (["a"], None, "", None),
        ([], None, "a", None),
    ],
)
def test_the_subprotocol_is_chosen_by_the_backend_or_else_by_the_node(offered, named, preferred, chosen):
    rig = Rig(offered, preferred)
    rig.webhook.answer(Accepted(named, None))
    assert rig.pending_client.accepted == (chosen, b"")
    assert rig.session.info.subprotocol == chosen


def test_a_subprotocol_that_was_not_offered_is_a_bad_gateway_and_a_delete_follows():
    rig = Rig(["a"])
    rig.webhook.answer(Accepted("b", "context"))
    assert isinstance(rig.pending_client.refused, errors.BadGateway)
    assert rig.session.state is State.CLOSED
    assert rig.session.reason is Reason.REFUSED
    assert rig.end == (1006, "")
    assert rig.listener.calls == ["client_disconnected"]
    rig.webhook.answer(DELIVERED)
    assert rig.listener.calls == ["client_disconnected", "session_finished"]


def test_a_client_that_the_backend_refused_gets_the_error_and_no_delete_follows(rig):
    rig.webhook.answer(FORBIDDEN)
    assert rig.pending_client.refused is FORBIDDEN.error
    assert rig.session.state is State.CLOSED
    assert rig.listener.calls == ["client_disconnected", "session_finished"]
    assert rig.ends == []
    rig.session.lost()
    assert rig.listener.calls == ["client_disconnected", "session_finished"]


def test_a_client_whose_post_has_no_known_outcome_is_refused_and_a_delete_follows(rig):
    rig.webhook.answer(TIMED_OUT)
    assert rig.pending_client.refused is TIMED_OUT.error
    assert rig.ends == []
    rig.clock.advance(10.0)
    assert rig.end == (1006, "")
    rig.session.lost()
    rig.webhook.answer(DELIVERED)
    assert rig.listener.calls == ["client_disconnected", "session_finished"]
    assert len(rig.ends) == 1


# A client that disconnects before the backend has decided: is a DELETE owed?

OWED = [(OK, True), (Accepted("never offered", None), True), (TIMED_OUT, True), (FORBIDDEN, False)]


@pytest.mark.parametrize(("verdict", "owed"), OWED)
def test_a_client_that_leaves_before_the_answer_gets_a_delete_unless_it_was_refused(rig, verdict, owed):
    rig.session.lost()
    assert rig.session.state is State.CLOSED
    assert rig.listener.calls == ["client_disconnected"]
    assert rig.ends == []
    rig.webhook.answer(verdict)
    assert (rig.pending_client.accepted, rig.pending_client.refused) == (None, None)
    rig.clock.advance(10.0)
    if owed:
        assert rig.end == (1006, "")
        assert rig.listener.calls == ["client_disconnected"]
        rig.webhook.answer(DELIVERED)
    assert len(rig.ends) == owed
    assert rig.listener.calls == ["client_disconnected", "session_finished"]
    assert rig.session.reason is Reason.CLIENT_LOST


@pytest.mark.parametrize(("verdict", "owed"), OWED)
@pytest.mark.parametrize(
    ("reason", "fault"),
    [
        (Reason.BACKEND_CLOSED, errors.Forbidden),
        (Reason.SHUTDOWN, errors.Unavailable),
        (Reason.DECLARED_DEAD, errors.Unavailable),
        (Reason.SLOW_CLIENT, errors.Unavailable),
    ],
)
def test_a_client_that_is_refused_before_the_answer_gets_its_response_at_once(rig, reason, fault, verdict, owed):
    rig.session.close(reason)
    assert type(rig.pending_client.refused) is fault
    assert rig.listener.calls == ["client_disconnected"]
    rig.session.lost()
    rig.webhook.answer(verdict)
    rig.clock.advance(10.0)
    rig.answer_all()
    assert len(rig.ends) == owed
    assert rig.listener.calls == ["client_disconnected", "session_finished"]
    assert rig.session.reason is reason


@pytest.mark.parametrize("reason", [Reason.SHUTDOWN, Reason.SLOW_CLIENT, Reason.DECLARED_DEAD])
def test_a_connecting_client_that_may_try_again_is_refused_with_retry_after(rig, reason):
    rig.session.close(reason)
    assert rig.pending_client.refused.headers == (("Retry-After", "1"),)


ONLY_AFTER_THE_101 = {
    Reason.CLIENT_CLOSED,
    Reason.TIMED_OUT,
    Reason.OUT_OF_MEMORY,
    Reason.VIOLATION,
    Reason.BACKEND_GONE,
    Reason.TOO_LARGE,
    Reason.UNDELIVERED,
}
WITHOUT_CLOSE = {Reason.CLIENT_LOST, Reason.REFUSED, Reason.GATEWAY_LOST}
"""The client went away, was refused with an error of its own, or was lost with its process."""


def test_each_reason_that_can_close_a_connecting_client_has_a_refusal():
    assert set(REFUSALS) == set(Reason) - ONLY_AFTER_THE_101 - WITHOUT_CLOSE


# Messages of the client.


def test_messages_are_numbered_and_stamped_in_their_order(rig):
    rig.enter()
    for number in range(1, 4):
        rig.clock.advance(1.0)
        rig.receive(b"." * number)
    rig.session.lost()
    rig.answer_all()
    assert [event.number for event in rig.webhook.events] == [0, 1, 2, 3, "end"]
    start = rig.webhook.events[0].at
    assert [event.at for event in rig.webhook.events[1:4]] == [start + 1, start + 2, start + 3]
    assert [event.data for event in rig.webhook.events[1:4]] == [b".", b"..", b"..."]


def test_messages_and_bytes_are_counted_in_both_directions(rig):
    rig.enter()
    rig.receive(b"12345")
    rig.receive(b"")
    rig.session.send(frames.BINARY, b"123")
    rig.webhook.answer(Delivered(Actions(reply=Message(text=True, data=b"1234"))))
    session = rig.session
    assert (session.info.messages_in, session.info.bytes_in) == (2, 5)
    assert (session.info.messages_out, session.info.bytes_out) == (2, 7)


def test_a_backlog_pauses_the_connection_and_resumes_it(rig):
    rig.enter().receive()
    rig.receive(b"." * 300_000)
    assert rig.connection.calls == ["start", "pause"]
    rig.webhook.answer(DELIVERED)
    assert rig.connection.calls == ["start", "pause", "resume"]


def test_a_disconnected_client_is_not_resumed(rig):
    rig.enter().receive()
    rig.receive(b"." * 300_000)
    rig.session.lost()
    rig.answer_all()
    assert rig.connection.calls == ["start", "pause"]
    assert rig.end == (1006, "")


# Messages to the client.


@pytest.mark.parametrize(("text", "opcode"), [(True, frames.TEXT), (False, frames.BINARY)])
def test_a_push_is_one_frame(rig, text, opcode):
    rig.enter().session.send(frames.TEXT if text else frames.BINARY, b"hi")
    assert rig.connection.written == [frames.encode(opcode, b"hi")]


@pytest.mark.parametrize(("text", "opcode"), [(True, frames.TEXT), (False, frames.BINARY)])
def test_a_reply_is_one_frame(rig, text, opcode):
    rig.enter().receive()
    rig.webhook.answer(Delivered(Actions(reply=Message(text=text, data=b"hi"))))
    assert rig.connection.written == [frames.encode(opcode, b"hi")]


def test_pushes_before_the_101_are_sent_after_it_in_order(rig):
    rig.session.send(frames.TEXT, b"one")
    rig.session.send(frames.BINARY, b"two")
    first_frames = frames.encode(frames.TEXT, b"one") + frames.encode(frames.BINARY, b"two")
    assert rig.session.buffered == len(first_frames)
    rig.enter()
    assert rig.pending_client.accepted == (None, first_frames)
    assert rig.connection.written == []
    assert rig.session.buffered == 0
    assert (rig.session.info.messages_out, rig.session.info.bytes_out) == (2, 6)
    rig.session.send(frames.TEXT, b"three")
    assert rig.connection.written == [frames.encode(frames.TEXT, b"three")]


@pytest.mark.parametrize("state", [State.CONNECTING, State.OPEN])
def test_a_push_beyond_the_send_buffer_is_refused_and_nothing_is_sent(state):
    rig = Rig(send_buffer="100").bring_to(state)
    # If nothing is buffered, a message of any size is accepted.
    rig.session.send(frames.TEXT, b"." * 500)
    rig.connection.backlog = 504
    with pytest.raises(errors.SlowClient) as caught:
        rig.session.send(frames.TEXT, b"")
    assert caught.value.headers == (("Retry-After", "1"),)
    assert rig.session.info.messages_out == 1
    rig.answer_all()
    assert len(rig.pending_client.accepted[1] + b"".join(rig.connection.written)) == 504


def test_the_send_limit_shrinks_while_memory_is_short():
    rig = Rig(send_buffer="1000").enter()
    memory = rig.session._services.memory
    rig.connection.backlog = 48
    rig.session.send(frames.TEXT, b"." * 500)
    try:
        memory.allowance = 100
        with pytest.raises(errors.SlowClient):
            rig.session.send(frames.TEXT, b"." * 51)
        rig.session.send(frames.TEXT, b"." * 50)
    finally:
        memory.allowance = math.inf


def test_the_send_buffer_may_be_filled_to_its_last_byte():
    rig = Rig(send_buffer="100").enter()
    rig.connection.backlog = 48
    rig.session.send(frames.TEXT, b"." * 50)
    rig.connection.backlog = 49
    with pytest.raises(errors.SlowClient):
        rig.session.send(frames.TEXT, b"." * 50)
    assert len(rig.connection.written) == 1


@pytest.mark.parametrize("state", [State.CLOSING, State.CLOSED])
def test_a_push_to_an_ending_client_is_answered_gone(rig, state):
    rig.bring_to(state)
    written = list(rig.connection.written)
    with pytest.raises(errors.Gone):
        rig.session.send(frames.TEXT, b"hi")
    assert rig.connection.written == written
    assert rig.session.info.messages_out == 0


@pytest.mark.parametrize("state", [State.CLOSING, State.CLOSED])
def test_a_reply_to_a_disconnected_client_is_dropped(rig, state, caplog):
    caplog.set_level("DEBUG", "wsaas")
    rig.enter().receive()
    if state is State.CLOSING:
        rig.session.close(Reason.SHUTDOWN)
    else:
        rig.session.lost()
    written = list(rig.connection.written)
    rig.webhook.answer(Delivered(Actions(reply=Message(text=True, data=b"late"))))
    assert rig.connection.written == written
    assert rig.session.info.messages_out == 0
    assert "actions of the backend's answer dropped: the client is gone" in caplog.text


def test_a_client_that_does_not_read_replies_delays_only_its_own_messages(rig):
    rig.enter()
    rig.receive(b"1")
    rig.receive(b"2")
    rig.connection.backlog = 1024 * 1024
    rig.webhook.answer(Delivered(Actions(reply=Message(text=True, data=b"a"))))
    assert len(rig.webhook.events) == 3
    rig.receive(b"3")
    rig.connection.backlog += 1
    rig.webhook.answer(Delivered(Actions(reply=Message(text=True, data=b"b"))))
    assert rig.webhook.calls == []
    assert rig.session.info.messages_out == 2
    rig.session.outbox.release()
    assert rig.webhook.pending.data == b"3"


def test_the_disconnect_of_a_client_that_reads_no_replies_is_delivered(rig):
    rig.enter().receive()
    rig.receive(b"2")
    rig.connection.backlog = 2 * 1024 * 1024
    rig.webhook.answer(Delivered(Actions(reply=Message(text=True, data=b"a"))))
    rig.session.lost()
    rig.answer_all()
    assert [event.number for event in rig.webhook.events] == [0, 1, 2, "end"]
    assert rig.listener.calls == ["client_disconnected", "session_finished"]


# The end.


@pytest.mark.parametrize(
    ("end", "said", "told", "reason"),
    [
        (lambda s: s.closed_by_client(4001, "bye"), None, (4001, "bye"), Reason.CLIENT_CLOSED),
        (lambda s: s.closed_by_client(1005, ""), None, (1005, ""), Reason.CLIENT_CLOSED),
        (lambda s: s.violated(1007, "not text"), None, (1007, "not text"), Reason.VIOLATION),
        (lambda s: s.lost(), None, (1006, ""), Reason.CLIENT_LOST),
        (lambda s: s.close(Reason.BACKEND_CLOSED), (1000, "closed by backend"), (1000, "closed by backend"), None),
        (lambda s: s.close(Reason.BACKEND_CLOSED, 4000, "x"), (4000, "x"), (4000, "x"), None),
        (lambda s: s.close(Reason.BACKEND_CLOSED, 1000, ""), (1000, ""), (1000, ""), None),
        (lambda s: s.close(Reason.SHUTDOWN), (1001, "going away"), (1001, "going away"), None),
        (lambda s: s.close(Reason.TIMED_OUT), (1001, "timeout"), (1001, "timeout"), Reason.TIMED_OUT),
    ],
)
def test_the_delete_says_how_an_open_client_ended(rig, end, said, told, reason):
    rig.enter()
    end(rig.session)
    assert rig.connection.written == ([close_frame(*said)] if said else [])
    if reason is None:
        assert rig.session.state is State.CLOSING
        assert rig.connection.calls == ["start", "expect_close"]
        assert rig.ends == []
        rig.session.closed_by_client(4999, "whatever it answers")
        reason = Reason.SHUTDOWN if told[0] == 1001 else Reason.BACKEND_CLOSED
    assert rig.session.state is State.CLOSED
    assert rig.end == told
    assert rig.session.reason is reason
    assert rig.listener.calls == ["client_disconnected"]
    rig.session.lost()
    rig.webhook.answer(DELIVERED)
    assert rig.listener.calls == ["client_disconnected", "session_finished"]


def test_a_client_that_timed_out_is_closed_without_waiting_for_its_close(rig):
    rig.enter().session.close(Reason.TIMED_OUT)
    assert rig.connection.calls == ["start", "close_gracefully"]


@pytest.mark.parametrize("end", ["closed_by_client", "violated", "lost"])
def test_the_delete_of_a_closing_client_keeps_its_reason(rig, end):
    rig.bring_to(State.CLOSING)
    getattr(rig.session, end)(*(() if end == "lost" else (1002, "oops")))
    assert rig.end == (1001, "going away")
    assert rig.session.reason is Reason.SHUTDOWN


def test_the_delete_has_duration_and_counters(rig):
    rig.enter()
    rig.receive()
    rig.session.send(frames.TEXT, b"a")
    rig.session.send(frames.TEXT, b"b")
    rig.clock.advance(1.5)
    rig.session.lost()
    rig.clock.advance(10.0)
    rig.answer_all()
    assert rig.ends == [
        {
            "ws_uri": WS_URI,
            "code": 1006,
            "reason": "",
            "duration": 1500,
            "messages_in": 1,
            "messages_out": 2,
            "undelivered": 0,
        }
    ]
    assert rig.webhook.events[-1].at == rig.clock.wall() - 10.0


def test_the_delete_follows_the_last_message(rig):
    rig.enter()
    rig.receive(b"1")
    rig.receive(b"2")
    rig.session.closed_by_client(1000, "")
    assert rig.ends == []
    rig.webhook.answer(DELIVERED)
    assert rig.ends == []
    rig.webhook.answer(DELIVERED)
    assert rig.end == (1000, "")


def test_messages_received_after_a_close_was_sent_are_delivered(rig):
    rig.bring_to(State.CLOSING).receive(b"late")
    rig.session.lost()
    rig.answer_all()
    assert [type(event) for event in rig.webhook.events] == [Opened, Message, Closed]


def test_a_delete_that_the_backend_refuses_is_logged_and_finishes_the_session(rig, caplog):
    rig.enter().session.lost()
    while rig.listener.calls != ["client_disconnected", "session_finished"]:
        rig.webhook.answer(Retry("the backend is down", 1000.0))
        rig.clock.advance(300.0)
    assert caplog.messages == [
        f"{WS_URI}: the backend was not told that this connection ended: the backend is down, 2 times"
    ]


# Messages that are not delivered.


@pytest.mark.parametrize(
    ("verdict", "code", "text"), [(UNDELIVERED, 1011, "message not delivered"), (GONE, 1000, "backend gone")]
)
def test_an_open_client_whose_message_is_refused_is_closed_and_the_delete_has_its_code(
    rig, verdict, code, text, caplog
):
    rig.enter()
    rig.receive(b"1")
    rig.receive(b"2")
    rig.webhook.answer(verdict)
    assert rig.connection.written == [close_frame(code, text)]
    assert rig.session.state is State.CLOSING
    assert rig.connection.calls == ["start", "expect_close"]
    assert rig.webhook.calls == []
    assert caplog.messages == [f"{WS_URI}: message not delivered: {verdict.why}"]
    # Further messages would follow a gap.
    rig.receive(b"3")
    assert rig.webhook.calls == []
    assert rig.session.info.messages_in == 3
    rig.session.closed_by_client(code, text)
    assert rig.end == (code, text)
    assert rig.webhook.events[-1].number == "end"


def test_a_paused_client_whose_message_is_refused_is_resumed_to_read_its_close(rig):
    rig.enter()
    rig.receive(b"1")
    rig.receive(b"." * 300_000)
    rig.webhook.answer(UNDELIVERED)
    assert rig.connection.calls == ["start", "pause", "expect_close", "resume"]
    assert rig.session.outbox.level == 0


def test_the_delete_says_how_many_messages_were_given_up_while_the_client_was_closing(rig):
    rig.enter()
    rig.receive(b"1")
    rig.receive(b"2")
    rig.session.close(Reason.BACKEND_CLOSED, 4001, "bye")
    rig.webhook.answer(UNDELIVERED)
    assert rig.connection.written == [close_frame(4001, "bye")]
    rig.receive(b"3")
    assert rig.webhook.calls == []
    rig.session.closed_by_client(4001, "")
    # The Close on the wire had 4001, whether the messages were delivered or not.
    assert rig.end == (4001, "bye")
    assert (rig.ends[0]["messages_in"], rig.ends[0]["undelivered"]) == (3, 3)


def test_the_delete_says_how_many_messages_were_given_up_after_the_client_had_left(rig):
    rig.enter()
    rig.receive(b"1")
    rig.receive(b"2")
    rig.clock.advance(2.0)
    rig.session.closed_by_client(1000, "bye")
    rig.clock.advance(5.0)
    rig.webhook.answer(UNDELIVERED)
    assert rig.end == (1000, "bye")
    assert rig.ends[0]["duration"] == 2000
    assert rig.ends[0]["undelivered"] == 2
    assert [event.number for event in rig.webhook.events] == [0, 1, "end"]
    assert rig.session.reason is Reason.CLIENT_CLOSED
    rig.webhook.answer(DELIVERED)
    assert rig.listener.calls == ["client_disconnected", "session_finished"]


# The journal.


@pytest.fixture
def journalled():
    return Rig(authorization=b"Bearer x", journal=FakeJournal())


def enter_journal(rig):
    """Admit a client, and write all pending changes of the journal."""
    assert rig.journal.write() == ["add"]
    return rig.enter()


def test_the_post_is_sent_after_the_client_is_journaled(journalled):
    rig = journalled
    assert rig.journal.waiting == ["add"]
    assert rig.webhook.events == []
    assert rig.session.state is State.CONNECTING
    rig.clock.advance(1.0)
    rig.journal.write()
    (asked,) = rig.webhook.events
    assert isinstance(asked, Opened)
    assert asked.at == rig.session.info.connected_at == rig.clock.wall() - 1.0
    assert rig.journal.entries == {
        ID: {
            "replicated": False,
            "ws_uri": WS_URI,
            "authorization": b"Bearer x",
            "context": None,
            "connected_at": rig.session.info.connected_at,
            "closed": None,
        }
    }


def test_a_client_that_cannot_be_journaled_gets_503_with_retry_after_and_no_post(journalled):
    rig = journalled
    rig.journal.fail()
    assert isinstance(rig.pending_client.refused, errors.Unavailable)
    assert rig.pending_client.refused.headers == (("Retry-After", "1"),)
    assert rig.session.state is State.CLOSED
    assert rig.session.reason is Reason.REFUSED
    assert rig.listener.calls == ["client_disconnected", "session_finished"]
    assert rig.webhook.events == []
    rig.session.lost()
    assert rig.listener.calls == ["client_disconnected", "session_finished"]
    # A client that is refused while the disk is full must not leave anything behind.
    assert rig.journal.waiting == []


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("end", [lambda s: s.lost(), lambda s: s.close(Reason.SHUTDOWN)])
def test_a_client_that_ends_before_it_is_journaled_is_never_posted_and_is_removed(journalled, end, written):
    rig = journalled
    end(rig.session)
    assert rig.listener.calls == ["client_disconnected"]
    if written:
        rig.journal.write()
    else:
        rig.journal.fail()
    assert rig.listener.calls == ["client_disconnected", "session_finished"]
    assert rig.webhook.events == []
    rig.journal.write()
    assert rig.journal.entries == {}
    assert rig.journal.pending == []


def test_a_push_before_the_client_is_journaled_is_kept(journalled):
    rig = journalled
    rig.session.send(frames.TEXT, b"early")
    rig.journal.write()
    rig.enter()
    assert rig.pending_client.accepted == (None, frames.encode(frames.TEXT, b"early"))


def test_a_client_that_the_backend_refused_is_removed_from_the_journal(journalled):
    rig = journalled
    rig.journal.write()
    rig.webhook.answer(FORBIDDEN)
    assert rig.journal.write() == ["remove"]
    assert rig.journal.entries == {}


def test_the_context_is_journaled(journalled):
    rig = journalled
    rig.journal.write()
    rig.webhook.answer(Accepted(None, "cart=7"))
    assert rig.journal.write() == ["set_context"]
    assert rig.journal.entries[ID]["context"] == "cart=7"


def test_messages_do_not_wait_for_the_journal(journalled):
    rig = enter_journal(journalled)
    rig.receive()
    assert isinstance(rig.webhook.pending, Message)
    rig.session.send(frames.TEXT, b"hi")
    rig.webhook.answer(Delivered(Actions(reply=Message(text=True, data=b"ho"))))
    assert len(rig.connection.written) == 2
    assert rig.journal.pending == []


def test_a_delete_that_is_delivered_at_once_is_not_journaled(journalled):
    rig = enter_journal(journalled)
    rig.session.closed_by_client(4000, "bye")
    assert rig.end == (4000, "bye")
    assert rig.journal.pending == []
    rig.webhook.answer(DELIVERED)
    assert rig.listener.calls == ["client_disconnected", "session_finished"]
    assert rig.journal.write() == ["remove"]
    assert rig.journal.entries == {}


def test_a_delete_whose_first_attempt_failed_is_journaled_unchanged_and_only_once(journalled):
    rig = enter_journal(journalled)
    rig.session.closed_by_client(4000, "bye")
    asked = rig.webhook.answer(AGAIN)
    assert rig.journal.write() == ["set_disconnect"]
    assert body_of(rig.journal.entries[ID]["closed"]) == body_of(asked)
    rig.clock.advance(10.0)
    rig.webhook.answer(AGAIN)
    assert rig.journal.pending == []
    rig.clock.advance(10.0)
    rig.webhook.answer(DELIVERED)
    assert rig.journal.write() == ["remove"]
    assert rig.journal.entries == {}


def test_a_delete_that_waits_for_the_circuit_breaker_is_journaled(journalled):
    rig = enter_journal(journalled)
    rig.webhook.breaker.state = OPEN
    rig.session.lost()
    assert rig.ends == []
    assert rig.journal.write() == ["set_disconnect"]
    assert orjson.loads(rig.journal.entries[ID]["closed"].disconnect)["code"] == 1006


def test_a_delete_that_cannot_be_journaled_is_retried_and_delivered(journalled):
    rig = enter_journal(journalled)
    rig.session.lost()
    rig.webhook.answer(AGAIN)
    rig.journal.fail()
    rig.clock.advance(10.0)
    rig.webhook.answer(DELIVERED)
    rig.journal.write()
    assert rig.journal.entries == {}


def test_a_delete_that_a_stop_interrupts_is_journaled_if_its_body_is_final(journalled):
    rig = enter_journal(journalled)
    rig.session.closed_by_client(4000, "bye")
    rig.session.abandon()
    assert rig.journal.write() == ["set_disconnect"]
    assert orjson.loads(rig.journal.entries[ID]["closed"].disconnect)["code"] == 4000


def test_a_delete_behind_messages_that_a_stop_interrupts_is_not_journaled(journalled):
    rig = enter_journal(journalled)
    rig.receive(b"1")
    rig.session.lost()
    rig.session.abandon()
    assert rig.journal.pending == []


def test_the_entry_of_a_session_is_what_the_journal_has(journalled):
    rig = journalled
    rig.journal.write()
    assert rig.session.entry() == Entry(ID, WS_URI, b"Bearer x", None, rig.session.info.connected_at)
    rig.webhook.answer(Accepted(None, "cart=7"))
    rig.session.lost()
    assert rig.session.entry() == Entry(ID, WS_URI, b"Bearer x", "cart=7", rig.session.info.connected_at)
    asked = rig.webhook.answer(AGAIN)
    entry = rig.session.entry()
    assert (entry.ended_at, entry.disconnect_body) == (asked.at, body_of(asked))


def test_the_journaled_delete_counts_a_message_that_was_not_delivered(journalled):
    rig = enter_journal(journalled)
    rig.receive(b"1")
    rig.receive(b"2")
    rig.session.closed_by_client(1000, "bye")
    rig.webhook.answer(UNDELIVERED)
    asked = rig.webhook.answer(AGAIN)
    rig.journal.write()
    remembered = rig.journal.entries[ID]["closed"]
    assert (remembered.at, body_of(remembered)) == (asked.at, body_of(asked))
    assert orjson.loads(body_of(remembered))["undelivered"] == 2
    assert rig.end == (1000, "bye")


def test_a_delete_that_is_given_up_stays_in_the_journal_for_the_next_start(journalled, caplog):
    rig = enter_journal(journalled)
    rig.webhook.windows[Closed] = 0.0
    rig.session.lost()
    rig.journal.write()
    asked = rig.webhook.answer(Retry("the backend is broken"))
    assert rig.listener.calls == ["client_disconnected", "session_finished"]
    assert rig.journal.write() == ["set_disconnect"]
    assert list(rig.journal.entries) == [ID]
    # The entry alone is enough to send the DELETE again.
    assert rig.listener.owed == [
        Entry(ID, WS_URI, b"Bearer x", None, rig.session.info.connected_at, asked.at, body_of(asked)),
    ]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


# A POST that was not answered in time.


def test_the_delete_after_a_post_that_timed_out_is_delayed_by_the_time_out():
    rig = Rig(api_timeout="4000")
    rig.webhook.answer(TIMED_OUT)
    assert rig.pending_client.refused is TIMED_OUT.error
    rig.clock.advance(3.99)
    assert rig.ends == []
    rig.clock.advance(0.02)
    assert (rig.end, rig.ends[0]["duration"]) == ((1006, ""), 0)
    rig.webhook.answer(DELIVERED)
    assert rig.listener.calls == ["client_disconnected", "session_finished"]
    assert rig.clock.timers == []


def test_the_delete_of_a_client_that_left_before_the_time_out_is_delayed_as_well():
    rig = Rig(api_timeout="4000")
    rig.session.lost()
    rig.webhook.answer(TIMED_OUT)
    assert rig.ends == []
    rig.clock.advance(4.0)
    assert rig.end == (1006, "")


def test_a_stop_does_not_wait_for_a_delayed_delete():
    rig = Rig(api_timeout="4000")
    rig.webhook.answer(TIMED_OUT)
    rig.session.outbox.skip_delay()
    assert rig.end == (1006, "")
    assert rig.clock.timers == []
    rig.session.outbox.skip_delay()
    rig.webhook.answer(DELIVERED)
    assert len(rig.ends) == 1


def test_while_a_node_stops_a_delayed_delete_is_sent_at_once():
    rig = Rig(api_timeout="4000")
    rig.listener.is_open = False
    rig.webhook.answer(TIMED_OUT)
    assert rig.end == (1006, "")


def test_a_delayed_delete_that_is_abandoned_is_not_sent(journalled):
    rig = journalled
    rig.journal.write()
    rig.webhook.answer(TIMED_OUT)
    rig.session.abandon()
    assert rig.clock.timers == []
    # Its counters were not final.
    assert rig.journal.pending == []


# What GET shows.


def test_the_information_of_a_client_that_waits_for_the_backend(rig):
    start = rig.clock.wall()
    rig.session.send(frames.TEXT, b"early")
    rig.clock.advance(3.0)
    assert shown(rig) == {
        "id": ID,
        "ws_uri": WS_URI,
        "state": "connecting",
        "connected_at": rfc3339(start),
        "last_seen_at": rfc3339(start),
        "remote_address": "192.0.2.7",
        "path": "/room",
        "query": "a=b",
        "subprotocol": None,
        "context": None,
        "groups": [],
        "messages_in": 0,
        "messages_out": 1,
        "bytes_in": 0,
        "bytes_out": 5,
        "inbox": 0,
        "buffered": 7,
    }


def test_a_client_was_never_seen_before_it_connected():
    rig = Rig()
    rig.session.info.last_seen -= 0.001
    information = shown(rig)
    assert information["last_seen_at"] == information["connected_at"]


def test_the_information_of_an_open_connection():
    rig = Rig(["chat"])
    start = rig.clock.wall()
    rig.webhook.answer(Accepted("chat", "ctx", ("lobby", "a")))
    rig.receive(b"12")
    rig.receive(b"345")
    rig.clock.advance(3.0)
    rig.session.info.last_seen = rig.clock.now()
    rig.clock.advance(4.0)
    rig.connection.backlog = 77
    information = shown(rig)
    assert information["state"] == "open"
    assert information["connected_at"] == rfc3339(start)
    assert information["last_seen_at"] == rfc3339(start + 3.0)
    assert (information["subprotocol"], information["context"]) == ("chat", "ctx")
    assert information["groups"] == ["lobby", "a"]
    assert (information["messages_in"], information["bytes_in"]) == (2, 5)
    assert (information["inbox"], information["buffered"]) == (515, 77)
    rig.session.close(Reason.SHUTDOWN)
    assert shown(rig)["state"] == "closing"


# What the backend asks for in its answer to a message.

EVERYTHING = Actions(("a", "b"), ("a",), Message(text=True, data=b"hi"), "new", Close(4000, "bye"))


def test_actions_are_done_in_order(rig):
    rig.enter().receive()
    rig.webhook.answer(Delivered(EVERYTHING))
    assert rig.services.groups.names(ID) == ["b"]
    assert rig.connection.written == [frames.encode(frames.TEXT, b"hi"), close_frame(4000, "bye")]
    assert rig.session.info.context == "new"
    assert (rig.session.state, rig.session.reason) == (State.CLOSING, Reason.BACKEND_CLOSED)
    rig.session.lost()
    assert rig.end == (4000, "bye")


@pytest.mark.parametrize("state", [State.CLOSING, State.DISCONNECTED, State.CLOSED])
def test_only_the_context_counts_once_the_client_is_being_closed_or_gone(state):
    journal = FakeJournal()
    rig = Rig(journal=journal)
    journal.write()
    rig.enter().receive()
    rig.bring_to_later(state)
    rig.connection.written.clear()
    rig.webhook.answer(Delivered(EVERYTHING))
    assert rig.services.groups.names(ID) == []
    assert rig.connection.written == []
    assert rig.session.state is state
    assert rig.session.info.context == "new"
    journal.write()
    assert journal.entries[ID]["context"] == "new"


def test_the_next_request_has_the_new_context(rig):
    rig.enter().receive()
    rig.receive()
    rig.webhook.answer(Delivered(Actions(context="page 2")))
    assert rig.webhook.subject.context == "page 2"
    rig.webhook.answer(Delivered(Actions(context="")))
    assert rig.session.info.context is None


@pytest.mark.parametrize(("before", "after"), [("same", "same"), (None, "")])
def test_a_context_that_is_the_same_is_not_written_to_the_journal(before, after):
    journal = FakeJournal()
    rig = Rig(journal=journal)
    journal.write()
    rig.webhook.answer(Accepted(None, before))
    journal.write()
    rig.receive()
    rig.webhook.answer(Delivered(Actions(context=after)))
    assert journal.waiting == []


def test_the_journal_forgets_a_context_that_is_removed():
    journal = FakeJournal()
    rig = Rig(journal=journal)
    journal.write()
    rig.webhook.answer(Accepted(None, "old"))
    rig.receive()
    rig.webhook.answer(Delivered(Actions(context="")))
    journal.write()
    assert journal.entries[ID]["context"] is None


def test_messages_behind_a_close_of_the_backend_are_still_delivered(rig):
    rig.enter().receive(b"1")
    rig.receive(b"2")
    rig.webhook.answer(Delivered(Actions(close=Close(1000, ""))))
    assert rig.webhook.pending.data == b"2"
    assert rig.connection.written == [close_frame(1000, "")]


def test_a_join_beyond_the_limit_closes_the_client(caplog):
    rig = Rig(max_groups="2")
    rig.enter().receive()
    rig.webhook.answer(Delivered(Actions(join=("a", "b", "c"), reply=Message(text=True, data=b"hi"), context="new")))
    assert rig.connection.written == [close_frame(1011, "message not delivered")]
    assert rig.session.info.messages_undelivered == 1
    assert rig.session.info.context is None
    (record,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert record.getMessage() == (
        f"{WS_URI}: message not delivered: the backend's Ws-Join cannot be done: This connection is in 2 groups "
        "already, as many as MAX_GROUPS allows."
    )


def test_the_client_joins_the_groups_of_the_answer_before_its_101(rig):
    rig.webhook.answer(Accepted(None, None, ("lobby", "a", "lobby")))
    assert rig.services.groups.names(ID) == ["lobby", "a"]


def test_a_client_that_left_before_the_answer_joins_no_groups(rig):
    rig.session.lost()
    rig.webhook.answer(Accepted(None, None, ("lobby",)))
    assert list(rig.services.groups.group("lobby")) == []


def test_a_client_with_too_many_groups_is_refused(caplog):
    rig = Rig(max_groups="2")
    rig.webhook.answer(Accepted(None, "ctx", ("a", "b", "c")))
    assert rig.pending_client.accepted is None
    refused = rig.pending_client.refused
    assert refused is not None
    assert (refused.status, refused.code) == (502, "BAD_GATEWAY")
    assert "MAX_GROUPS" in refused.message
    # The backend believes that it is connected.
    assert isinstance(rig.webhook.pending, Closed)
    (record,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert record.getMessage() == (
        f"{WS_URI}: the backend answered with more groups than MAX_GROUPS; a client was refused with 502"
    )


# The table.

C, O, G, D, X = State  # noqa: E741 - connecting, open, closing, disconnected, closed

TABLE = {
    "admitted": {C: O, X: X},
    "denied": {C: X, X: X},
    "denied though told": {C: X, X: X},
    "message": {O: O, G: G, D: D},
    "push": {C: C, O: O},
    "client closes": {O: X, G: X, D: X},
    "violation": {O: X, G: X},
    "disconnected": {O: D, G: D},
    "lost": {C: X, O: X, G: X, D: X, X: X},
    "backend closes": {C: X, O: G, G: G, D: D, X: X},
    "shutdown": {C: X, O: G, G: G, D: D, X: X},
    "timeout": {O: X, G: G, D: D, X: X},
    "undelivered": {O: G, G: G, D: D, X: X},
    "backend gone": {O: G, G: G, D: D, X: X},
    "abandoned": {O: O, G: G, D: D, X: X},
    "reply": {O: O, G: G, D: D, X: X},
    "drained": {O: O, G: G, X: X},
}

EVENTS = {
    "admitted": lambda s: s.outbox.listener.decided(OK),
    "denied": lambda s: s.outbox.listener.decided(FORBIDDEN),
    "denied though told": lambda s: s.outbox.listener.decided(TIMED_OUT),
    "message": lambda s: s.receive(Message(text=True, data=b"m")),
    "push": lambda s: s.send(frames.TEXT, b"p"),
    "client closes": lambda s: s.closed_by_client(1000, ""),
    "violation": lambda s: s.violated(1002, "oops"),
    "disconnected": lambda s: s.disconnected(FakeConnection()),
    "lost": lambda s: s.lost(),
    "abandoned": lambda s: s.abandon(),
    "backend closes": lambda s: s.close(Reason.BACKEND_CLOSED),
    "shutdown": lambda s: s.close(Reason.SHUTDOWN),
    "timeout": lambda s: s.close(Reason.TIMED_OUT),
    "undelivered": lambda s: s.undelivered(Reason.UNDELIVERED, "no"),
    "backend gone": lambda s: s.undelivered(Reason.BACKEND_GONE, "gone"),
    "reply": lambda s: s.requested(Actions(reply=Message(text=True, data=b"r"))),
    "drained": lambda s: s.outbox.release(),
}


@pytest.mark.parametrize(
    ("event", "state", "after"),
    [(event, state, after) for event, row in TABLE.items() for state, after in row.items()],
)
def test_every_event_in_every_state_follows_the_table(rig, event, state, after):
    if state is X:
        # Closed before the backend has decided, so that every event may still come.
        rig.session.lost()
    else:
        rig.bring_to(state)
    left = rig.listener.calls.count("client_disconnected")
    EVENTS[event](rig.session)
    assert rig.session.state is after
    assert rig.listener.calls.count("client_disconnected") == left + (after in (D, X) and state not in (D, X))
    assert rig.session.reason is not None or after in (C, O)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("after", State)
def test_a_transition_missing_from_the_table_is_an_assertion_error(rig, state, after):
    rig.bring_to(state)
    if after in TRANSITIONS[state]:
        rig.session._move(after, Reason.SHUTDOWN)
        assert rig.session.state is after
    else:
        with pytest.raises(AssertionError):
            rig.session._move(after, Reason.SHUTDOWN)
        assert rig.session.state is state


def test_states_only_go_forward():
    order = list(State)
    assert {state: {order.index(after) for after in moves} for state, moves in TRANSITIONS.items()} == {
        State.CONNECTING: {1, 4},
        State.OPEN: {2, 3, 4},
        State.CLOSING: {3, 4},
        State.DISCONNECTED: {4},
        State.CLOSED: set(),
    }
    assert all(why for row in TRANSITIONS.values() for why in row.values())


def test_every_transition_is_logged_with_its_reason(caplog):
    caplog.set_level("DEBUG", "wsaas")
    Rig().enter().session.lost()
    states = [text for text in caplog.messages if text.startswith(WS_URI)]
    assert states == [f"{WS_URI}: state open (accepted)", f"{WS_URI}: state closed (client lost)"]


class SessionMachine(RuleBasedStateMachine):
    """A client, a backend, a journal and a node whose actions come in any order."""

    @initialize(offers=st.sampled_from([(), ("a",)]))
    def start(self, offers):
        self.rig = Rig(offers, inbox="2000", send_buffer="50", journal=FakeJournal())
        self.session = self.rig.session
        self.webhook = self.rig.webhook
        self.journal = self.rig.journal
        self.maybe_accepted = None
        self.received = 0
        self.pushed = []
        self.states = [State.CONNECTING]
        self.failed = False
        self.taken = 0
        self.close_code = 1006
        """The code of the first Close on the wire."""

    def state_is(self, *states):
        return self.session.state in states

    @rule()
    def the_journal_writes(self):
        self.journal.write()

    @rule()
    def the_journal_fails(self):
        self.journal.fail()

    @precondition(lambda self: self.maybe_accepted is None and self.webhook.calls)
    @rule(verdict=st.sampled_from([OK, OK, OK, FORBIDDEN, TIMED_OUT, Accepted("a", "x")]))
    def the_backend_decides(self, verdict):
        self.maybe_accepted = isinstance(verdict, Accepted) or verdict.disconnect_owed
        self.webhook.answer(verdict)

    @precondition(lambda self: self.state_is(State.OPEN, State.CLOSING, State.DISCONNECTED))
    @rule(size=st.sampled_from([0, 10, 1000]))
    def the_client_sends(self, size):
        self.received += 1
        self.rig.receive(b"%d" % self.received + b"." * size)

    @precondition(lambda self: self.state_is(State.OPEN, State.CLOSING))
    @rule(violates=st.booleans())
    def the_client_ends(self, violates):
        end = self.session.violated if violates else self.session.closed_by_client
        if self.state_is(State.OPEN):
            self.close_code = 1002
        end(1002, "its own")

    @precondition(lambda self: self.state_is(State.OPEN, State.CLOSING))
    @rule()
    def the_client_is_disconnected_and_frames_are_left(self):
        self.session.disconnected(FakeConnection())

    @precondition(lambda self: self.state_is(State.DISCONNECTED))
    @rule()
    def a_close_is_among_the_frames_that_are_left(self):
        if self.close_code == 1006:
            self.close_code = 4000
        self.session.closed_by_client(4000, "left")

    @rule()
    def the_client_is_lost(self):
        self.session.lost()

    @rule(data=st.binary(max_size=40))
    def the_backend_pushes(self, data):
        try:
            self.session.send(frames.BINARY, data)
        except errors.Gone:
            assert self.state_is(State.CLOSING, State.DISCONNECTED, State.CLOSED)
        except errors.SlowClient:
            assert self.session.buffered > 0
        else:
            self.pushed.append(frames.encode(frames.BINARY, data))

    @precondition(lambda self: not self.state_is(State.CONNECTING))
    @rule(reason=st.sampled_from([Reason.BACKEND_CLOSED, Reason.SHUTDOWN, Reason.TIMED_OUT]))
    def the_client_has_to_go(self, reason):
        self.session.close(reason)

    @rule(reason=st.sampled_from([Reason.BACKEND_CLOSED, Reason.SHUTDOWN]))
    def the_client_has_to_go_from_wherever_it_is(self, reason):
        self.session.close(reason)

    @precondition(lambda self: self.maybe_accepted is not None and self.webhook.calls)
    @rule(
        verdict=st.sampled_from(
            [
                DELIVERED,
                DELIVERED,
                DELIVERED,
                Delivered(Actions(reply=Message(text=False, data=b"r" * 30))),
                Retry("", 5.0),
                UNDELIVERED,
                GONE,
            ]
        )
    )
    def the_backend_answers(self, verdict):
        event = self.webhook.pending
        if isinstance(event, Closed) and not isinstance(verdict, Retry):
            verdict = DELIVERED
        actions = verdict.actions if isinstance(verdict, Delivered) else None
        if actions and actions.reply and self.state_is(State.OPEN):
            self.pushed.append(frames.encode(frames.BINARY, actions.reply.data))
        self.failed = self.failed or isinstance(verdict, Undeliverable)
        self.taken += isinstance(event, Message) and isinstance(verdict, Delivered)
        self.webhook.answer(verdict)

    @rule(seconds=st.sampled_from([1.0, 5.0]))
    def time_passes(self, seconds):
        self.rig.clock.advance(seconds)

    @rule(backlog=st.sampled_from([0, 10, 60]))
    def the_client_takes_what_waits_or_does_not(self, backlog):
        self.rig.connection.backlog = backlog
        if backlog == 0 and not self.state_is(State.CONNECTING):
            self.session.outbox.release()

    @invariant()
    def the_first_close_on_the_wire_is_noted(self):
        if self.close_code == 1006 and (closes := [each for each in self.rig.connection.written if each[0] == 0x88]):
            self.close_code = int.from_bytes(closes[0][2:4], "big")

    @invariant()
    def states_only_go_forward(self):
        if self.session.state is not self.states[-1]:
            assert list(State).index(self.session.state) > list(State).index(self.states[-1])
            self.states.append(self.session.state)

    @invariant()
    def the_listener_is_called_once(self):
        calls = self.rig.listener.calls
        assert calls in ([], ["client_disconnected"], ["client_disconnected", "session_finished"])
        assert ("client_disconnected" in calls) == self.state_is(State.DISCONNECTED, State.CLOSED)
        if "session_finished" in calls:
            assert self.webhook.calls == []
            assert self.rig.clock.timers == []

    @invariant()
    def the_backend_hears_everything_in_order_and_the_end_last(self):
        self.the_first_close_on_the_wire_is_noted()
        told = self.webhook.events
        assert not told or isinstance(told[0], Opened)
        ends = [event for event in told if isinstance(event, Closed)]
        assert len(ends) <= 1
        assert not ends or (told[-1] is ends[0] and self.maybe_accepted and self.state_is(State.CLOSED))
        messages = [event for event in told if isinstance(event, Message)]
        assert [event.number for event in messages] == list(range(1, len(messages) + 1))
        assert [int(event.data.partition(b".")[0]) for event in messages] == [event.number for event in messages]
        if ends:
            body = orjson.loads(body_of(ends[0]))
            assert body["code"] == self.close_code
            assert body["messages_in"] == self.received
            assert body["undelivered"] == self.received - self.taken

    @invariant()
    def what_is_owed_is_remembered(self):
        told = self.webhook.events
        is_owed = self.maybe_accepted is not False and "session_finished" not in self.rig.listener.calls
        if told and is_owed:
            assert ID in self.journal.entries
        if told and is_owed and not self.journal.pending:
            # Its body is in the journal, once it may have to be sent again.
            late, written = self.session.outbox.late, self.journal.entries[ID]["closed"]
            assert (late and (late.at, body_of(late))) == (written and (written.at, body_of(written)))
        if "session_finished" in self.rig.listener.calls and not self.journal.pending:
            assert self.journal.entries == {}

    @invariant()
    def the_client_gets_everything_in_order(self):
        accepted = self.rig.pending_client.accepted
        if accepted is None and self.state_is(State.CLOSED):
            # It was never admitted, and the frames that were kept for it are dropped.
            assert self.session.buffered == 0
            assert self.rig.connection.written == []
            return
        connection = self.session.connection
        kept = bytes(connection._frames) if isinstance(connection, OpeningHandshake) else b""
        first_frames = accepted[1] if accepted else kept
        got = first_frames + b"".join(self.rig.connection.written)
        pushed = b"".join(self.pushed)
        assert got.startswith(pushed)
        rest = got[len(pushed) :]
        assert rest == b"" or (rest[0] == 0x88 and len(rest) == 2 + rest[1] and self.state_is(*list(State)[2:]))
        assert self.session.info.messages_out == len(self.pushed)

    @invariant()
    def a_handshake_is_answered_once(self):
        self.states_only_go_forward()
        client = self.rig.pending_client
        assert (client.accepted is not None) == (State.OPEN in self.states)
        if client.refused is not None:
            assert self.states == [State.CONNECTING, State.CLOSED]

    def teardown(self):
        if not hasattr(self, "rig"):
            return
        self.session.lost()
        self.journal.write()
        if self.maybe_accepted is None and self.webhook.calls:
            self.the_backend_decides(OK)
        while self.webhook.calls or self.rig.clock.timers or self.journal.pending:
            self.rig.clock.advance(5.0)
            self.journal.write()
            if self.webhook.calls:
                self.the_backend_answers(DELIVERED)
            self.the_backend_hears_everything_in_order_and_the_end_last()
            self.what_is_owed_is_remembered()
        assert self.rig.listener.calls == ["client_disconnected", "session_finished"]
        assert len(self.rig.ends) == bool(self.maybe_accepted)
        assert self.journal.entries == {}
        if not self.failed:
            told = [event for event in self.webhook.events if isinstance(event, Message)]
            assert len(told) == self.received


SessionMachine.TestCase.settings = settings(deadline=None, max_examples=200, stateful_step_count=40)
TestSessionMachine = SessionMachine.TestCase
