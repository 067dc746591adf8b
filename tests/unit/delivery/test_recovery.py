from types import SimpleNamespace

import orjson
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from tests.support.fakes import (
    FakeClock,
    FakeJournal,
    FakePool,
    FakeSessionListener,
    FakeWebhook,
    body_of,
    make_closed,
    make_services,
    make_settings,
)
from tests.support.strategies import examples
from wsaas.delivery import recovery
from wsaas.delivery.circuit_breaker import CLOSED, HALF_OPEN, OPEN, CircuitBreaker
from wsaas.delivery.journal import Entry
from wsaas.delivery.pool import Failure
from wsaas.delivery.recovery import MAX_UNDER_WAY, RETRY_INTERVAL_S, Recovery
from wsaas.delivery.trace import Trace
from wsaas.delivery.verdicts import DELIVERED, Retry
from wsaas.delivery.webhook import Webhook
from wsaas.events import Closed
from wsaas.http.response import Response
from wsaas.http.trace_context import TraceContext
from wsaas.reason import Reason

DISCONNECT_BODY = b'{"code":1000}'


def lost(name="a", context=None, connected_at=1_700_000_000.0):
    """Return the entry of a connection that was open when its process was killed."""
    return Entry(name, f"old/{name}", b"Bearer " + name.encode(), context, connected_at)


def ended(name="a", body=DISCONNECT_BODY):
    """Return the entry of a connection whose DELETE had been sent."""
    return Entry(name, f"old/{name}", None, None, 1_700_000_000.0, 1_700_000_123.0, body)


def some(count):
    """Return entries of both kinds, each different."""
    return [lost(f"{each:02}") if each % 2 else ended(f"{each:02}", b"%d" % each) for each in range(count)]


class Rig:
    """A recovery whose journal writes when a test says so."""

    def __init__(self, *entries, webhook=None, **values):
        self.clock = FakeClock()
        self.webhook = webhook or FakeWebhook()
        self.journal = FakeJournal()
        for entry in entries:
            self.journal.entries[entry.id] = {"closed": entry.disconnect_body}
        settings = make_settings(**values)
        services = make_services(settings, self.clock, self.webhook, FakeSessionListener(), self.journal)
        self.recovery = Recovery(services, entries)

    def start(self):
        self.recovery.start()
        return self

    @property
    def remembered(self):
        """The ids in the journal after all pending changes were written."""
        self.journal.write()
        return sorted(self.journal.entries)


# Connections that were lost with their process.


def test_without_entries_nothing_is_sent(caplog):
    caplog.set_level("INFO", "wsaas")
    rig = Rig().start()
    rig.recovery.stop()
    assert len(rig.recovery) == 0
    assert rig.webhook.events == []
    assert caplog.messages == []


def test_nothing_is_sent_before_the_start():
    rig = Rig(lost())
    assert len(rig.recovery) == 1
    assert rig.webhook.events == []
    assert rig.journal.pending == []


def test_the_delete_of_a_lost_connection_has_what_is_known():
    rig = Rig(lost(connected_at=FakeClock().wall() - 90.25)).start()
    (told,) = rig.webhook.events
    assert isinstance(told, Closed)
    assert told.at == rig.clock.wall()
    assert orjson.loads(body_of(told)) == {
        "ws_uri": "old/a",
        "code": 1006,
        "reason": "gateway lost",
        "duration": 90_250,
        "messages_in": None,
        "messages_out": None,
        "undelivered": None,
    }


def test_a_connection_is_counted_as_lost_once_unless_it_had_ended():
    rig = Rig(lost("a"), ended("b")).start()
    rig.webhook.answer(Retry("no", 1.0))
    rig.clock.advance(10.0)
    counters = rig.recovery._services.counters
    assert [reason for reason, count in counters.closed.items() if count] == [Reason.GATEWAY_LOST]
    assert counters.closed[Reason.GATEWAY_LOST] == 1


def test_the_delete_of_a_lost_connection_belongs_to_its_trace():
    left = lost()
    left.trace = TraceContext(f"00-{'a' * 32}-{'b' * 16}-01")
    rig = Rig(left, lost("b")).start()
    assert rig.webhook.subject.trace is None
    orphan = rig.recovery._under_way["a"].outbox.subject
    assert orphan.trace.headers("end") == Trace(left.trace, "a").headers("end")


def test_a_clock_that_was_set_back_gives_no_negative_duration():
    rig = Rig(lost(connected_at=FakeClock().wall() + 3600.0)).start()
    assert orjson.loads(body_of(rig.webhook.pending))["duration"] == 0


