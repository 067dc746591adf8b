"""The heartbeats of a client, which the gateway answers itself."""

import pytest

from tests.support.frames import frame
from tests.support.websocket_rig import WebSocketRig
from wsaas.reason import Reason
from wsaas.websocket import frames

PING, PONG = frame(frames.TEXT, b"ping"), frames.encode(frames.TEXT, b"pong")


def enter(**values):
    return WebSocketRig(heartbeat="ping=pong", **values).enter()


def heartbeats(rig):
    return rig.session._services.counters.heartbeats


def test_a_heartbeat_is_answered_and_reaches_no_backend():
    rig = enter()
    rig.receive(PING)
    assert rig.transport.writes == [PONG]
    assert rig.messages == []
    info, counters = rig.session.info, rig.session._services.counters
    assert (info.messages_in, info.bytes_in, info.messages_out, info.bytes_out) == (0, 0, 0, 0)
    assert (counters.messages_in, counters.bytes_in, counters.bytes_out, counters.heartbeats) == (0, 0, 0, 1)


def test_without_the_setting_it_is_a_message():
    rig = WebSocketRig().enter()
    rig.receive(PING)
    assert rig.messages == [b"ping"]
    assert rig.transport.writes == []


@pytest.mark.parametrize(
    ("opcode", "payload"),
    [(frames.BINARY, b"ping"), (frames.TEXT, b"ping "), (frames.TEXT, b"Ping"), (frames.TEXT, b"")],
)
def test_only_the_exact_text_is_a_heartbeat(opcode, payload):
    rig = enter()
    rig.receive(frame(opcode, payload))
    assert rig.messages == [payload]
    assert rig.transport.writes == []


def test_the_answer_does_not_wait_for_messages_and_leaves_no_gap_in_their_numbers():
    rig = enter()
    rig.receive(frame(frames.TEXT, b"one") + PING + frame(frames.TEXT, b"two"))
    rig.receive(PING)
    assert rig.transport.writes == [PONG, PONG]
    rig.answer_all()
    assert [(event.data, event.number) for event in rig.webhook.events[1:]] == [(b"one", 1), (b"two", 2)]


def test_a_heartbeat_in_pieces_is_one():
    rig = enter()
    for byte in PING:
        rig.receive(bytes([byte]))
    rig.receive(frame(frames.TEXT, b"pi", fin=False) + frame(0, b"ng"))
    assert rig.transport.writes == [PONG, PONG]


def test_a_heartbeat_counts_as_activity():
    rig = enter()
    for _ in range(10):
        rig.pass_time(14.0)
        rig.receive(PING)
    assert rig.transport.writes == [PONG] * 10
    assert not rig.transport.closed


def test_heartbeats_count_for_the_rate_of_messages():
    rig = enter(max_message_rate="2")
    rig.receive(PING * 5)
    assert rig.transport.writes == [PONG, PONG]
    assert not rig.transport.reading
    rig.clock.advance(0.5)
    assert rig.transport.writes == [PONG, PONG, PONG]


def test_a_client_that_is_not_read_gets_no_answer_until_it_is():
    rig = enter(inbox="100")
    rig.receive(frame(frames.TEXT, b"." * 100) * 3 + PING)
    assert not rig.transport.reading
    assert rig.transport.writes == []
    rig.answer_all()
    assert rig.transport.writes == [PONG]


def test_a_client_that_does_not_read_its_answers_cannot_fill_the_memory():
    rig = enter(send_buffer="1000")
    rig.transport.backlog = 995
    rig.receive(PING * 100)
    assert rig.transport.writes == []
    rig.transport.backlog = 994
    rig.receive(PING)
    assert rig.transport.writes == [PONG]
    assert heartbeats(rig) == 1
    assert rig.messages == []


def test_a_heartbeat_after_the_close_of_the_gateway_is_dropped():
    rig = enter()
    rig.session.undelivered(Reason.UNDELIVERED, "why")
    rig.transport.take()
    rig.receive(PING)
    assert rig.transport.writes == []
    assert (heartbeats(rig), rig.session.info.messages_undelivered) == (0, 1)


def test_a_heartbeat_that_is_read_after_the_client_has_left_is_dropped():
    rig = enter(inbox="100")
    rig.receive(frame(frames.TEXT, b"." * 100) * 3 + PING + frame(frames.TEXT, b"last"))
    rig.transport.lose()
    rig.answer_all()
    assert [data for data in rig.messages if data[:1] != b"."] == [b"last"]
    assert rig.end == (1006, "")
    assert heartbeats(rig) == 0
