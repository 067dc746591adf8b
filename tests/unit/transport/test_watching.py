"""A watched connection reports its frames, and is given back as it was."""

from tests.support.frames import TEXT, frame
from tests.support.websocket_rig import WebSocketRig
from wsaas.events import Message
from wsaas.sessions.ports import ConnectionRecorder
from wsaas.websocket import frames


class Recorded(ConnectionRecorder):
    """What was reported."""

    def __init__(self):
        self.seen = []

    def accepted(self, subprotocol):
        self.seen.append(("accepted", subprotocol))

    def refused(self, error):
        self.seen.append(("refused", error.status))

    def received(self, received):
        self.seen.append(received)

    def sent(self, data):
        self.seen.append(data)


def test_a_connection_is_watched_from_the_middle_of_a_frame_to_the_middle_of_another():
    rig = WebSocketRig().enter()
    session, recorded = rig.session, Recorded()
    connection = session.connection
    # Nothing to give back yet.
    connection.unwatch()
    data = frame(TEXT, b"one") + frame(TEXT, b"two") + frame(TEXT, b"three")
    rig.receive(data[:4])
    connection.watch(recorded)
    session.attach(connection)
    rig.receive(data[4:15])
    session.send(frames.TEXT, b"out")
    connection.unwatch()
    session.attach(connection)
    rig.receive(data[15:])
    session.send(frames.TEXT, b"more")
    rig.answer_all()
    assert recorded.seen == [Message(True, b"one", recorded.seen[0].at, 1), frames.encode(frames.TEXT, b"out")]
    assert rig.messages == [b"one", b"two", b"three"]
    assert rig.transport.take() == frames.encode(frames.TEXT, b"out") + frames.encode(frames.TEXT, b"more")
    assert connection.transport is rig.transport
