import math
import sys
from dataclasses import replace

import pytest

from tests.support.frames import frame
from tests.support.websocket_rig import SWITCHING_PROTOCOLS, WebSocketRig
from wsaas import errors
from wsaas.delivery.verdicts import DELIVERED, Accepted, Actions, Delivered, Rejected, Undeliverable
from wsaas.events import Message, Opened
from wsaas.memory.limit import NONE, THROTTLING, MemoryLimit
from wsaas.reason import Reason
from wsaas.sessions.publication import Publication, Recipients, SharedMessage
from wsaas.sessions.session_state import State
from wsaas.transport.departed import FlushingProtocol
from wsaas.transport.websocket import WebSocketProtocol
from wsaas.websocket import frames

OK = Accepted(None, None)


def text(data):
    return frame(frames.TEXT, data)


@pytest.fixture
def rig():
    return WebSocketRig().enter()


def ping(payload=b""):
    return frame(frames.PING, payload)


def close(code=1000, reason=""):
    return frame(frames.CLOSE, code.to_bytes(2, "big") + reason.encode())


# While the backend decides.


def test_a_pending_client_is_sent_nothing_and_has_no_deadline():
    rig = WebSocketRig()
    assert rig.transport.writes == []
    assert rig.timeouts.connections == [rig.pending_client]
    rig.pass_time(3600.0)
    assert not rig.transport.closed


def test_an_admitted_client_gets_its_101_and_another_protocol():
    rig = WebSocketRig(offered=["chat"])
    rig.webhook.answer(Accepted("chat", None))
    assert rig.transport.writes == [SWITCHING_PROTOCOLS[:-2] + b"Sec-WebSocket-Protocol: chat\r\n\r\n"]
    connection = rig.transport.protocol
    assert isinstance(connection, WebSocketProtocol)
    assert rig.session.connection is connection
    assert rig.timeouts.connections == [connection]


def test_the_objects_of_an_idle_client_are_small(rig):
    connection = rig.transport.protocol
    objects = [connection, connection._frames]
    assert not any(hasattr(each, "__dict__") for each in objects)
    assert sum(map(sys.getsizeof, objects)) <= 128 + 80


def test_early_pushes_are_sent_in_one_write_with_the_101():
    rig = WebSocketRig()
    rig.session.send(frames.TEXT, b"hello")
    rig.session.send(frames.BINARY, b"bytes")
    rig.webhook.answer(OK)
    first_frames = frames.encode(frames.TEXT, b"hello") + frames.encode(frames.BINARY, b"bytes")
    assert rig.transport.writes == [SWITCHING_PROTOCOLS + first_frames]


def test_frames_sent_before_the_101_are_kept_and_delivered():
    rig = WebSocketRig(early_data=text(b"one")[:3])
    rig.receive(text(b"one")[3:])
    rig.receive(text(b"two") + text(b"three"))
    assert [type(event) for event in rig.webhook.events] == [Opened]
    rig.webhook.answer(OK)
    rig.answer_all()
    assert rig.messages == [b"one", b"two", b"three"]


def test_frames_sent_with_the_handshake_are_delivered_without_further_data():
    rig = WebSocketRig(early_data=text(b"one"))
    rig.webhook.answer(OK)
    assert rig.messages == [b"one"]


def test_a_client_that_sends_too_much_before_its_101_is_not_read_until_then():
    rig = WebSocketRig(early_data=b".")
    reading = []
    rig.receive(b"." * (64 * 1024 - 1))
    reading.append(rig.transport.reading)
    rig.receive(b".")
    reading.append(rig.transport.reading)
    rig.webhook.answer(OK)
    reading.append(rig.transport.reading)
    assert reading == [True, False, True]


def test_a_client_whose_early_messages_fill_the_inbox_is_not_read():
    rig = WebSocketRig(early_data=text(b"." * 100) * 3, inbox="100")
    rig.webhook.answer(OK)
    assert not rig.transport.reading


def test_a_refused_client_gets_the_error_and_is_closed():
    rig = WebSocketRig()
    rig.webhook.answer(
        Rejected(errors.Unauthorized("Who are you?", ("WWW-Authenticate", "Basic")), disconnect_owed=False)
    )
    answer = rig.transport.take()
    assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b"\r\nWWW-Authenticate: Basic\r\n" in answer
    assert b"\r\nConnection: close\r\n" in answer
    assert rig.transport.closed
    assert not rig.transport.aborted
    assert rig.listener.calls == ["client_disconnected", "session_finished"]


def refused_with_close(subprotocol=None, **options):
    rig = WebSocketRig(**options)
    rig.webhook.answer(Rejected(errors.RefusedWithClose(4401, "expired", subprotocol), disconnect_owed=False))
    return rig


CLOSE_4401 = frames.encode_close(4401, "expired")


def test_a_client_that_is_refused_with_a_close_gets_its_101_and_the_close_in_one_write():
    rig = refused_with_close()
    assert rig.transport.writes == [SWITCHING_PROTOCOLS + CLOSE_4401]
    assert not rig.transport.closed
    assert rig.session.state is State.CLOSED
    assert rig.listener.calls == ["client_disconnected", "session_finished"]
    assert rig.timeouts.connections == [rig.transport.protocol]
    rig.receive(text(b"dropped") + ping() + close(4401, "expired")[:5])
    assert not rig.transport.closed
    rig.receive(close(4401, "expired")[5:])
    assert rig.transport.closed
    assert not rig.transport.aborted
    rig.receive(b"more")
    rig.transport.lose()
    assert rig.timeouts.connections == []
    assert [type(event) for event in rig.webhook.events] == [Opened]


@pytest.mark.parametrize(
    ("offered", "named", "setting", "chosen"),
    [
        (["a", "b"], None, "", b"a"),
        (["a", "b"], "b", "", b"b"),
        (["a", "b"], None, "c, b", b"b"),
        (["a"], None, "c", b"a"),
    ],
)
def test_a_refusal_with_a_close_chooses_an_offered_subprotocol_as_browsers_demand_one(offered, named, setting, chosen):
    rig = refused_with_close(named, offered=offered, **({"subprotocols": setting} if setting else {}))
    head = SWITCHING_PROTOCOLS[:-2] + b"Sec-WebSocket-Protocol: %b\r\n\r\n" % chosen
    assert rig.transport.writes == [head + CLOSE_4401]


