from types import SimpleNamespace

import orjson
import pytest
from fakes import FakeClock, FakeJournal, FakeKeeper, FakePool, FakeWebhook, make_services, make_settings
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from wsaas.circuit_breaker import CircuitBreaker
from wsaas.events import Closed
from wsaas.journal import LAST_NUMBER, Entry
from wsaas.pool import Failure
from wsaas.recovery import AT_ONCE, Recovery
from wsaas.responses import Response
from wsaas.webhook import TAKEN, Again, Webhook

FAREWELL = b'{"code":1000}'


def lost(name="a", context=None, connected_at=1_700_000_000.0):
    """Return what is left of a connection that was open when its gateway died."""
    return Entry(name, f"old/{name}", b"Bearer " + name.encode(), context, connected_at)


def ended(name="a", number=4, farewell=FAREWELL):
    """Return what is left of a connection whose DELETE was on its way."""
    return Entry(name, f"old/{name}", None, None, 1_700_000_000.0, number, 1_700_000_123.0, farewell)


def some(count):
    """Return what is left of connections of either kind, each different."""
    return [lost(f"{each:02}") if each % 2 else ended(f"{each:02}", each, b"%d" % each) for each in range(count)]


class Rig:
    """A recovery whose journal writes when a test says so."""

    def __init__(self, *entries, webhook=None, **values):
        self.clock = FakeClock()
        self.webhook = webhook or FakeWebhook()
        self.journal = FakeJournal()
        for entry in entries:
            self.journal.entries[entry.id] = {"farewell": entry.farewell}
        settings = make_settings(**values)
        services = make_services(settings, self.clock, self.webhook, FakeKeeper(), self.journal)
        self.recovery = Recovery(services, entries)

    def start(self):
        self.recovery.start()
        return self

    @property
    def remembered(self):
        """The ids that the journal still holds once it wrote what is pending."""
        self.journal.write()
        return sorted(self.journal.entries)


# Lost with their gateway.


def test_without_anything_left_nothing_is_done(caplog):
    caplog.set_level("INFO", "wsaas")
    rig = Rig().start()
    rig.recovery.stop()
    assert len(rig.recovery) == 0
    assert rig.webhook.told == []
    assert caplog.messages == []


def test_nothing_is_sent_before_the_start():
    rig = Rig(lost())
    assert len(rig.recovery) == 1
    assert rig.webhook.told == []
    assert rig.journal.pending == []


def test_a_lost_connection_is_told_of_with_the_last_number_and_what_is_known():
    rig = Rig(lost(connected_at=FakeClock().wall() - 90.25)).start()
    rig.journal.write()
    (told,) = rig.webhook.told
    assert isinstance(told, Closed)
    assert told.number == LAST_NUMBER == 9007199254740991
    assert told.at == rig.clock.wall()
    assert orjson.loads(told.body) == {
        "ws_uri": "old/a",
        "code": 1006,
        "reason": "gateway lost",
        "duration": 90_250,
        "messages_in": None,
        "messages_out": None,
    }


def test_a_clock_that_stepped_back_makes_no_duration_below_zero():
    rig = Rig(lost(connected_at=FakeClock().wall() + 3600.0)).start()
    rig.journal.write()
    assert orjson.loads(rig.webhook.asked.body)["duration"] == 0


def test_it_is_written_down_before_it_is_sent():
    rig = Rig(lost()).start()
    assert rig.journal.waiting == ["ended"]
    assert rig.webhook.told == []
    rig.journal.write()
    assert rig.webhook.told == [rig.journal.entries["a"]["farewell"]]


def test_it_is_sent_though_it_cannot_be_written_down():
    rig = Rig(lost()).start()
    rig.journal.fail()
    assert len(rig.webhook.told) == 1


# On their way already.


def test_what_was_on_its_way_is_sent_again_as_it_was():
    rig = Rig(ended(number=7)).start()
    assert rig.webhook.told == [Closed(FAREWELL, 1_700_000_123.0, 7)]
    assert rig.journal.pending == []


# The requests.


def requests(*entries):
    """Return what goes over the wire for `entries`."""
    pool = FakePool()
    clock = FakeClock()
    settings = make_settings(ws_hostname="new:1")
    rig = Rig(*entries, webhook=Webhook(settings, pool, CircuitBreaker(clock, pool), clock.wall))
    rig.start().journal.write()
    return [exchange.request for exchange in pool.sent]


def test_the_request_has_the_headers_of_the_connection_as_it_was():
    (request,) = requests(lost("abc", context="cart=7"))
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"DELETE /hook HTTP/1.1"
    for line in (
        b"Authorization: Bearer abc",
        b"Ws-Uri: old/abc",
        b"Ws-Context: cart=7",
        b"ce-subject: abc",
        b"ce-id: abc.9007199254740991",
        b"ce-type: wsaas.disconnect",
    ):
        assert lines.count(line) == 1
    assert orjson.loads(body)["ws_uri"] == "old/abc"


def test_without_context_and_authorization_there_are_no_such_headers():
    (request,) = requests(ended())
    assert b"Ws-Context" not in request
    assert b"Authorization" not in request
    assert b"\r\nce-id: a.4\r\n" in request
    assert request.endswith(b"\r\n\r\n" + FAREWELL)


# Some at a time.