def test_a_delete_is_journaled_only_if_its_first_attempt_fails():
    rig = Rig(lost("a"), lost("b")).start()
    assert rig.journal.pending == []
    rig.webhook.answer(DELIVERED)
    assert rig.journal.write() == ["remove"]
    asked = rig.webhook.answer(Retry("no", 1.0))
    assert rig.journal.write() == ["set_disconnect"]
    written = rig.journal.entries["b"]["closed"]
    assert (written.at, body_of(written)) == (asked.at, body_of(asked))
    rig.clock.advance(10.0)
    rig.webhook.answer(Retry("no", 1.0))
    assert rig.journal.pending == []


# DELETEs that were sent before.


def test_a_retried_delete_is_sent_again_unchanged():
    rig = Rig(ended()).start()
    assert rig.webhook.events == [make_closed(DISCONNECT_BODY, 1_700_000_123.0)]
    rig.webhook.answer(Retry("no"))
    assert rig.journal.pending == []


# The requests.


def requests(*entries):
    """Return the requests that are sent for `entries`."""
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
        b"ce-id: abc:end",
        b"ce-type: wsaas.disconnect",
    ):
        assert lines.count(line) == 1
    assert orjson.loads(body)["ws_uri"] == "old/abc"


def test_without_context_and_authorization_there_are_no_such_headers():
    (request,) = requests(ended())
    assert b"Ws-Context" not in request
    assert b"Authorization" not in request
    assert b"\r\nce-id: a:end\r\n" in request
    assert request.endswith(b"\r\n\r\n" + DISCONNECT_BODY)


# A limited number at a time.


def test_a_limited_number_is_under_way_and_the_next_follows_when_one_is_done():
    entries = [ended(f"{number:02}", b"%d" % number) for number in range(MAX_UNDER_WAY + 3)]
    rig = Rig(*entries).start()
    for done in range(4):
        assert [int(body_of(event)) for event in rig.webhook.events] == list(range(MAX_UNDER_WAY + done))
        assert len(rig.recovery) == MAX_UNDER_WAY + 3 - done
        if done < 3:
            rig.webhook.answer(DELIVERED)
    assert MAX_UNDER_WAY == 16


def test_delivered_deletes_are_removed_and_the_end_is_logged(caplog):
    caplog.set_level("INFO", "wsaas")
    rig = Rig(ended("a"), lost("b")).start()
    assert caplog.messages == ["an earlier process left 2 connections: sending the DELETEs"]
    rig.webhook.answer(DELIVERED)
    assert rig.remembered == ["b"]
    assert len(caplog.messages) == 1
    rig.webhook.answer(DELIVERED)
    assert rig.remembered == []
    assert len(rig.recovery) == 0
    assert caplog.messages[1:] == ["all pending DELETEs are delivered"]


def test_a_rejected_delete_is_retried_and_keeps_its_place():
    rig = Rig(*(ended(f"{number:02}", b"%d" % number) for number in range(MAX_UNDER_WAY + 1))).start()
    rig.webhook.answer(Retry("no", 5.0))
    assert len(rig.webhook.events) == MAX_UNDER_WAY
    rig.clock.advance(5.0)
    assert rig.webhook.tries == MAX_UNDER_WAY + 1
    assert len(rig.webhook.events) == MAX_UNDER_WAY
    assert len(rig.remembered) == MAX_UNDER_WAY + 1


def test_a_delete_that_is_given_up_stays_in_the_journal_and_is_logged(caplog):
    rig = Rig(ended("a", b"a"), ended("b", b"b")).start()
    rig.webhook.windows[Closed] = 0.0
    rig.webhook.answer(Retry("the backend is broken"))
    assert caplog.messages == [
        "old/a: the backend was not told that this connection ended: the backend is broken, 1 time"
    ]
    assert caplog.records[0].levelname == "ERROR"
    rig.webhook.answer(DELIVERED)
    assert rig.remembered == ["a"]
    assert len(rig.recovery) == 0


def test_a_delete_that_is_given_up_lets_the_next_one_start():
    rig = Rig(*(ended(f"{number:02}", b"%d" % number) for number in range(MAX_UNDER_WAY + 1))).start()
    rig.webhook.windows[Closed] = 0.0
    rig.webhook.answer(Retry("no"))
    assert int(body_of(rig.webhook.events[-1])) == MAX_UNDER_WAY


def test_while_the_backend_is_down_recovered_deletes_wait_in_the_circuit_breaker():
    clock = FakeClock()
    pool = FakePool()
    breaker = CircuitBreaker(clock, pool)
    settings = make_settings()
    rig = Rig(*(ended(f"{number:02}") for number in range(40)), webhook=Webhook(settings, pool, breaker, clock.wall))
    breaker.observe(SimpleNamespace(connection_id="other"), Failure.UNREACHABLE)
    rig.start()
    assert pool.sent == []
    assert len(breaker) == MAX_UNDER_WAY
    clock.advance(0.1)
    pool.answer(Response(200, {}))
    while pool.sent:
        pool.answer(Response(200, {}))
    assert rig.remembered == []