def test_a_refusal_with_a_close_and_a_subprotocol_that_was_not_offered_is_502(caplog):
    rig = refused_with_close("b", offered=["a"])
    assert rig.transport.take().startswith(b"HTTP/1.1 502 ")
    assert "the backend chose the subprotocol 'b', which was not offered" in caplog.text
    assert rig.listener.calls == ["client_disconnected", "session_finished"]
    assert [type(event) for event in rig.webhook.events] == [Opened]


def test_what_a_client_sent_before_it_was_refused_with_a_close_is_dropped():
    rig = WebSocketRig(early_data=text(b"one"))
    rig.receive(b"." * 64 * 1024)
    rig.session.send(frames.TEXT, b"kept until the 101")
    rig.webhook.answer(Rejected(errors.RefusedWithClose(4401, "expired"), disconnect_owed=False))
    assert rig.transport.writes == [SWITCHING_PROTOCOLS + CLOSE_4401]
    assert rig.transport.reading
    assert rig.messages == []


@pytest.mark.parametrize("data", [b"\x01\x02\x03", text(b"." * 1000) * 20, text(b"." * 20_000)])
def test_a_client_that_sends_much_or_no_frames_after_it_was_refused_with_a_close_is_half_closed(data):
    rig = refused_with_close()
    rig.receive(data)
    assert rig.transport.ended
    rig.receive(close())
    assert not rig.transport.aborted
    rig.pass_time(9.9)
    assert not rig.transport.aborted
    rig.pass_time(0.1)
    assert rig.transport.aborted


def test_a_client_that_does_not_answer_the_close_of_its_refusal_is_dropped_in_time():
    rig = refused_with_close()
    rig.receive(text(b"one") * 10)
    rig.pass_time(9.9)
    assert not rig.transport.aborted
    rig.pass_time(0.1)
    assert rig.transport.aborted


def test_a_stop_closes_a_client_that_was_refused_with_a_close():
    rig = refused_with_close()
    rig.transport.protocol.close_gracefully()
    assert rig.transport.closed
    assert not rig.transport.aborted


def test_a_client_that_does_not_read_its_refusal_is_dropped():
    rig = WebSocketRig()
    rig.webhook.answer(Rejected(errors.Forbidden("no"), disconnect_owed=False))
    rig.pass_time(9.9)
    aborted = [rig.transport.aborted]
    rig.pass_time(0.1)
    aborted.append(rig.transport.aborted)
    assert aborted == [False, True]
    rig.transport.lose()
    assert rig.timeouts.connections == []
    assert rig.listener.calls == ["client_disconnected", "session_finished"]


def test_a_pending_client_that_disconnects_is_owed_a_delete_once_it_was_admitted():
    rig = WebSocketRig()
    rig.transport.lose()
    assert rig.timeouts.connections == []
    assert rig.listener.calls == ["client_disconnected"]
    rig.webhook.answer(OK)
    assert rig.end == (1006, "")
    assert rig.transport.writes == []


def test_a_pending_client_that_is_closed_gracefully_is_sent_what_is_buffered_within_a_bound():
    rig = WebSocketRig()
    rig.pending_client.close_gracefully()
    assert rig.transport.closed
    rig.pass_time(10.0)
    assert rig.transport.aborted


# Messages in.


def test_a_frame_becomes_a_message_at_once(rig):
    rig.receive(text(b"hello"))
    assert rig.webhook.pending == Message(text=True, data=b"hello", at=rig.clock.wall(), number=1)
    rig.receive(frame(frames.BINARY, b"\xff"))
    rig.answer_all()
    assert rig.webhook.events[-1] == Message(text=False, data=b"\xff", at=rig.clock.wall(), number=2)


def test_a_frame_may_come_in_pieces_and_a_piece_may_hold_many_frames(rig):
    data = b"".join(text(b"%d" % number) for number in range(5))
    for byte in data:
        rig.receive(bytes([byte]))
    rig.receive(data)
    rig.answer_all()
    assert rig.messages == [b"0", b"1", b"2", b"3", b"4"] * 2


def test_the_first_bytes_of_a_frame_end_the_silence(rig):
    rig.clock.advance(5.0)
    rig.receive(text(b"hello")[:1])
    assert rig.session.info.last_seen == rig.clock.now()


def test_a_client_with_too_many_undelivered_messages_is_not_read_until_the_backend_caught_up():
    rig = WebSocketRig(inbox="2000").enter()
    rig.receive(text(b"." * 1000) * 6)
    assert not rig.transport.reading
    assert rig.session.info.messages_in == 3
    rig.webhook.answer(DELIVERED)
    assert not rig.transport.reading
    rig.webhook.answer(DELIVERED)
    # The frames that were read before are handed on, and fill the inbox again.
    assert rig.session.info.messages_in == 5
    assert not rig.transport.reading
    rig.clock.advance(20.0)
    while rig.webhook.calls:
        rig.webhook.answer(DELIVERED)
    assert rig.transport.reading
    assert len(rig.messages) == 6
    # Reading was paused, so the client's silence proves nothing.
    assert rig.session.info.last_seen == rig.clock.now()


def test_received_messages_are_delivered_if_the_client_is_lost_while_paused():
    rig = WebSocketRig(inbox="2000").enter()
    rig.receive(text(b"." * 1000) * 6)
    rig.transport.lose()
    assert rig.session.state is State.DISCONNECTED
    assert rig.listener.calls == ["client_disconnected"]
    with pytest.raises(errors.Gone):
        rig.session.send(frames.TEXT, b"too late")
    # Messages are sent no faster than the backend takes them, and no more than `INBOX` is buffered.
    assert rig.session.info.messages_in == 3
    rig.answer_all()
    assert len(rig.messages) == rig.session.info.messages_in == 6
    assert rig.end == (1006, "")
    assert rig.listener.calls == ["client_disconnected", "session_finished"]


