"""Bugs that the state machines found, one test for each."""

from tests.support.frames import frame
from tests.support.websocket_rig import WebSocketRig
from wsaas.delivery.verdicts import Undeliverable
from wsaas.events import Message
from wsaas.reason import Reason

TEXT, CLOSE = 1, 8


def heard(rig: WebSocketRig) -> list[bytes]:
    """Return the messages that were sent to the backend."""
    return [event.data for event in rig.webhook.events if isinstance(event, Message)]


def test_nothing_is_delivered_behind_a_message_that_was_given_up_while_the_client_closes():
    rig = WebSocketRig(inbox="600").enter()
    rig.session.close(Reason.BACKEND_CLOSED)
    rig.receive(b"".join(frame(TEXT, b"%d" % number) for number in range(4)))
    assert not rig.transport.reading, "1 and 2 wait for 0, and 3 was not read yet"
    rig.webhook.answer(Undeliverable("no", Reason.UNDELIVERED))
    rig.answer_all()
    assert heard(rig) == [b"0"]


def test_a_client_that_was_slowed_down_loses_nothing_at_its_end():
    rig = WebSocketRig(inbox="600", max_message_rate="2").enter()
    sent = [b"%d" % number for number in range(10)]
    rig.receive(b"".join(frame(TEXT, data) for data in sent) + frame(CLOSE, b"\x03\xe8"))
    rig.transport.lose()
    rig.answer_all()
    assert heard(rig) == sent
    assert rig.end[0] == 1000