# Stopped.


@pytest.mark.parametrize("retries", [False, True])
def test_a_stop_sends_no_more_and_pending_deletes_stay(retries):
    entries = [ended(f"{number:02}", b"%d" % number) for number in range(MAX_UNDER_WAY + 5)]
    rig = Rig(*entries).start()
    rig.webhook.answer(DELIVERED)
    if retries:
        rig.webhook.answer(Retry("no"))
    rig.recovery.stop()
    assert len(rig.recovery) == 0
    rig.clock.advance(1000.0)
    while rig.webhook.calls:
        rig.webhook.answer(DELIVERED)
    assert len(rig.webhook.events) == MAX_UNDER_WAY + 1
    assert rig.remembered == [entry.id for entry in entries[1:]]


def test_entries_of_an_earlier_gateway_may_be_added_later():
    rig = Rig()
    rig.recovery.add([ended()])
    rig.start()
    assert len(rig.webhook.events) == 1


def test_a_delete_that_was_given_up_is_not_retried_after_a_stop():
    rig = owing("a")
    rig.recovery.stop()
    assert rig.clock.timers == []
    rig.recovery.keep(ended("b"))
    assert rig.clock.timers == []
    assert rig.webhook.events == []


# DELETEs that were given up are sent again.


def owing(*names):
    """A recovery of DELETEs that sessions gave up."""
    rig = Rig()
    for name in names:
        rig.journal.entries[name] = {}
        rig.recovery.keep(ended(name, name.encode()))
    return rig


def bodies(rig):
    return [body_of(event).decode() for event in rig.webhook.events]


def test_a_delete_that_was_given_up_is_retried_until_it_is_accepted(caplog):
    caplog.set_level("INFO", "wsaas")
    rig = owing("a", "b")
    rig.clock.advance(RETRY_INTERVAL_S - 1)
    assert bodies(rig) == []
    assert [entry.id for entry in rig.recovery.entries()] == ["a", "b"]
    rig.clock.advance(1)
    assert bodies(rig) == ["a", "b"]
    rig.webhook.answer(Retry("no", 1.0))
    rig.webhook.answer(DELIVERED)
    assert rig.remembered == ["a"]
    # Once, after the next interval.
    rig.clock.advance(RETRY_INTERVAL_S - 1)
    assert rig.webhook.calls == []
    rig.clock.advance(1)
    assert rig.webhook.tries == 3
    rig.webhook.answer(DELIVERED)
    assert rig.remembered == []
    assert rig.recovery.entries() == []
    assert rig.clock.timers == []
    assert caplog.messages == [
        "retrying 2 DELETEs that failed before",
        "retrying 1 DELETE that failed before",
        "all pending DELETEs are delivered",
    ]


def test_a_limited_number_of_failed_deletes_is_retried_at_a_time():
    rig = owing(*(f"{number:02}" for number in range(MAX_UNDER_WAY + 5)))
    rig.clock.advance(RETRY_INTERVAL_S)
    assert len(rig.webhook.calls) == MAX_UNDER_WAY
    rig.webhook.answer(Retry("no"))
    assert len(rig.webhook.events) == MAX_UNDER_WAY + 1


def test_a_delete_that_was_given_up_is_not_retried_while_the_backend_is_down():
    rig = owing("a", "b")
    rig.webhook.breaker.state = OPEN
    rig.clock.advance(RETRY_INTERVAL_S)
    assert rig.webhook.breaker.waiting == []
    assert len(rig.recovery.entries()) == 2
    rig.webhook.breaker.state = CLOSED
    rig.clock.advance(RETRY_INTERVAL_S)
    assert bodies(rig) == ["a", "b"]


def test_a_delete_that_was_given_up_is_retried_while_only_requests_fail():
    rig = owing("a")
    rig.webhook.breaker.state = HALF_OPEN
    rig.clock.advance(RETRY_INTERVAL_S)
    # The circuit breaker decides when.
    (delivery,) = rig.webhook.breaker.waiting
    assert delivery.attempt()
    rig.webhook.answer(Retry("no"))
    assert rig.webhook.breaker.waiting == [delivery]
    assert not delivery.attempt()
    rig.clock.advance(RETRY_INTERVAL_S)
    assert len(rig.webhook.breaker.waiting) == 2


def test_a_thousand_deletes_that_fail_without_an_attempt_do_not_recurse_deeply():
    class Down(FakeWebhook):
        def call(self, delivery, _event, _is_direct=False):
            delivery.judged(Retry("no"))

    rig = Rig(webhook=Down())
    for number in range(5000):
        rig.recovery.keep(ended(str(number)))
    rig.clock.advance(RETRY_INTERVAL_S)
    assert len(rig.recovery.entries()) == 5000