def test_a_received_close_counts_if_the_client_is_lost_while_paused():
    rig = WebSocketRig(inbox="2000").enter()
    rig.receive(text(b"." * 1000) * 6 + ping(b"x") + close(4000, "bye"))
    rig.transport.lose()
    rig.answer_all()
    assert len(rig.messages) == 6
    assert rig.end == (4000, "bye")


def test_a_violation_in_unread_frames_ends_their_delivery():
    rig = WebSocketRig(inbox="2000").enter()
    rig.receive(text(b"." * 1000) * 6 + text(b"\xff") + text(b"more"))
    rig.transport.lose()
    rig.answer_all()
    assert len(rig.messages) == 6
    # No Close was sent.
    assert rig.end == (1006, "")


def test_a_lost_client_has_no_deadline_any_more(rig):
    rig.transport.lose()
    assert rig.timeouts.connections == []
    assert rig.session.state is State.CLOSED
    assert rig.end == (1006, "")


# Messages out.


def test_a_push_and_a_reply_are_written_at_once(rig):
    rig.session.send(frames.TEXT, b"push")
    rig.receive(text(b"hello"))
    rig.webhook.answer(Delivered(Actions(reply=Message(text=True, data=b"reply"))))
    assert rig.transport.writes == [frames.encode(frames.TEXT, b"push"), frames.encode(frames.TEXT, b"reply")]


def test_the_transport_pauses_writing_at_the_send_buffer():
    rig = WebSocketRig(send_buffer="5000").enter()
    assert rig.transport.high == 5000
    rig.transport.backlog = 4998
    rig.transport.protocol.pause_writing()
    with pytest.raises(errors.SlowClient):
        rig.session.send(frames.TEXT, b".")
    assert rig.transport.writes == []


def test_replies_continue_when_the_client_has_read_earlier_ones():
    rig = WebSocketRig(send_buffer="5000").enter()
    rig.receive(text(b"1") + text(b"2"))
    rig.transport.backlog = 5001
    rig.webhook.answer(Delivered(Actions(reply=Message(text=True, data=b"reply"))))
    assert rig.messages == [b"1"]
    rig.transport.protocol.resume_writing()
    assert rig.messages == [b"1", b"2"]


# Control frames.


def test_a_ping_is_answered_at_once_while_a_message_waits_for_the_backend(rig):
    rig.receive(text(b"slow") + ping(b"are you there?"))
    assert rig.transport.writes == [frames.encode(frames.PONG, b"are you there?")]


def test_a_pong_only_ends_the_silence(rig):
    rig.clock.advance(5.0)
    rig.receive(frame(frames.PONG, b"x"))
    assert rig.transport.writes == []
    assert rig.session.info.last_seen == rig.clock.now()
    assert rig.messages == []


def test_a_client_that_pings_and_does_not_read_gets_no_more_pongs_than_fit():
    rig = WebSocketRig(send_buffer="1000").enter()
    rig.transport.backlog = 1000
    rig.receive(ping(b"a"))
    assert rig.transport.take() == frames.encode(frames.PONG, b"a")
    rig.transport.backlog = 1001
    rig.receive(ping(b"b") * 64)
    rig.receive(ping(b"c"))
    assert rig.transport.writes == []
    rig.transport.backlog = 0
    rig.transport.protocol.resume_writing()
    assert rig.transport.take() == frames.encode(frames.PONG, b"c")
    rig.transport.protocol.resume_writing()
    assert rig.transport.take() == b""
    rig.receive(ping(b"d"))
    assert rig.transport.take() == frames.encode(frames.PONG, b"d")


def test_a_pong_never_overtakes_the_pending_one():
    rig = WebSocketRig(send_buffer="1000").enter()
    rig.transport.backlog = 1001
    rig.receive(ping(b"a"))
    rig.transport.backlog = 500
    rig.receive(ping(b"b"))
    assert rig.transport.writes == []
    rig.transport.protocol.resume_writing()
    assert rig.transport.take() == frames.encode(frames.PONG, b"b")


def test_a_ping_that_was_not_answered_before_a_close_is_not_answered_after_it():
    rig = WebSocketRig(send_buffer="1000").enter()
    rig.transport.backlog = 1001
    rig.receive(ping(b"a"))
    rig.session.close(Reason.SHUTDOWN)
    rig.transport.take()
    rig.transport.protocol.resume_writing()
    assert rig.transport.take() == b""


@pytest.mark.parametrize(
    ("frame", "echo", "end"),
    [
        (close(1000, "bye"), frames.encode_close(1000, "bye"), (1000, "bye")),
        (close(4999), frames.encode_close(4999), (4999, "")),
        (frame(frames.CLOSE), frames.encode_close(1005), (1005, "")),
    ],
)
def test_a_close_is_echoed_at_once_and_the_delete_follows_the_last_message(rig, frame, echo, end):
    rig.receive(text(b"slow") + frame)
    assert rig.transport.writes == [echo]
    assert rig.transport.closed
    assert rig.session.state is State.CLOSED
    assert rig.listener.calls == ["client_disconnected"]
    assert len(rig.webhook.events) == 2
    rig.webhook.answer(DELIVERED)
    assert rig.end == end
    rig.transport.lose()
    rig.answer_all()
    assert rig.listener.calls == ["client_disconnected", "session_finished"]


def test_a_client_that_closed_but_does_not_read_the_echo_is_dropped(rig):
    rig.transport.backlog = 4
    rig.receive(close())
    rig.pass_time(9.9)
    assert not rig.transport.aborted
    rig.pass_time(0.1)
    assert rig.transport.aborted


