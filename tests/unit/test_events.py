import pytest

from tests.support.fakes import make_opened
from wsaas.events import Closed, Disconnect, Message, Reason

LOST = Disconnect("node/id", 1006, "", 5)


@pytest.mark.parametrize(
    ("reason", "label", "code"),
    [
        (Reason.CLIENT_CLOSED, "client closed", 1005),
        (Reason.CLIENT_LOST, "client lost", 1006),
        (Reason.TIMED_OUT, "timeout", 1001),
        (Reason.VIOLATION, "protocol violation", 1002),
        (Reason.BACKEND_CLOSED, "closed by backend", 1000),
        (Reason.BACKEND_GONE, "backend gone", 1000),
        (Reason.TOO_LARGE, "message too large", 1009),
        (Reason.UNDELIVERED, "message not delivered", 1011),
        (Reason.SHUTDOWN, "going away", 1001),
        (Reason.REFUSED, "refused", 1006),
        (Reason.GATEWAY_LOST, "gateway lost", 1006),
    ],
)
def test_every_reason_has_its_label_and_its_close_code(reason, label, code):
    assert (reason.value, reason.code) == (label, code)
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


def test_the_number_of_an_end_needs_nothing_to_be_known_of_what_was_before():
    assert Closed(1.0).number == Closed(2.0, 0.0, LOST).number == "end"