def test_an_error_while_one_delete_is_sent_is_logged_and_the_others_are_sent(caplog):
    class Faulty(FakeWebhook):
        faults = 2

        def call(self, delivery, event, is_direct=False):
            super().call(delivery, event, is_direct)
            if self.faults:
                self.faults -= 1
                _, judged = self.calls.pop()
                if not self.faults:
                    judged(DELIVERED)
                raise RuntimeError("a fault")

    rig = Rig(lost("a"), lost("b"), *some(MAX_UNDER_WAY + 1), webhook=Faulty()).start()
    assert len(rig.webhook.calls) == MAX_UNDER_WAY
    assert rig.recovery.pending == MAX_UNDER_WAY + 2
    assert caplog.messages[0] == "old/a: its DELETE cannot be sent; trying again in 60 s"
    assert caplog.records[0].exc_info[1].args == ("a fault",)
    while rig.webhook.calls:
        rig.webhook.answer(DELIVERED)
    assert rig.remembered == ["a"]
    rig.clock.advance(RETRY_INTERVAL_S)
    rig.webhook.answer(DELIVERED)
    assert rig.remembered == []


def test_a_recovered_delete_that_is_given_up_is_retried_too():
    rig = Rig(lost()).start()
    rig.webhook.windows[Closed] = 0.0
    rig.webhook.answer(Retry("no"))
    assert rig.journal.write() == ["set_disconnect"]
    rig.clock.advance(RETRY_INTERVAL_S)
    told, asked = rig.webhook.events[0], rig.webhook.pending
    assert (told.at, body_of(told)) == (asked.at, body_of(asked))
    rig.webhook.answer(DELIVERED)
    assert rig.remembered == []


def test_a_limited_number_of_failed_deletes_is_kept_and_others_are_logged(monkeypatch, caplog):
    monkeypatch.setattr(recovery, "MAX_OWED", 2)
    rig = owing("a", "b", "c")
    assert [entry.id for entry in rig.recovery.entries()] == ["a", "b"]
    assert caplog.messages == ["old/c: its DELETE is sent at the next start"]


# Any order of events.


@examples(100)
@given(
    count=st.integers(0, 40),
    outcomes=st.lists(st.sampled_from(["taken", "again", "given up", "write", "fail", "time"]), max_size=80),
)
def test_in_the_end_each_delete_was_sent_once_and_only_failed_ones_are_left(count, outcomes):
    rig = Rig(*some(count)).start()
    given_up = 0
    for outcome in [*outcomes, *["write", "taken", "time"] * (count + len(outcomes) + 30)]:
        if outcome == "write":
            rig.journal.write()
        elif outcome == "fail":
            rig.journal.fail()
        elif outcome == "time":
            rig.clock.advance(10.0)
        elif rig.webhook.calls:
            rig.webhook.windows[Closed] = 0.0 if outcome == "given up" else 300.0
            was_there = len(rig.recovery)
            rig.webhook.answer(DELIVERED if outcome == "taken" else Retry(outcome, 1.0))
            given_up += outcome != "taken" and len(rig.recovery) < was_there
        assert len(rig.webhook.calls) + len(rig.clock.timers) <= MAX_UNDER_WAY + 1
    assert len(rig.recovery) == 0
    assert len(rig.webhook.events) == count
    assert rig.remembered == []
    event(f"given up: {given_up > 0}")


# The connections of another process.


def test_connections_of_a_dead_process_are_adopted():
    rig = Rig(*some(2)).start()
    rig.recovery.adopt([*some(4)])
    assert [event.number for event in rig.webhook.events] == ["end"] * 4
    assert len(rig.recovery) == 4


def test_an_entry_is_found_while_its_delete_is_under_way():
    rig = Rig(*some(MAX_UNDER_WAY + 1)).start()
    assert rig.recovery.find("00") is rig.recovery.entries()[1]
    assert rig.recovery.find(f"{MAX_UNDER_WAY:02}") is None


def test_entries_that_another_process_has_adopted_are_forgotten():
    rig = owing("given up", "also given up")
    rig.recovery.adopt([*some(MAX_UNDER_WAY + 2)])
    forgotten = rig.recovery.forget(lambda entry: entry.id in ("given up", "00", f"{MAX_UNDER_WAY + 1:02}"))
    assert {entry.id for entry in forgotten} == {"given up", "00", f"{MAX_UNDER_WAY + 1:02}"}
    assert len(rig.webhook.events) == MAX_UNDER_WAY + 1
    while rig.webhook.calls:
        rig.webhook.answer(DELIVERED)
    rig.clock.advance(RETRY_INTERVAL_S)
    assert bodies(rig)[-1] == "also given up"
    assert "00" not in rig.remembered
    assert rig.recovery.entries() != []