def test_frames_after_a_close_are_ignored(rig):
    rig.receive(close(1000) + text(b"more") + ping() + close(4000))
    assert rig.transport.writes == [frames.encode_close(1000)]
    rig.answer_all()
    assert rig.messages == []
    assert rig.end == (1000, "")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (text(b"\xff"), 1007),
        (b"\x81\x05hello", 1002),
        (frame(3), 1002),
        (frame(frames.TEXT, b"." * 101), 1009),
        (close(1005), 1002),
    ],
)
def test_a_violation_is_answered_with_a_close_and_the_end_of_writing_while_reading_goes_on(data, code):
    rig = WebSocketRig(max_message_size="100").enter()
    rig.receive(data)
    (frame,) = rig.transport.writes
    assert (frame[0], frame[2:4]) == (0x88, code.to_bytes(2, "big"))
    assert rig.transport.ended
    assert not rig.transport.closed
    assert rig.transport.reading
    assert rig.session.state is State.CLOSED
    assert rig.session.reason is Reason.VIOLATION
    assert rig.end == (code, frame[4:].decode())
    rig.receive(text(b"more") + ping())
    assert rig.session.info.messages_in == 0
    rig.pass_time(9.9)
    assert not rig.transport.aborted
    rig.pass_time(0.1)
    assert rig.transport.aborted


def test_a_client_that_violated_the_protocol_may_close_by_itself(rig):
    rig.receive(text(b"\xff"))
    rig.transport.lose()
    rig.answer_all()
    assert rig.timeouts.connections == []
    assert rig.listener.calls == ["client_disconnected", "session_finished"]


# Closing from here.


def test_a_client_that_answers_a_close_has_disconnected(rig):
    rig.session.close(Reason.SHUTDOWN)
    assert rig.transport.take() == frames.encode_close(1001, "going away")
    assert not rig.transport.closed
    rig.receive(close(1001))
    # The client's Close was the answer. No second Close is sent.
    assert rig.transport.writes == []
    assert rig.transport.closed
    assert rig.end == (1001, "going away")


def test_messages_that_arrive_after_a_close_was_sent_still_count(rig):
    rig.session.close(Reason.SHUTDOWN)
    rig.receive(text(b"late") + close())
    rig.answer_all()
    assert rig.messages == [b"late"]
    assert rig.end == (1001, "going away")


def test_a_violation_while_closing_gets_no_second_close(rig):
    rig.session.close(Reason.SHUTDOWN)
    rig.transport.take()
    rig.receive(b"\x81\x05hello")
    assert rig.transport.writes == []
    assert rig.transport.ended
    assert rig.end == (1001, "going away")


def test_a_client_that_does_not_answer_a_close_in_time_is_dropped(rig):
    rig.session.close(Reason.SHUTDOWN)
    rig.pass_time(9.999)
    assert not rig.transport.aborted
    rig.pass_time(0.002)
    assert rig.transport.aborted
    rig.transport.lose()
    assert rig.end == (1001, "going away")


def test_a_client_whose_message_was_refused_is_closed_and_read_for_its_answer():
    rig = WebSocketRig(inbox="1000").enter()
    rig.receive(text(b"." * 1000) * 3)
    assert not rig.transport.reading
    rig.webhook.answer(Undeliverable("no", Reason.UNDELIVERED))
    assert rig.transport.writes == [frames.encode_close(1011, "message not delivered")]
    assert rig.transport.reading
    rig.receive(close(1011))
    assert rig.transport.closed
    assert rig.end == (1011, "message not delivered")


def test_close_gracefully_sends_what_is_buffered_within_a_bound(rig):
    rig.transport.backlog = 100
    rig.transport.protocol.close_gracefully()
    assert rig.transport.closed
    assert not rig.transport.aborted
    rig.pass_time(10.0)
    assert rig.transport.aborted


# Silence.


def test_a_quiet_client_is_pinged_once_after_half_of_the_timeout(rig):
    rig.pass_time(14.999)
    assert rig.transport.writes == []
    rig.pass_time(0.002)
    assert rig.transport.writes == [frames.encode(frames.PING, b"")]
    rig.pass_time(14.0, checks=14)
    assert len(rig.transport.writes) == 1
    assert rig.session.state is State.OPEN


def test_a_client_that_answers_pings_is_never_closed(rig):
    for _ in range(10):
        rig.pass_time(15.0)
        assert rig.transport.take() == frames.encode(frames.PING, b"")
        rig.clock.advance(14.9)
        rig.receive(frame(frames.PONG))
    assert rig.session.state is State.OPEN


def test_a_client_that_answers_a_ping_at_once_is_pinged_again(rig):
    rig.pass_time(15.0)
    rig.receive(frame(frames.PONG))
    rig.transport.take()
    rig.pass_time(15.0)
    assert rig.transport.writes == [frames.encode(frames.PING, b"")]


def test_a_client_that_was_sent_a_close_is_not_pinged():
    rig = WebSocketRig(ws_timeout="5000").enter()
    rig.session.close(Reason.SHUTDOWN)
    rig.transport.take()
    rig.pass_time(9.0, checks=9)
    assert rig.transport.writes == []


def test_a_client_that_sends_messages_is_not_pinged(rig):
    for _ in range(10):
        rig.pass_time(14.0)
        rig.receive(text(b"hi"))
    assert rig.transport.writes == []


def test_a_silent_client_is_closed(rig):
    rig.pass_time(15.0)
    rig.transport.take()
    rig.pass_time(15.0)
    assert rig.transport.writes == [frames.encode_close(1001, "timeout")]
    assert rig.transport.closed
    assert rig.end == (1001, "timeout")
    assert rig.session.reason is Reason.TIMED_OUT


def test_a_silent_client_is_sent_what_is_buffered_within_a_bound(rig):
    rig.pass_time(15.0)
    rig.transport.backlog = 100
    rig.pass_time(15.0)
    assert rig.end == (1001, "timeout")
    assert rig.transport.closed
    assert not rig.transport.aborted
    rig.pass_time(10.0)
    assert rig.transport.aborted


def test_a_client_that_waited_long_for_its_101_is_pinged_before_it_is_closed():
    rig = WebSocketRig(ws_timeout="5000")
    rig.clock.advance(9.0)
    rig.enter()
    rig.pass_time(0.5)
    assert rig.transport.take() == frames.encode(frames.PING, b"")
    rig.pass_time(2.4)
    assert rig.session.state is State.OPEN
    rig.receive(frame(frames.PONG))
    rig.pass_time(2.4)
    assert rig.session.state is State.OPEN


