import pytest

from tests.support.fakes import make_opened
from wsaas.events import Closed, Disconnect, Message
from wsaas.reason import Reason

LOST = Disconnect("node/id", 1006, "", 5)


REASONS = {
    Reason.CLIENT_CLOSED: ("client closed", 1005, False),
    Reason.CLIENT_LOST: ("client lost", 1006, False),
    Reason.TIMED_OUT: ("timeout", 1001, True),
    Reason.OUT_OF_MEMORY: ("out of memory", 1013, True),
    Reason.SLOW_CLIENT: ("slow client", 1013, True),
    Reason.VIOLATION: ("protocol violation", 1002, False),
    Reason.BACKEND_CLOSED: ("closed by backend", 1000, False),
    Reason.BACKEND_GONE: ("backend gone", 1000, False),
    Reason.TOO_LARGE: ("message too large", 1009, False),
    Reason.UNDELIVERED: ("message not delivered", 1011, False),
    Reason.SHUTDOWN: ("going away", 1001, False),
    Reason.REFUSED: ("refused", 1006, False),
    Reason.DECLARED_DEAD: ("node declared dead", 1012, False),
    Reason.GATEWAY_LOST: ("gateway lost", 1006, False),
}
"""Label, close code, and whether the connection is closed without waiting for the client's Close."""


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_has_its_label_and_its_close_code(reason):
    label = REASONS[reason][0]
    assert (reason.value, reason.code, reason.is_final) == REASONS[reason]
    assert Reason(label) is reason  # type: ignore[call-arg]  # this looks a member up, it makes none


def test_no_two_reasons_have_the_same_label():
    assert len({reason.value for reason in Reason}) == len(Reason)


def test_events_are_values():
    assert Message(True, b"a") == Message(True, b"a", 0.0, 0)
    assert Message(True, b"a") != Message(False, b"a")
    assert make_opened(1.0) == make_opened(1.0)
    assert make_opened(1.0) != make_opened(1.0, path="/other")
    assert make_opened(1.0) != Closed(1.0)
    assert Closed(1.0) != Closed(2.0)
    assert Closed(1.0, 0.0, LOST) == Closed(1.0, 0.0, Disconnect("node/id", 1006, "", 5))


def test_the_number_of_each_closed_event_is_the_same():
    assert Closed(1.0).number == Closed(2.0, 0.0, LOST).number == "end"


def test_an_event_is_represented_by_its_values_unless_they_may_be_secrets():
    assert repr(Message(True, b"a", 1.0, 2)) == "Message(True, b'a', 1.0, 2)"
    assert repr(make_opened(1.0, query="t=s3cret")) == "Opened(1.0, 'node/id')"