def test_only_some_are_under_way_at_a_time_and_the_next_follows_when_one_is_done():
    entries = [ended(f"{number:02}", number) for number in range(AT_ONCE + 3)]
    rig = Rig(*entries).start()
    for done in range(4):
        assert [event.number for event in rig.webhook.told] == list(range(AT_ONCE + done))
        assert len(rig.recovery) == AT_ONCE + 3 - done
        if done < 3:
            rig.webhook.answer(TAKEN)
    assert AT_ONCE == 16


def test_what_is_done_is_forgotten_and_the_end_is_logged(caplog):
    caplog.set_level("INFO", "wsaas")
    rig = Rig(ended("a"), lost("b")).start()
    rig.journal.write()
    assert caplog.messages == ["an earlier gateway left 2 connections: telling the backend"]
    rig.webhook.answer(TAKEN)
    assert rig.remembered == ["b"]
    assert len(caplog.messages) == 1
    rig.webhook.answer(TAKEN)
    assert rig.remembered == []
    assert len(rig.recovery) == 0
    assert caplog.messages[1:] == ["all connections that an earlier gateway left are dealt with"]


def test_what_the_backend_does_not_take_is_tried_again_and_keeps_its_place():
    rig = Rig(*(ended(f"{number:02}", number) for number in range(AT_ONCE + 1))).start()
    rig.webhook.answer(Again("no", 5.0))
    assert len(rig.webhook.told) == AT_ONCE
    rig.clock.advance(5.0)
    assert rig.webhook.tries == AT_ONCE + 1
    assert len(rig.webhook.told) == AT_ONCE
    assert len(rig.remembered) == AT_ONCE + 1


def test_what_is_given_up_stays_for_the_next_start_and_is_logged(caplog):
    rig = Rig(ended("a"), ended("b")).start()
    rig.webhook.windows[Closed] = 0.0
    rig.webhook.answer(Again("the backend is broken"))
    assert caplog.messages == [
        "old/a: the backend was not told that this connection ended: the backend is broken, 1 times"
    ]
    assert caplog.records[0].levelname == "ERROR"
    rig.webhook.answer(TAKEN)
    assert rig.remembered == ["a"]
    assert len(rig.recovery) == 0


def test_one_that_is_given_up_makes_way_for_the_next():
    rig = Rig(*(ended(f"{number:02}", number) for number in range(AT_ONCE + 1))).start()
    rig.webhook.windows[Closed] = 0.0
    rig.webhook.answer(Again("no"))
    assert [event.number for event in rig.webhook.told][-1] == AT_ONCE


def test_while_the_backend_is_down_they_line_up_like_everybody():
    clock = FakeClock()
    pool = FakePool()
    breaker = CircuitBreaker(clock, pool)
    settings = make_settings()
    rig = Rig(*(ended(f"{number:02}") for number in range(40)), webhook=Webhook(settings, pool, breaker, clock.wall))
    breaker.observe(SimpleNamespace(connection_id="other"), Failure.UNREACHABLE)
    rig.start()
    assert pool.sent == []
    assert len(breaker) == AT_ONCE
    clock.advance(0.1)
    pool.answer(Response(200, {}))
    while pool.sent:
        pool.answer(Response(200, {}))
    assert rig.remembered == []


# Stopped.


@pytest.mark.parametrize("retries", [False, True])
def test_a_stop_sends_no_more_and_what_is_not_done_stays(retries):
    entries = [ended(f"{number:02}", number) for number in range(AT_ONCE + 5)]
    rig = Rig(*entries).start()
    rig.webhook.answer(TAKEN)
    if retries:
        rig.webhook.answer(Again("no"))
    rig.recovery.stop()
    assert len(rig.recovery) == 0
    rig.clock.advance(1000.0)
    while rig.webhook.calls:
        rig.webhook.answer(TAKEN)
    assert len(rig.webhook.told) == AT_ONCE + 1
    assert rig.remembered == [entry.id for entry in entries[1:]]


def test_what_is_written_down_only_after_a_stop_is_not_sent():
    rig = Rig(lost()).start()
    rig.recovery.stop()
    rig.journal.write()
    assert rig.webhook.told == []
    assert rig.remembered == ["a"]


# Whatever happens.


@examples(100)
@given(
    count=st.integers(0, 40),
    outcomes=st.lists(st.sampled_from(["taken", "again", "given up", "write", "fail", "time"]), max_size=80),
)
def test_in_the_end_each_was_told_once_and_only_what_was_given_up_is_left(count, outcomes):
    rig = Rig(*some(count)).start()
    given_up = 0
    for outcome in [*outcomes, *["write", "taken", "time"] * (count + len(outcomes))]:
        if outcome == "write":
            rig.journal.write()
        elif outcome == "fail":
            rig.journal.fail()
        elif outcome == "time":
            rig.clock.advance(10.0)
        elif rig.webhook.calls:
            rig.webhook.windows[Closed] = 0.0 if outcome == "given up" else 300.0
            was_there = len(rig.recovery)
            rig.webhook.answer(TAKEN if outcome == "taken" else Again(outcome, 1.0))
            given_up += outcome != "taken" and len(rig.recovery) < was_there
        assert len(rig.webhook.calls) + len(rig.clock.timers) <= AT_ONCE
    assert len(rig.recovery) == 0
    assert len(rig.webhook.told) == count
    assert len(rig.remembered) == given_up