def test_after_a_stall_a_client_is_pinged_before_it_is_closed(rig):
    rig.pass_time(3600.0)
    assert rig.transport.take() == frames.encode(frames.PING, b"")
    rig.pass_time(14.9)
    assert rig.session.state is State.OPEN
    rig.pass_time(0.1)
    assert rig.session.reason is Reason.TIMED_OUT


def test_a_client_that_is_not_read_is_not_closed_for_its_silence():
    rig = WebSocketRig(inbox="1000").enter()
    rig.receive(text(b"." * 1000) * 2)
    assert not rig.transport.reading
    rig.pass_time(300.0, checks=30)
    assert rig.transport.writes == []
    states = [rig.session.state]
    rig.webhook.answer(DELIVERED)
    assert rig.transport.reading
    rig.pass_time(15.0)
    assert rig.transport.take() == frames.encode(frames.PING, b"")
    rig.pass_time(15.0)
    states.append(rig.session.state)
    assert states == [State.OPEN, State.CLOSED]


def test_the_silence_of_a_client_counts_from_when_the_backend_caught_up():
    rig = WebSocketRig(inbox="1000", send_buffer="1000").enter()
    rig.receive(text(b"." * 1000) * 3)
    rig.pass_time(300.0, checks=30)
    rig.transport.backlog = 5000
    reply = Message(text=True, data=b"reply")
    rig.webhook.answer(Delivered(Actions(reply=reply)))
    assert not rig.transport.reading
    rig.pass_time(14.0)
    assert rig.transport.writes == [frames.encode(frames.TEXT, b"reply")]


def test_a_client_that_reads_no_replies_is_closed_for_its_silence():
    rig = WebSocketRig(inbox="1000", send_buffer="1000").enter()
    rig.receive(text(b"." * 1000) * 3)
    rig.transport.backlog = 5000
    rig.webhook.answer(Delivered(Actions(reply=Message(text=True, data=b"reply"))))
    assert not rig.transport.reading
    rig.pass_time(60.0, checks=6)
    assert rig.session.reason is Reason.TIMED_OUT


def test_without_a_timeout_a_client_may_be_silent_for_ever():
    rig = WebSocketRig(ws_timeout="0").enter()
    rig.pass_time(1e6, checks=100)
    assert rig.transport.writes == []
    assert rig.session.state is State.OPEN


def test_without_a_timeout_a_client_still_has_to_close():
    rig = WebSocketRig(ws_timeout="0").enter()
    rig.session.close(Reason.SHUTDOWN)
    rig.pass_time(10.0)
    assert rig.transport.aborted


# Turns of other connections


