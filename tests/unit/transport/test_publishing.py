"""Tests of publishes to large groups over an HTTP connection: their order, their deadline and their callers."""

import pytest

from tests.support.fakes import FakePendingClient, start_session
from tests.support.http_rig import HEALTH, HttpRig
from wsaas.delivery.verdicts import Accepted
from wsaas.sessions.fan_out import FAN_OUT_SLICE_S
from wsaas.transport.deferring import MAX_BUFFERED_BYTES, DeferringProtocol
from wsaas.websocket import frames


class Rig(HttpRig):
    """A listener with five members of the group `lobby`, of which one slice serves two."""

    def __init__(self, **values):
        super().__init__(**values)
        self.sessions = []
        self.connections = []
        for _ in range(5):
            pending = FakePendingClient()
            self.sessions.append(start_session(self.registry, pending))
            self.connections.append(pending.connection)
            self.webhook.answer(Accepted(None, None, ("lobby",)))
        self.seconds = FAN_OUT_SLICE_S / 2

    @property
    def is_deferring(self):
        return self.protocol._waiting is not None or isinstance(self.transport.protocol, DeferringProtocol)

    def finish(self):
        """Let the loop turn until nothing is left to do."""
        while self.clock.timers:
            self.clock.turn()

    def texts(self):
        """Return the texts that each client got."""
        return [[frame[2:] for frame in connection.written] for connection in self.connections]


def publish(body, group=b"lobby"):
    return b"PUT /groups/%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (group, len(body), body)


@pytest.fixture
def rig():
    return Rig()


def test_pipelined_publishes_are_done_and_answered_in_order(rig):
    rig.receive(publish(b"1") + publish(b"2") + HEALTH + publish(b"3", b"empty") + publish(b"4"))
    assert rig.is_deferring
    assert len(rig.fan_out) == 1
    assert rig.transport.writes == []
    rig.finish()
    assert rig.responses() == [(200, "OK", False)] * 5
    assert rig.texts() == [[b"1", b"2", b"4"]] * 5
    assert rig.transport.protocol is rig.protocol


def test_a_push_behind_a_publish_arrives_behind_it(rig):
    session, connection = rig.sessions[-1], rig.connections[-1]
    push = b"PUT /%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\npush" % session.id.encode()
    rig.receive(publish(b"publish"))
    rig.receive(push)
    assert connection.written == []
    rig.finish()
    assert connection.written == [frames.encode(frames.TEXT, b"publish"), frames.encode(frames.TEXT, b"push")]


def test_a_publisher_that_does_not_wait_is_not_read(rig):
    rig.receive(publish(b"first"))
    assert rig.transport.reading
    rig.receive(publish(b"x" * MAX_BUFFERED_BYTES))
    assert not rig.transport.reading
    assert len(rig.fan_out) == 1
    rig.finish()
    assert rig.transport.reading
    assert rig.responses() == [(200, "OK", False)] * 2


def test_two_publishes_on_two_connections_keep_their_order(rig):
    other = rig.visit()
    rig.receive(publish(b"1"))
    other.protocol.data_received(publish(b"2"))
    rig.finish()
    assert rig.texts() == [[b"1", b"2"]] * 5
    assert rig.responses() == [(200, "OK", False)]
    assert other.take().startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_publish_goes_on_when_its_caller_disconnects(rig):
    rig.receive(publish(b"1") + publish(b"not begun"))
    rig.transport.lose()
    rig.finish()
    assert rig.texts() == [[b"1"]] * 5
    assert rig.transport.writes == []
    assert len(rig.fan_out) == 0


def test_a_publish_that_takes_too_long_is_answered_with_504_and_goes_on():
    rig = Rig(keep_alive_timeout="3000")
    rig.receive(publish(b"1"))
    rig.clock.stand_still(3.0)
    rig.timeouts.check(rig.clock.now())
    assert rig.responses() == [(504, "GATEWAY_TIMEOUT", False)]
    assert not rig.is_deferring
    rig.finish()
    assert rig.texts() == [[b"1"]] * 5
    assert rig.transport.writes == []


def test_a_stop_ends_a_publish_with_504(rig):
    rig.receive(publish(b"1"))
    rig.fan_out.stop()
    rig.transport.protocol.close_gracefully()
    rig.finish()
    assert rig.responses() == [(504, "GATEWAY_TIMEOUT", True)]
    assert rig.texts() == [[b"1"], [b"1"], [], [], []]