FLOODS = {
    "pings": ping(b""),
    "large pings": ping(b"x" * 125),
    "pongs": frame(frames.PONG),
    "messages": text(b"hi"),
    "messages of two empty fragments": frame(frames.TEXT, fin=False) + frame(0),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_flood_is_read_a_slice_of_time_per_turn(flood):
    rig = WebSocketRig().enter().slices_of(10)
    frames_of_flood = 40
    rig.receive(flood * frames_of_flood + text(b"at last"))
    turns = 0
    while rig.context.run_queue.waiting:
        assert not rig.transport.reading
        rig.turn()
        turns += 1
    # The first frame and the ten of a slice are read at once, ten more in each turn.
    assert turns == 3
    assert rig.transport.reading
    assert rig.clock.timers == []
    rig.answer_all()
    assert rig.messages[-1] == b"at last"
    assert rig.session.info.messages_in == len(rig.messages)


def test_a_flood_of_fragments_is_read_in_turns():
    rig = WebSocketRig().enter().slices_of(2)
    rig.receive(frame(frames.TEXT, fin=False) + frame(0, fin=False) * 100 + frame(0, b"at last"))
    turns = 0
    while not rig.messages:
        assert not rig.transport.reading
        rig.turn()
        turns += 1
    # Four fragments and the eight of a slice at once, eight more in each turn.
    assert turns == 12
    assert rig.messages == [b"at last"]
    assert rig.transport.reading


def test_while_others_wait_for_their_turn_a_client_has_one_frame_read_at_once():
    rig = WebSocketRig().enter()
    served = []
    rig.context.run_queue.add(lambda: served.append(rig.session.info.messages_in))
    rig.receive(burst(0, 5))
    assert rig.session.info.messages_in == 1
    assert not rig.transport.reading
    rig.turn()
    assert served == [1]
    assert rig.session.info.messages_in == 5
    assert rig.transport.reading


def test_a_client_with_a_single_frame_does_not_wait_for_others(rig):
    rig.context.run_queue.add(lambda: None)
    rig.receive(text(b"hi"))
    assert rig.messages == [b"hi"]
    assert rig.transport.reading


def test_a_client_that_is_paused_for_the_backend_does_not_queue():
    rig = WebSocketRig(inbox="1").enter()
    rig.receive(burst(0, 1))
    rig.context.run_queue.add(lambda: None)
    rig.receive(burst(1, 3))
    # The first of the two messages waits for the backend, and fills the inbox.
    assert not rig.transport.reading
    assert len(rig.context.run_queue.waiting) == 1
    rig.answer_all()
    assert rig.messages == numbers(0, 3)
    assert rig.transport.reading


def test_pongs_of_one_slice_leave_in_one_write_before_the_frame_that_ends_it(rig):
    rig.receive(ping(b"0") + ping(b"1") + ping(b"2") + close(1000))
    pongs = [frames.encode(frames.PONG, payload) for payload in (b"0", b"1", b"2")]
    assert rig.transport.writes == [pongs[0], pongs[1] + pongs[2], frames.encode_close(1000)]


def test_a_flood_after_a_close_was_sent_is_read_in_slices_and_dropped_messages_are_counted():
    rig = WebSocketRig().enter().slices_of(10)
    rig.receive(text(b"refused"))
    rig.webhook.answer(Undeliverable("no", Reason.UNDELIVERED))
    rig.receive(burst(0, 41))
    turns = 0
    while rig.context.run_queue.waiting:
        rig.turn()
        turns += 1
    assert turns == 3
    assert rig.messages == [b"refused"]
    assert rig.session.info.messages_undelivered == 42
    rig.receive(close(1011))
    assert rig.end == (1011, "message not delivered")


def test_messages_read_while_earlier_ones_are_given_up_are_counted_too():
    rig = WebSocketRig(inbox="1000").enter()
    rig.receive(burst(0, 40))
    assert not rig.transport.reading
    rig.webhook.answer(Undeliverable("no", Reason.UNDELIVERED))
    assert rig.messages == numbers(0, 1)
    assert (rig.session.info.messages_in, rig.session.info.messages_undelivered) == (40, 40)
    rig.receive(close(1011))
    assert rig.end == (1011, "message not delivered")


def test_messages_of_a_lost_client_are_delivered_in_slices():
    rig = WebSocketRig().enter().slices_of(10)
    rig.receive(burst(0, 41))
    assert rig.session.info.messages_in == 11
    rig.transport.lose()
    assert rig.session.info.messages_in == 11
    for _ in range(3):
        rig.turn()
    assert rig.session.info.messages_in == 41
    rig.answer_all()
    assert rig.messages == numbers(0, 41)
    assert rig.end == (1006, "")


def test_a_message_in_many_fragments_is_delivered_although_its_client_was_lost_between_two_turns():
    rig = WebSocketRig().enter().slices_of(2)
    more = frame(0, fin=False) * 200
    rig.receive(frame(frames.TEXT, fin=False) + more + frame(0, b"at last"))
    assert not rig.transport.reading
    rig.transport.lose()
    rig.answer_all()
    assert rig.messages == [b"at last"]
    assert rig.clock.timers == []


def test_all_messages_of_a_lost_client_are_delivered():
    rig = WebSocketRig(inbox="600").enter()
    rig.receive(b"".join(text(b"%d" % number) for number in range(10)) + ping(b"") * 200 + text(b"last"))
    assert not rig.transport.reading
    rig.transport.lose()
    rig.answer_all()
    assert rig.messages == [*numbers(0, 10), b"last"]
    assert rig.end == (1006, "")
    assert rig.clock.timers == []


def test_a_message_that_was_incomplete_when_its_client_was_lost_is_dropped():
    rig = WebSocketRig(inbox="600").enter()
    rig.receive(burst(0, 5) + text(b"cut")[:-1])
    rig.transport.lose()
    rig.answer_all()
    assert rig.messages == numbers(0, 5)
    assert rig.end == (1006, "")


def test_a_client_that_is_lost_between_two_turns_leaves_no_timer():
    rig = WebSocketRig().enter().slices_of(10)
    rig.receive(ping(b"") * 100 + text(b"last"))
    rig.transport.lose()
    rig.answer_all()
    assert rig.messages == [b"last"]
    assert rig.clock.timers == []


# A connection that ends while bytes wait for the client


def test_a_client_that_ends_its_stream_is_gone_but_still_gets_buffered_data(rig):
    rig.receive(text(b"slow"))
    rig.transport.backlog = 1000
    rig.transport.protocol.eof_received()
    assert rig.listener.calls == ["client_disconnected"]
    with pytest.raises(errors.Gone):
        rig.session.send(frames.TEXT, b"too late")
    assert not rig.transport.aborted
    assert rig.timeouts.connections == [rig.transport.protocol]
    rig.transport.lose()
    assert rig.timeouts.connections == []
    rig.answer_all()
    assert rig.end == (1006, "")


def test_a_client_that_ends_its_stream_with_nothing_buffered_is_closed(rig):
    rig.transport.protocol.eof_received()
    assert rig.session.state is State.CLOSED
    rig.transport.lose()
    assert rig.timeouts.connections == []
    assert rig.end == (1006, "")


def test_buffered_data_is_sent_while_the_client_makes_progress_up_to_a_limit():
    rig = WebSocketRig(keep_alive_timeout="75000").enter()
    rig.transport.backlog = 1000
    rig.receive(close())
    for _ in range(7):
        rig.transport.backlog -= 1
        rig.pass_time(10.0)
        assert not rig.transport.aborted
    rig.transport.backlog -= 1
    rig.pass_time(10.0)
    assert rig.transport.aborted
    assert rig.transport.protocol.close_gracefully() is None


# Slow readers


def test_a_slow_client_that_reads_messages_is_not_closed_although_its_pong_is_late(rig):
    rig.session.send(frames.TEXT, b"x")
    rig.transport.backlog = 100_000
    for _ in range(10):
        rig.pass_time(15.0)
        rig.transport.backlog -= 1000
    assert rig.session.state is State.OPEN
    assert rig.transport.take().count(frames.encode(frames.PING, b"")) == 1
    rig.pass_time(15.0)
    rig.pass_time(15.0)
    assert rig.session.reason is Reason.TIMED_OUT


def test_a_slow_client_that_was_only_published_to_is_not_closed_while_it_reads(rig):
    groups = rig.session._services.groups
    groups.join(rig.session, "room")
    message = SharedMessage(frames.TEXT, b"x")
    recipients = Recipients(lambda: groups.group("room"))
    publication = Publication(message, recipients, find_group=lambda: groups.group("room"))
    assert publication.advance(lambda: 0.0, 1.0)
    rig.transport.backlog = 100_000
    for _ in range(4):
        rig.pass_time(15.0)
        rig.transport.backlog -= 1000
    assert rig.session.state is State.OPEN


def test_a_client_with_nothing_buffered_when_it_was_pinged_is_closed_in_time(rig):
    rig.session.send(frames.TEXT, b"x")
    rig.pass_time(15.0)
    rig.transport.backlog = 100
    rig.pass_time(10.0)
    rig.transport.backlog = 50
    rig.pass_time(5.0)
    assert rig.session.reason is Reason.TIMED_OUT


# A Close behind much that the client has not read yet


def test_a_client_that_reads_buffered_data_before_the_close_gets_all_of_it(rig):
    rig.transport.backlog = 3000
    rig.session.close(Reason.BACKEND_CLOSED)
    rig.transport.backlog = 2000
    rig.pass_time(10.0)
    assert rig.transport.closed
    assert not rig.transport.aborted
    assert isinstance(rig.transport.protocol, FlushingProtocol)
    assert rig.end == (1000, "closed by backend")
    rig.transport.backlog = 1000
    rig.pass_time(10.0)
    assert not rig.transport.aborted
    rig.pass_time(10.0)
    assert rig.transport.aborted


def test_a_client_that_does_not_read_buffered_data_before_the_close_is_dropped(rig):
    rig.transport.backlog = 3000
    rig.session.close(Reason.BACKEND_CLOSED)
    rig.pass_time(10.0)
    assert rig.transport.aborted


# Little memory


@pytest.fixture
def tight():
    """A client of a node above its memory limit: the allowance is 1,000 bytes."""
    rig = WebSocketRig().enter()
    memory = MemoryLimit(math.inf, lambda: 0)
    memory.pressure, memory.allowance = THROTTLING, 1000
    rig.context.memory = memory
    rig.memory = memory
    return rig


def test_a_client_with_a_large_unfinished_message_is_not_read_while_memory_is_short(tight):
    tight.receive(text(b"x" * 3000)[:2000])
    assert tight.transport.reading
    tight.pass_time(1.0)
    assert not tight.transport.reading
    tight.pass_time(8.0, checks=8)
    assert not tight.transport.reading
    tight.memory.allowance = math.inf
    tight.memory.pressure = NONE
    tight.pass_time(1.0)
    assert tight.transport.reading
    tight.receive(text(b"x" * 3000)[2000:])
    assert tight.messages == [b"x" * 3000]


def test_a_client_with_little_buffered_data_is_read_as_before(tight):
    tight.receive(text(b"x" * 900)[:-1])
    tight.pass_time(10.0, checks=10)
    assert tight.transport.reading


def test_a_client_that_was_throttled_for_long_within_a_message_is_closed(tight):
    tight.receive(text(b"x" * 3000)[:2000])
    tight.pass_time(1.0)
    tight.pass_time(9.0, checks=9)
    assert tight.session.state is State.OPEN
    tight.pass_time(1.0)
    assert tight.transport.take() == frames.encode_close(1013, "out of memory")
    assert tight.transport.closed
    assert tight.end == (1013, "out of memory")


def test_a_client_whose_messages_wait_for_the_backend_is_throttled_but_never_closed_for_it(tight):
    tight.receive(burst(0, 5))
    assert tight.session.outbox.level > 1000
    tight.pass_time(60.0, checks=60)
    assert not tight.transport.reading
    assert tight.session.state is State.OPEN
    tight.answer_all()
    tight.pass_time(1.0)
    assert tight.transport.reading
    assert tight.messages == numbers(0, 5)


def test_a_throttled_client_that_was_sent_a_close_is_dropped_after_the_timeout(tight):
    tight.receive(text(b"x" * 3000)[:2000])
    tight.pass_time(1.0)
    tight.session.close(Reason.SHUTDOWN)
    tight.pass_time(10.0)
    assert tight.transport.aborted
    tight.transport.lose()
    assert tight.end == (1001, "going away")


def test_replies_held_while_memory_was_short_continue_when_the_client_has_read(tight):
    tight.session._services = replace(tight.session._services, memory=tight.memory)
    tight.receive(text(b"first") + text(b"second"))
    # Less than `SEND_BUFFER`, so the transport neither pauses nor resumes writing.
    tight.transport.backlog = 2000
    tight.webhook.answer(Delivered(Actions(reply=Message(True, b"." * 2000))))
    tight.transport.backlog = 501
    tight.pass_time(1.0)
    assert tight.messages == [b"first"]
    tight.transport.backlog = 500
    tight.pass_time(1.0)
    assert tight.messages == [b"first", b"second"]


def test_a_throttled_client_that_was_sent_a_close_is_read_when_there_is_memory(tight):
    tight.receive(text(b"x" * 3000)[:2000])
    tight.pass_time(1.0)
    tight.session.close(Reason.BACKEND_CLOSED)
    tight.pass_time(1.0)
    assert not tight.transport.reading
    tight.memory.pressure, tight.memory.allowance = NONE, math.inf
    tight.pass_time(1.0)
    assert tight.transport.reading
    tight.receive(text(b"x" * 3000)[2000:] + close(1000))
    assert tight.messages == [b"x" * 3000]
    assert not tight.transport.aborted


def test_a_throttled_client_with_a_rate_limit_that_was_sent_a_close_is_not_read_while_memory_is_short():
    rig = WebSocketRig(max_message_rate="2").enter()
    memory = MemoryLimit(math.inf, lambda: 0)
    memory.pressure, memory.allowance = THROTTLING, 1000
    rig.context.memory = memory
    rig.receive(text(b"x" * 3000)[:2000])
    rig.pass_time(1.0)
    rig.session.close(Reason.BACKEND_CLOSED)
    rig.pass_time(1.0)
    assert not rig.transport.reading
    memory.pressure, memory.allowance = NONE, math.inf
    rig.pass_time(1.0)
    assert rig.transport.reading


def test_a_queued_client_with_a_rate_limit_that_was_sent_a_close_is_served_once_a_turn():
    rig = WebSocketRig(max_message_rate="1000").enter().slices_of(10)
    rig.receive(burst(0, 41))
    rig.session.close(Reason.BACKEND_CLOSED)
    before = rig.session.info.messages_in
    rig.turn()
    assert rig.session.info.messages_in - before == 10


def test_a_throttled_client_that_is_lost_leaves_nothing(tight):
    tight.receive(text(b"x" * 3000)[:2000])
    tight.pass_time(1.0)
    tight.transport.lose()
    assert tight.end == (1006, "")
    assert tight.clock.timers == []


def test_the_memory_limit_is_told_of_long_messages(tight):
    noted = []

    class Noting(MemoryLimit):
        def note(self, size):
            noted.append(size)

    tight.context.memory = Noting(math.inf, lambda: 0)
    message = text(b"x" * 100_000)
    tight.receive(message[:40_000])
    tight.receive(message[40_000:70_000])
    tight.receive(message[70_000:])
    tight.receive(text(b"short"))
    assert len(noted) == 2
    assert noted[0] <= 40_000 < noted[1] <= 70_000


# A client that is being closed while reading from it is paused


def test_a_client_is_not_dropped_while_its_close_may_be_unread():
    rig = WebSocketRig(inbox="1000").enter()
    rig.receive(text(b"." * 1000) * 3)
    assert not rig.transport.reading
    rig.session.close(Reason.SHUTDOWN)
    rig.pass_time(60.0, checks=60)
    assert not rig.transport.aborted
    rig.webhook.answer(DELIVERED)
    rig.webhook.answer(DELIVERED)
    assert rig.transport.reading
    rig.receive(close(1001))
    rig.answer_all()
    assert len(rig.messages) == 3
    assert rig.end == (1001, "going away")


def test_a_client_that_is_not_read_after_a_close_is_dropped_after_a_limit():
    rig = WebSocketRig(inbox="1000", api_retry="2000").enter()
    rig.receive(text(b"." * 1000) * 3)
    rig.session.close(Reason.SHUTDOWN)
    rig.pass_time(19.0, checks=19)
    assert not rig.transport.aborted
    rig.pass_time(10.0, checks=10)
    assert rig.transport.aborted
    rig.transport.lose()
    rig.answer_all()
    assert len(rig.messages) == 3


# A stop that takes too long


def test_messages_of_an_abandoned_client_are_counted_but_not_delivered():
    rig = WebSocketRig(inbox="1000").enter()
    rig.receive(text(b"." * 1000) * 5)
    rig.session.close(Reason.SHUTDOWN)
    rig.session.abandon()
    assert rig.transport.reading
    rig.receive(burst(0, 3) + close(1001))
    rig.answer_all()
    assert rig.session.info.messages_undelivered == 8
    assert len(rig.messages) == 1


def test_messages_of_a_lost_client_are_counted_when_it_is_abandoned():
    rig = WebSocketRig(inbox="1000").enter()
    rig.receive(text(b"." * 1000) * 5)
    rig.transport.lose()
    rig.session.abandon()
    rig.clock.advance(0)
    assert rig.session.state is State.CLOSED
    assert rig.session.info.messages_undelivered == 5


# A limited rate


def burst(first, last):
    return b"".join(text(b"%d" % number) for number in range(first, last))


def numbers(first, last):
    return [b"%d" % number for number in range(first, last)]


@pytest.fixture
def limited():
    return WebSocketRig(max_message_rate="2").enter()


def test_a_client_within_the_rate_limit_never_waits(limited):
    for number in range(10):
        limited.receive(burst(number, number + 1))
        assert limited.transport.reading
        limited.clock.advance(0.5)
    limited.answer_all()
    assert limited.messages == numbers(0, 10)


def test_a_client_over_the_rate_limit_is_read_more_slowly_and_loses_nothing(limited):
    limited.receive(burst(0, 5))
    limited.answer_all()
    assert limited.messages == numbers(0, 2)
    assert not limited.transport.reading
    for taken in (3, 4, 5):
        limited.clock.advance(0.5)
        limited.answer_all()
        assert limited.messages == numbers(0, taken)
        assert not limited.transport.reading
    limited.clock.advance(0.5)
    assert limited.transport.reading
    assert limited.clock.timers == []


def test_messages_sent_with_the_handshake_count_for_the_rate_limit():
    rig = WebSocketRig(early_data=burst(0, 5), max_message_rate="2").enter()
    rig.answer_all()
    assert rig.messages == numbers(0, 2)
    assert not rig.transport.reading


def test_pings_do_not_count_for_the_rate_limit(limited):
    for _ in range(5):
        limited.receive(frame(frames.PING))
    assert len(limited.transport.take()) == 10
    assert limited.transport.reading


def test_a_client_that_waits_for_the_rate_limit_is_not_closed_for_its_silence():
    rig = WebSocketRig(max_message_rate="1", ws_timeout="400").enter()
    rig.receive(burst(0, 4))
    rig.pass_time(3.9, checks=39)
    assert rig.session.state is State.OPEN
    assert rig.transport.take() == b""
    rig.pass_time(1.0, checks=10)
    rig.answer_all()
    assert rig.end == (1001, "timeout")


def test_a_rate_limited_client_may_also_be_paused_for_the_backend():
    rig = WebSocketRig(max_message_rate="1", inbox="1").enter()
    rig.receive(burst(0, 4))
    rig.clock.advance(1)
    rig.clock.advance(1)
    # One message is being delivered and one waits, which fills the inbox.
    assert rig.session.outbox.backlogged
    rig.clock.advance(10)
    assert not rig.transport.reading
    rig.answer_all()
    rig.clock.advance(1)
    rig.answer_all()
    assert rig.messages == numbers(0, 4)
    rig.clock.advance(1)
    assert rig.transport.reading


def test_a_client_that_waits_for_the_rate_limit_is_not_read_when_the_backend_is_free_again():
    rig = WebSocketRig(max_message_rate="2", inbox="1").enter()
    rig.receive(burst(0, 4))
    assert not rig.transport.reading
    rig.answer_all()
    assert rig.messages == numbers(0, 2)
    assert not rig.transport.reading


def test_messages_of_a_lost_rate_limited_client_are_delivered(limited):
    limited.receive(burst(0, 5))
    limited.transport.lose()
    limited.answer_all()
    assert limited.messages == numbers(0, 5)
    assert limited.end == (1006, "")
    assert limited.clock.timers == []


def test_after_a_close_was_sent_the_rate_limit_does_not_apply(limited):
    limited.receive(burst(0, 5) + frame(frames.CLOSE, b"\x03\xe8"))
    limited.session.close(Reason.SHUTDOWN)
    limited.clock.advance(0)
    limited.answer_all()
    assert limited.messages == numbers(0, 5)
    assert limited.end == (1001, "going away")


def test_a_client_that_never_waited_for_the_rate_limit_can_be_closed(limited):
    limited.session.close(Reason.SHUTDOWN)
    limited.receive(burst(0, 5))
    limited.answer_all()
    assert limited.messages == numbers(0, 5)
    assert limited.clock.timers == []
