import math
import random
from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.fakes import (
    FakeClock,
    FakeJournal,
    FakePool,
    FakeWebhook,
    body_of,
    make_closed,
    make_opened,
    make_services,
    make_settings,
)
from wsaas.counters import Counters
from wsaas.delivery import circuit_breaker
from wsaas.delivery.circuit_breaker import CLOSED, FAILURE_THRESHOLD, MAX_TRIALS, OPEN, CircuitBreaker
from wsaas.delivery.event_delivery import OutboxListener
from wsaas.delivery.inbox import MESSAGE_OVERHEAD, Backpressure
from wsaas.delivery.outbox import Outbox
from wsaas.delivery.outbox_state import TRANSITIONS, State
from wsaas.delivery.pool import Failure
from wsaas.delivery.retries import FIRST_RETRY_DELAY_S, MAX_RETRY_DELAY_S
from wsaas.delivery.verdicts import DELIVERED, Accepted, Actions, Delivered, Retry, Undeliverable
from wsaas.delivery.webhook import Subject, Webhook
from wsaas.events import Closed, Disconnect, Message, Opened
from wsaas.http.response import Response
from wsaas.log.wording import counted
from wsaas.reason import Reason

INBOX = 10_000
REPLY = Actions(reply=Message(text=True, data=b"echo"))
AGAIN = Retry("the backend is tired")
ADMITTED = Accepted(None, None)


class FakeListener(OutboxListener):
    """Records the calls of the outbox, in order."""

    def __init__(self):
        self.calls = []
        self.on_resume = lambda: None
        self.on_undelivered = lambda: None
        self.on_delayed = lambda: None
        self.on_disconnecting = lambda _closed: None
        self.leaving_events = []

    def decided(self, verdict):
        self.calls.append(("decided", verdict))

    def requested(self, actions):
        self.calls.append(("requested", actions))

    def undelivered(self, reason, why):
        self.calls.append(("undelivered", reason, why))
        self.on_undelivered()

    def disconnecting(self, closed):
        self.leaving_events.append(closed)
        self.on_disconnecting(closed)

    def disconnect_delayed(self):
        self.calls.append("delayed")
        self.on_delayed()

    def disconnect_delivered(self):
        self.calls.append("delivered")

    def disconnect_failed(self, why):
        self.calls.append(("failed", why))

    def pause(self):
        self.calls.append("pause")

    def resume(self):
        self.calls.append("resume")
        self.on_resume()


class Rig:
    def __init__(self, inbox=INBOX):
        self.clock = FakeClock()
        self.webhook = FakeWebhook()
        self.listener = FakeListener()
        self.journal = FakeJournal()
        self.subject = Subject("id", "http://node", None)
        services = make_services(make_settings(inbox=str(inbox)), self.clock, self.webhook, journal=self.journal)
        self.outbox = Outbox(services, self.subject, self.listener)

    def put(self, *events):
        for event in events:
            self.outbox.put(event)

    def bring_to(self, state):
        """Bring the outbox into `state`. If there is a current event, a message waits behind it."""
        if state is State.DONE:
            self.put(closed())
            self.webhook.answer(DELIVERED)
        elif state is State.ABANDONED:
            self.outbox.abandon()
        elif state is not State.IDLE:
            self.webhook.breaker.state = OPEN if state is State.QUEUED else CLOSED
            self.put(closed(delay=5.0) if state is State.DELAYED else message(1), message(2))
            if state is State.BACKING_OFF:
                self.webhook.answer(AGAIN)
        assert self.outbox.state is state
        return self

    @property
    def calls(self):
        return self.listener.calls


@pytest.fixture
def rig():
    return Rig()


def message(number, size=10):
    return Message(text=False, data=b"." * size, number=number)


def opened():
    return make_opened()


def closed(number=99, delay=0.0):
    return make_closed(b"{%d}" % number, delay=delay)


# Order.


def test_an_event_in_an_idle_outbox_is_sent_at_once(rig):
    rig.put(opened())
    assert rig.webhook.events == [opened()]
    assert rig.webhook.subject is rig.subject
    assert rig.outbox.level == 0
    assert rig.calls == []


def test_events_are_sent_one_by_one_in_order(rig):
    events = [opened(), message(1), message(2), closed(3)]
    rig.put(*events)
    for count, verdict in enumerate([ADMITTED, DELIVERED, DELIVERED, DELIVERED], 1):
        assert rig.webhook.events == events[:count]
        assert len(rig.webhook.calls) == 1
        rig.webhook.answer(verdict)
    assert rig.calls == [("decided", ADMITTED), "delivered"]


def test_after_the_last_event_the_outbox_is_idle_again(rig):
    rig.put(message(1))
    rig.webhook.answer(DELIVERED)
    rig.put(message(2))
    assert rig.webhook.events == [message(1), message(2)]


def test_what_the_backend_asks_for_is_passed_on_before_the_next_event_is_sent(rig):
    rig.put(message(1), message(2))
    rig.listener.requested = lambda given: rig.calls.append((given, len(rig.webhook.events)))
    rig.webhook.answer(Delivered(REPLY))
    assert rig.calls == [(REPLY, 1)]
    assert rig.webhook.events == [message(1), message(2)]


def test_a_message_that_the_backend_refuses_is_undelivered_and_the_next_one_follows(rig):
    rig.put(message(1), message(2))
    rig.webhook.answer(Undeliverable("no", Reason.BACKEND_GONE))
    assert rig.calls == [("undelivered", Reason.BACKEND_GONE, "no")]
    assert rig.webhook.events == [message(1), message(2)]


# Retries.


@pytest.mark.parametrize("luck", [0.0, 0.5, 1.0])
def test_each_delay_is_random_below_a_bound_that_doubles_up_to_a_maximum(rig, monkeypatch, luck):
    monkeypatch.setattr(random, "uniform", lambda low, high: low + luck * (high - low))
    rig.put(closed())
    pauses = []
    for _ in range(10):
        rig.webhook.answer(AGAIN)
        (timer,) = rig.clock.timers
        pauses.append(timer.at - rig.clock.now())
        rig.clock.advance(pauses[-1])
    bounds = [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0, 10.0]
    assert pauses == pytest.approx([luck * bound for bound in bounds])
    assert (FIRST_RETRY_DELAY_S, MAX_RETRY_DELAY_S) == (0.1, 10.0)


def test_the_bound_of_a_delay_stays_finite_after_any_number_of_attempts(rig, monkeypatch):
    bounds = []

    def uniform(_low, high):
        bounds.append(high)
        return 0.0

    monkeypatch.setattr(random, "uniform", uniform)
    rig.put(closed())
    for _ in range(5000):
        rig.webhook.answer(AGAIN)
        rig.clock.advance(0)
    assert bounds[-1] == MAX_RETRY_DELAY_S


def test_delays_are_random(rig):
    pauses = set()
    for _ in range(20):
        rig.put(message(1))
        rig.webhook.answer(AGAIN)
        pauses.add(round(rig.clock.timers[0].at - rig.clock.now(), 6))
        rig.clock.advance(1.0)
        rig.webhook.answer(DELIVERED)
    assert len(pauses) > 10


def test_a_retry_is_the_same_event_and_nothing_overtakes_it(rig):
    rig.put(message(1), message(2))
    rig.webhook.answer(AGAIN)
    assert rig.webhook.calls == []
    rig.put(message(3))
    assert rig.webhook.calls == []
    rig.clock.advance(MAX_RETRY_DELAY_S)
    assert rig.webhook.answer(DELIVERED) == message(1)
    assert rig.webhook.events == [message(1), message(2)]
    assert rig.webhook.tries == 3


def test_each_event_starts_with_short_delays_and_its_own_window(rig, monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)
    rig.put(message(1), message(2))
    while not rig.calls:
        rig.webhook.answer(AGAIN)
        rig.clock.advance(MAX_RETRY_DELAY_S)
    assert rig.webhook.pending == message(2)
    rig.webhook.answer(AGAIN)
    assert rig.clock.timers[0].at - rig.clock.now() == pytest.approx(0.2)


def test_retry_after_is_the_least_delay(rig):
    rig.put(message(1))
    rig.webhook.answer(Retry("busy", 7.0))
    assert rig.clock.timers[0].at == rig.clock.now() + 7.0


def test_retry_after_does_not_shorten_a_delay(rig, monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)
    rig.put(message(1))
    rig.webhook.answer(Retry("busy", 0.1))
    assert rig.clock.timers[0].at == rig.clock.now() + 0.2


def test_a_retry_after_beyond_the_window_leads_to_a_last_attempt_at_its_end(rig):
    rig.put(message(1))
    rig.webhook.answer(Retry("busy", 3600.0))
    assert rig.clock.timers[0].at == rig.clock.now() + 30.0
    rig.clock.advance(30.0)
    assert rig.webhook.pending == message(1)
    rig.webhook.answer(DELIVERED)
    assert rig.calls == []


@pytest.mark.parametrize(("event", "window"), [(message(1), 30.0), (closed(), 300.0)])
def test_an_event_is_given_up_when_its_window_is_over(rig, event, window):
    start = rig.clock.now()
    rig.put(event)
    rig.webhook.answer(AGAIN)
    if isinstance(event, Closed):
        assert rig.calls.pop() == "delayed"
    while not rig.calls:
        assert rig.clock.now() <= start + window
        (timer,) = rig.clock.timers
        rig.clock.advance(timer.at - rig.clock.now())
        rig.webhook.answer(AGAIN)
    assert rig.clock.now() == pytest.approx(start + window)
    assert rig.clock.timers == []
    assert rig.webhook.given_up_for == [f"{AGAIN.why}, {counted(rig.webhook.tries, 'time')}"]
    if isinstance(event, Closed):
        assert rig.calls == [("failed", f"{AGAIN.why}, {counted(rig.webhook.tries, 'time')}")]
    else:
        assert rig.calls == [("undelivered", Reason.UNDELIVERED, f"{AGAIN.why}, {counted(rig.webhook.tries, 'time')}")]


def test_the_window_starts_with_the_first_failure_not_with_the_first_attempt(rig):
    rig.put(message(1))
    rig.clock.advance(40.0)
    rig.webhook.answer(AGAIN)
    assert rig.calls == []
    assert len(rig.clock.timers) == 1


def test_without_a_window_an_event_is_attempted_once(rig):
    rig.webhook.windows[Message] = 0.0
    rig.put(message(1), message(2))
    rig.webhook.answer(AGAIN)
    assert rig.calls == [("undelivered", Reason.UNDELIVERED, f"{AGAIN.why}, 1 time")]
    assert rig.webhook.events == [message(1), message(2)]


def test_a_retry_logs_the_cause(rig, caplog):
    caplog.set_level("DEBUG", "wsaas")
    rig.put(message(7))
    rig.webhook.answer(Retry("no luck", 2.0))
    assert caplog.messages == ["id:7: no luck; again in 2.000 s"]


# Backpressure.


def test_backpressure_pauses_above_the_mark_and_resumes_at_half_of_it():
    listener = FakeListener()
    pressure = Backpressure(100, listener, Counters())
    pressure.add(100)
    assert listener.calls == []
    pressure.add(1)
    pressure.add(50)
    assert listener.calls == ["pause"]
    pressure.remove(100)
    assert listener.calls == ["pause"]
    pressure.remove(1)
    assert listener.calls == ["pause", "resume"]
    pressure.remove(50)
    assert listener.calls == ["pause", "resume"]
    assert pressure.level == 0


def test_waiting_messages_are_counted_with_an_overhead_but_not_the_current_one(rig):
    rig.put(message(1, 1000), message(2, 20), message(3, 0))
    assert rig.outbox.level == 2 * MESSAGE_OVERHEAD + 20
    rig.webhook.answer(DELIVERED)
    assert rig.outbox.level == MESSAGE_OVERHEAD
    rig.webhook.answer(DELIVERED)
    assert rig.outbox.level == 0


def test_a_closed_does_not_count(rig):
    rig.put(message(1), closed())
    assert rig.outbox.level == 0


def test_one_message_always_fits(rig):
    rig.put(message(1, 100 * INBOX))
    assert rig.calls == []
    assert not rig.outbox.backlogged


def test_a_full_inbox_pauses_the_listener_and_half_of_it_resumes(rig):
    rig.put(message(1))
    size = INBOX // 4 - MESSAGE_OVERHEAD
    rig.put(*(message(number, size) for number in range(2, 6)))
    assert rig.calls == []
    rig.put(message(6, 0))
    assert rig.calls == ["pause"]
    assert rig.outbox.backlogged
    rig.webhook.answer(DELIVERED)
    rig.webhook.answer(DELIVERED)
    assert rig.calls == ["pause"]
    rig.webhook.answer(DELIVERED)
    assert rig.calls == ["pause", "resume"]
    assert not rig.outbox.backlogged


def test_events_put_by_a_resumed_listener_queue_behind_waiting_events(rig):
    rig.put(message(1), message(2, INBOX))
    assert rig.calls == ["pause"]
    rig.listener.on_resume = lambda: rig.put(message(3, INBOX))
    rig.webhook.answer(DELIVERED)
    assert rig.calls == ["pause", "resume", "pause"]
    assert rig.webhook.events == [message(1), message(2, INBOX)]
    rig.listener.on_resume = lambda: None
    rig.webhook.answer(DELIVERED)
    assert rig.webhook.events[-1] == message(3, INBOX)
    assert rig.calls == ["pause", "resume", "pause", "resume"]


# Hold and release.


def test_a_held_outbox_starts_nothing_until_it_is_released(rig):
    rig.outbox.hold()
    rig.put(message(1), message(2))
    assert rig.webhook.events == []
    assert rig.outbox.level == 2 * (MESSAGE_OVERHEAD + 10)
    rig.outbox.release()
    assert rig.webhook.events == [message(1)]
    rig.webhook.answer(DELIVERED)
    assert rig.webhook.events == [message(1), message(2)]


def test_an_attempt_under_way_continues_while_the_outbox_is_held(rig):
    rig.put(message(1), message(2))
    rig.outbox.hold()
    rig.webhook.answer(AGAIN)
    rig.clock.advance(MAX_RETRY_DELAY_S)
    assert rig.webhook.tries == 2
    rig.webhook.answer(DELIVERED)
    assert rig.webhook.events == [message(1)]
    rig.outbox.release()
    assert rig.webhook.events == [message(1), message(2)]


def test_release_starts_nothing_while_an_event_is_under_way(rig):
    rig.put(message(1), message(2))
    rig.outbox.hold()
    rig.outbox.release()
    assert rig.webhook.events == [message(1)]


def test_release_without_hold_does_nothing(rig):
    rig.outbox.release()
    rig.put(message(1), message(2))
    rig.outbox.release()
    assert rig.webhook.events == [message(1)]


def test_release_without_waiting_events_lets_the_next_event_be_sent_at_once(rig):
    rig.outbox.hold()
    rig.outbox.release()
    rig.put(message(1))
    assert rig.webhook.events == [message(1)]


def test_a_held_outbox_is_not_backlogged(rig):
    rig.outbox.hold()
    rig.put(message(1, INBOX))
    assert rig.calls == ["pause"]
    assert not rig.outbox.backlogged


# Giving up.


def test_discard_drops_waiting_messages_but_not_the_closed(rig):
    rig.put(message(1), message(2), message(3), closed(4))
    assert rig.outbox.discard_messages() == 2
    assert rig.outbox.level == 0
    rig.webhook.answer(DELIVERED)
    assert rig.webhook.events == [message(1), closed(4)]


def test_discard_without_messages_does_nothing(rig):
    assert rig.outbox.discard_messages() == 0
    rig.put(message(1))
    assert rig.outbox.discard_messages() == 0
    rig.webhook.answer(DELIVERED)
    assert rig.webhook.events == [message(1)]


def test_discard_resumes_a_paused_listener(rig):
    rig.put(message(1), message(2, INBOX))
    assert rig.outbox.discard_messages() == 1
    assert rig.calls == ["pause", "resume"]


def test_events_put_by_a_listener_that_discard_resumed_queue_behind_the_closed(rig):
    rig.put(message(1), message(2, INBOX), closed(3))
    rig.listener.on_resume = lambda: rig.put(message(4))
    rig.outbox.discard_messages()
    rig.webhook.answer(DELIVERED)
    assert rig.webhook.pending == closed(3)
    assert rig.outbox.level == MESSAGE_OVERHEAD + 10


def test_discard_in_a_held_outbox_does_not_start_the_closed(rig):
    rig.outbox.hold()
    rig.put(message(1), closed(2))
    assert rig.outbox.discard_messages() == 1
    assert rig.webhook.events == []
    rig.outbox.release()
    assert rig.webhook.events == [closed(2)]


def test_a_listener_may_discard_when_a_message_is_undelivered(rig):
    rig.put(message(1), message(2), closed(3))
    rig.listener.on_undelivered = rig.outbox.discard_messages
    rig.webhook.answer(Undeliverable("no", Reason.UNDELIVERED))
    assert rig.webhook.events == [message(1), closed(3)]


def test_an_abandoned_outbox_returns_the_undelivered_events_and_ignores_late_answers(rig):
    rig.put(message(1), message(2), closed(3))
    assert rig.outbox.abandon() == [message(1), message(2), closed(3)]
    assert rig.webhook.given_up_for == ["abandoned"]
    rig.webhook.answer(Delivered(REPLY))
    assert rig.webhook.events == [message(1)]
    assert rig.calls == []
    assert rig.outbox.abandon() == []


def test_a_closed_that_is_abandoned_while_it_is_sent_is_journaled_with_its_body(rig):
    event = Closed(1.0)
    rig.listener.on_disconnecting = lambda closed: setattr(closed, "disconnect", Disconnect("node/id", 1000, "bye", 5))
    rig.journal.entries["id"] = {"closed": None}
    rig.put(event)
    assert rig.journal.waiting == []
    assert rig.outbox.abandon() == [event]
    rig.journal.write()
    assert rig.journal.entries["id"]["closed"] == Closed(1.0, 0.0, body_of(event))


def test_a_closed_is_journaled_once(rig):
    rig.listener.on_disconnecting = lambda closed: setattr(closed, "disconnect", Disconnect("node/id", 1000, "bye", 5))
    rig.put(Closed(1.0))
    rig.webhook.answer(AGAIN)
    rig.clock.advance(10.0)
    rig.webhook.answer(AGAIN)
    rig.outbox.abandon()
    assert rig.journal.waiting == ["set_disconnect"]


@pytest.mark.parametrize("event", [Closed(1.0, 5.0), make_closed(b"{}")])
def test_a_closed_that_was_not_sent_or_came_from_the_journal_is_not_journaled(rig, event):
    rig.put(event)
    rig.outbox.abandon()
    assert rig.journal.waiting == []


def test_an_abandoned_outbox_retries_nothing(rig):
    rig.put(message(1))
    rig.webhook.answer(AGAIN)
    assert rig.outbox.abandon() == [message(1)]
    assert rig.clock.timers == []


def test_disconnecting_is_called_when_all_earlier_events_are_done(rig):
    rig.put(message(1), closed(2))
    assert rig.listener.leaving_events == []
    rig.webhook.answer(DELIVERED)
    assert rig.listener.leaving_events == [closed(2)]
    assert rig.webhook.events == [message(1), closed(2)]


def test_disconnect_delayed_is_called_once_for_a_closed_whose_first_attempt_failed(rig):
    rig.put(closed(1))
    assert rig.outbox.late is None
    rig.webhook.answer(AGAIN)
    assert rig.calls == ["delayed"]
    assert rig.outbox.late == closed(1)
    rig.clock.advance(10.0)
    rig.webhook.answer(AGAIN)
    rig.clock.advance(10.0)
    rig.webhook.answer(DELIVERED)
    assert rig.calls == ["delayed", "delivered"]
    assert rig.listener.leaving_events == [closed(1)]


def test_a_late_message_is_not_reported_as_a_late_closed(rig):
    rig.put(message(1))
    rig.webhook.answer(AGAIN)
    assert rig.outbox.late is None
    assert rig.calls == []


@pytest.mark.parametrize("is_down", [False, True])
def test_a_listener_may_abandon_a_closed_that_is_late(rig, is_down):
    rig.listener.on_delayed = rig.outbox.abandon
    rig.webhook.breaker.state = OPEN if is_down else CLOSED
    rig.put(closed(1))
    if not is_down:
        rig.webhook.answer(AGAIN)
    assert rig.calls == ["delayed"]
    assert rig.clock.timers == []
    assert rig.webhook.breaker.waiting == []


def test_a_closed_that_is_given_up_at_once_is_reported_as_late_first(rig):
    rig.webhook.windows[Closed] = 0.0
    rig.put(closed(1))
    rig.webhook.answer(AGAIN)
    assert rig.calls == ["delayed", ("failed", "the backend is tired, 1 time")]


def test_the_delay_of_a_closed_begins_when_it_is_next(rig):
    rig.put(message(1), closed(2, 5.0))
    rig.clock.advance(10.0)
    rig.webhook.answer(DELIVERED)
    assert rig.listener.leaving_events == []
    rig.clock.advance(4.9)
    assert rig.webhook.events == [message(1)]
    rig.clock.advance(0.2)
    assert rig.webhook.events == [message(1), closed(2, 5.0)]


def test_skip_delay_skips_only_a_delay(rig):
    rig.outbox.skip_delay()
    rig.put(closed(1))
    rig.outbox.skip_delay()
    rig.webhook.answer(AGAIN)
    rig.outbox.skip_delay()
    assert rig.webhook.tries == 1


def test_a_listener_without_overrides_does_nothing():
    OutboxListener().disconnecting(closed(1))
    OutboxListener().disconnect_delayed()


def test_events_put_into_an_abandoned_outbox_are_dropped(rig):
    rig.put(message(1), message(2, INBOX))
    assert rig.outbox.abandon() == [message(1), message(2, INBOX)]
    rig.put(closed(3))
    rig.webhook.answer(DELIVERED)
    assert rig.webhook.events == [message(1)]
    assert rig.outbox.level == 0


@pytest.mark.parametrize("late", ["release", "hold", "put", "release after put"])
def test_an_abandoned_outbox_never_sends_again(rig, late):
    rig.put(message(1), message(2))
    rig.outbox.hold()
    rig.outbox.abandon()
    if late == "hold":
        rig.outbox.hold()
    if "put" in late:
        rig.put(message(3), closed(4))
    if late != "put":
        rig.outbox.release()
    rig.webhook.answer(DELIVERED)
    rig.outbox.release()
    assert rig.webhook.events == [message(1)]
    assert rig.clock.timers == []


@pytest.mark.parametrize("state", State)
def test_in_no_state_does_an_abandoned_outbox_send_again(state):
    rig = Rig().bring_to(state)
    tries = rig.webhook.tries
    rig.outbox.abandon()
    assert rig.outbox.state is (State.DONE if state is State.DONE else State.ABANDONED)
    rig.outbox.release()
    rig.put(message(8), closed())
    rig.outbox.skip_delay()
    rig.outbox.hold()
    rig.outbox.release()
    assert not rig.outbox.attempt()
    assert rig.outbox.give_up_overdue(math.inf)
    rig.outbox.judged(AGAIN)
    rig.outbox.judged(DELIVERED)
    rig.clock.advance(1000.0)
    assert rig.outbox.abandon() == []
    assert rig.webhook.tries == tries
    assert rig.clock.timers == []


@pytest.mark.parametrize("callback", ["disconnecting", "disconnect_delayed", "requested", "decided", "undelivered"])
@pytest.mark.parametrize("breaker", [CLOSED, OPEN])
def test_an_outbox_that_its_listener_abandons_in_a_callback_sends_nothing_more(rig, callback, breaker):
    setattr(rig.listener, callback, lambda *_: rig.outbox.abandon())
    event, verdict = {
        "disconnecting": (closed(), DELIVERED),
        "disconnect_delayed": (closed(), AGAIN),
        "requested": (message(1), Delivered(REPLY)),
        "decided": (opened(), ADMITTED),
        "undelivered": (message(1), Undeliverable("no", Reason.UNDELIVERED)),
    }[callback]
    rig.webhook.breaker.state = breaker
    rig.put(event, message(2), message(3))
    if rig.webhook.calls:
        rig.webhook.answer(verdict)
    elif callback in ("requested", "undelivered"):
        assert rig.outbox.attempt()
        rig.webhook.answer(verdict)
    assert rig.outbox.state is State.ABANDONED
    assert rig.webhook.events in ([], [event])
    assert rig.webhook.breaker.waiting in ([], [rig.outbox])
    assert not rig.outbox.attempt()
    assert rig.clock.timers == []


# The table.


def test_every_transition_has_its_reason():
    names = {state: set(row) for state, row in TRANSITIONS.items()}
    idle, delayed, delivering, backing_off, queued, done, abandoned = State
    assert names == {
        idle: {delayed, delivering, queued, abandoned},
        delayed: {delivering, queued, abandoned},
        delivering: {idle, backing_off, queued, done, abandoned},
        backing_off: {delivering, queued, abandoned},
        queued: {delivering, idle, done, abandoned},
        done: set(),
        abandoned: set(),
    }
    assert all(why for row in TRANSITIONS.values() for why in row.values())


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_a_transition_missing_from_the_table_is_an_assertion_error(before, after):
    outbox = Rig().bring_to(before).outbox
    if after in TRANSITIONS[before]:
        outbox._move(after)
        assert outbox.state is after
    else:
        with pytest.raises(AssertionError):
            outbox._move(after)
        assert outbox.state is before


# A backend that is down, for all connections together.


class SharedRig:
    """Several outboxes in front of one backend, behind a real circuit breaker."""

    def __init__(self, count=3, **values):
        self.clock = FakeClock()
        self.pool = FakePool()
        self.breaker = CircuitBreaker(self.clock, self.pool)
        settings = make_settings(inbox=str(INBOX), **values)
        self.webhook = Webhook(settings, self.pool, self.breaker, self.clock.wall)
        self.services = make_services(settings, self.clock, self.webhook)
        self.listeners = [FakeListener() for _ in range(count)]
        self.outboxes = [
            Outbox(self.services, Subject(f"id{number}", "node", None), listener)
            for number, listener in enumerate(self.listeners)
        ]

    def fall(self):
        """Open the breaker: a request of another connection could not reach the backend."""
        self.breaker.observe(SimpleNamespace(connection_id="other"), Failure.UNREACHABLE)
        return self

    def fail(self):
        """Open the breaker halfway: requests of other connections failed."""
        for number in range(FAILURE_THRESHOLD):
            subject = Subject(f"other{number}", "node", None)
            other = Outbox(self.services, subject, FakeListener())
            self.breaker.observe(other, Failure.BROKEN)
        assert self.breaker.state is circuit_breaker.HALF_OPEN
        return self

    def answer(self, outcome):
        """Answer the oldest request."""
        self.pool.answer(outcome if isinstance(outcome, Failure) else Response(outcome, {}))

    def answer_later(self, status, seconds):
        self.pool.answer(Response(status, {b"retry-after": b"%d" % seconds}))

    @property
    def sent(self):
        """The method and the `ce-id` of each request that is under way."""
        heads = [exchange.request.partition(b"\r\n\r\n")[0].decode() for exchange in self.pool.sent]
        return [f"{head.split()[0]} {head.partition('ce-id: ')[2].split()[0]}" for head in heads]

    def sweep(self, seconds):
        """Let time pass, and give up the deliveries that are overdue."""
        self.clock.advance(seconds)
        self.breaker.sweep(self.clock.now())


@pytest.fixture
def down():
    return SharedRig().fall()


@pytest.fixture
def half_open():
    return SharedRig().fail()


def test_an_opened_never_queues_while_the_backend_is_down(down):
    for outbox in down.outboxes:
        outbox.put(opened())
    assert down.sent == ["POST id0:0", "POST id1:0", "POST id2:0"]
    assert len(down.breaker) == 0
    for listener in down.listeners:
        down.answer(Failure.UNREACHABLE)
        ((said, verdict),) = listener.calls
        assert said == "decided"
        assert verdict.error.status == 503
    assert down.sent == []


def test_a_message_queues_while_the_backend_is_down(down):
    for number, outbox in enumerate(down.outboxes):
        outbox.put(message(number + 1))
    assert down.sent == []
    assert len(down.breaker) == 3
    down.clock.advance(0.1)
    assert down.sent == ["PUT id0:1"]
    down.clock.advance(10.0)
    assert down.sent == ["PUT id0:1"]
    down.answer(200)
    assert down.sent == ["PUT id1:2", "PUT id2:3"]
    assert [listener.calls for listener in down.listeners] == [[], [], []]


def test_a_closed_queues_while_the_backend_is_down(down):
    down.outboxes[0].put(closed(9))
    assert down.sent == []
    assert len(down.breaker) == 1
    down.clock.advance(0.1)
    assert down.sent == ["DELETE id0:end"]
    down.answer(204)
    assert down.listeners[0].calls == ["delayed", "delivered"]


def test_an_event_that_fails_while_the_backend_is_down_queues_without_a_timer():
    rig = SharedRig()
    for outbox in rig.outboxes:
        outbox.put(message(1))
    for _ in range(3):
        rig.answer(Failure.UNREACHABLE)
    assert len(rig.breaker) == 3
    # There is one timer for all: that of the probe.
    assert len(rig.clock.timers) == 1
    rig.clock.advance(0.1)
    assert rig.sent == ["PUT id0:1"]


def test_a_retry_that_is_due_while_the_backend_is_down_queues(monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)
    rig = SharedRig()
    rig.outboxes[0].put(message(1))
    rig.answer(503)
    assert len(rig.breaker) == 0
    rig.fall()
    rig.clock.advance(0.2)
    assert rig.sent == []
    assert len(rig.breaker) == 1
    rig.clock.advance(0.1)
    assert rig.sent == ["PUT id0:1"]


def test_a_failed_probe_queues_behind_the_others(down):
    for outbox in down.outboxes:
        outbox.put(message(1))
    for name in ("id0", "id1", "id2", "id0"):
        down.clock.advance(1.0)
        assert down.sent == [f"PUT {name}:1"]
        down.answer(Failure.UNREACHABLE)
    assert [listener.calls for listener in down.listeners] == [[], [], []]


def test_retry_after_is_honoured_while_the_breaker_is_not_closed(half_open):
    first, second, _ = half_open.outboxes
    first.put(message(1))
    half_open.answer_later(503, 7)
    second.put(message(1))
    half_open.answer(Failure.TIMED_OUT)
    # The first one waits for itself, the second one for its turn.
    assert len(half_open.breaker) == 1
    half_open.clock.advance(6.9)
    assert half_open.sent == ["PUT id1:1"]
    half_open.answer(Failure.TIMED_OUT)
    assert len(half_open.breaker) == 1
    half_open.clock.advance(0.2)
    assert len(half_open.breaker) + len(half_open.sent) == 2


def test_a_message_that_waits_for_a_backend_that_is_down_is_given_up_when_its_window_is_over(down):
    outbox, listener = down.outboxes[0], down.listeners[0]
    # There is no other probe, as the first one is never answered.
    down.outboxes[1].put(message(1))
    down.clock.advance(0.1)
    outbox.put(message(1))
    outbox.put(message(2))
    down.sweep(29.9)
    assert listener.calls == []
    down.sweep(0.1)
    assert listener.calls == [("undelivered", Reason.UNDELIVERED, "the backend cannot be reached")]
    # The next one has its own window.
    down.sweep(29.9)
    assert len(listener.calls) == 1
    down.sweep(0.1)
    assert len(listener.calls) == 2
    assert len(down.breaker) == 0


def test_the_window_runs_from_the_first_failure_on_while_queued():
    rig = SharedRig(api_retry="5000")
    rig.outboxes[0].put(message(1))
    rig.answer_later(503, 2)
    rig.clock.advance(2.0)
    rig.answer(Failure.UNREACHABLE)
    rig.clock.advance(0.1)
    assert rig.sent == ["PUT id0:1"]
    rig.sweep(2.85)
    assert rig.listeners[0].calls == []
    rig.clock.advance(0.1)
    rig.answer(Failure.TIMED_OUT)
    assert rig.listeners[0].calls == [
        ("undelivered", Reason.UNDELIVERED, "the backend did not answer in time, 2 times"),
    ]
    assert len(rig.breaker) == 0


def test_a_queued_retry_is_given_up_when_its_window_is_over(half_open):
    half_open.outboxes[0].put(message(1))
    half_open.answer(Failure.BROKEN)
    assert len(half_open.breaker) == 1
    # As if too many were queued before it.
    half_open.breaker._stop_timer()
    half_open.sweep(29.9)
    assert half_open.listeners[0].calls == []
    half_open.sweep(0.1)
    assert half_open.listeners[0].calls == [("undelivered", Reason.UNDELIVERED, "its requests failed, 1 time")]


# Events that were never attempted.


def test_a_message_is_untried_until_an_exchange_failed():
    rig = SharedRig()
    outbox = rig.outboxes[0]
    outbox.put(message(1))
    assert outbox.untried
    assert outbox.connection_id == "id0"
    for failure in (Failure.POOL_TIMEOUT, Failure.UNREACHABLE):
        rig.answer(failure)
        rig.clock.advance(0.1)
        assert outbox.untried
    rig.answer(Failure.BROKEN)
    assert not outbox.untried


def test_each_message_is_untried_at_first():
    rig = SharedRig()
    outbox = rig.outboxes[0]
    outbox.put(message(1))
    outbox.put(message(2))
    rig.answer(500)
    assert not outbox.untried
    rig.clock.advance(1.0)
    rig.answer(200)
    assert rig.sent == ["PUT id0:2"]
    assert outbox.untried


def test_an_untried_event_is_sent_at_once_while_others_fail(half_open):
    half_open.outboxes[0].put(message(1))
    assert half_open.sent == ["PUT id0:1"]
    half_open.outboxes[1].put(closed(1))
    assert half_open.sent == ["PUT id0:1", "DELETE id1:end"]
    half_open.outboxes[2].put(opened())
    assert half_open.sent[2] == "POST id2:0"


def test_an_untried_event_is_not_given_up_while_the_backend_can_be_connected_to():
    rig = SharedRig(count=MAX_TRIALS + 1, api_retry="1000").fail()
    for outbox in rig.outboxes:
        outbox.put(message(1))
    assert len(rig.sent) == MAX_TRIALS
    rig.breaker._stop_timer()
    for _ in range(100):
        rig.sweep(1.0)
    assert rig.listeners[-1].calls == []
    rig.answer(200)
    assert rig.sent[-1] == f"PUT id{MAX_TRIALS}:1"


def test_an_untried_event_is_given_up_when_the_backend_was_unreachable_for_its_retry_window():
    rig = SharedRig(api_retry="5000").fail()
    for outbox in rig.outboxes:
        outbox.put(message(1))
    rig.clock.advance(60.0)
    # It is unreachable from here on.
    for _ in range(3):
        rig.answer(Failure.UNREACHABLE)
    rig.clock.advance(0.1)
    rig.sweep(4.8)
    assert [listener.calls for listener in rig.listeners] == [[], [], []]
    rig.sweep(0.2)
    assert rig.listeners[1].calls == [("undelivered", Reason.UNDELIVERED, "the backend cannot be reached")]
    rig.answer(Failure.UNREACHABLE)
    assert rig.listeners[0].calls == [("undelivered", Reason.UNDELIVERED, "the backend cannot be reached")]


def test_a_window_starts_with_the_first_failure_not_with_the_wait_before(down):
    down.outboxes[0].put(message(1))
    down.sweep(29.9)
    assert down.sent == ["PUT id0:1"]
    down.answer(Failure.BROKEN)
    assert down.breaker.state is circuit_breaker.HALF_OPEN
    down.clock.advance(0.1)
    down.sweep(29.5)
    down.answer(200)
    assert down.listeners[0].calls == []


def test_an_event_that_found_no_connection_in_time_is_retried_and_not_given_up():
    rig = SharedRig(api_retry="1000")
    rig.outboxes[0].put(message(1))
    for _ in range(100):
        rig.answer(Failure.POOL_TIMEOUT)
        assert len(rig.clock.timers) == 1
        rig.clock.advance(1.0)
        assert rig.sent == ["PUT id0:1"]
    assert rig.listeners[0].calls == []


def test_a_closed_that_is_given_up_in_the_queue_fails_with_a_reason(down):
    down.outboxes[1].put(message(1))
    down.clock.advance(0.1)
    down.outboxes[0].put(closed())
    assert down.listeners[0].calls.pop() == "delayed"
    down.sweep(299.9)
    assert down.listeners[0].calls == []
    down.sweep(0.1)
    assert down.listeners[0].calls == [("failed", "the backend cannot be reached")]


def test_an_abandoned_delivery_is_skipped_for_the_next_one(down):
    first, second, third = down.outboxes
    for outbox in down.outboxes:
        outbox.put(message(1))
    first.abandon()
    down.clock.advance(0.1)
    assert down.sent == ["PUT id1:1"]
    third.abandon()
    down.sweep(0.0)
    assert len(down.breaker) == 0
    assert down.listeners[2].calls == []
    assert second.abandon() == [message(1)]


def test_the_late_answer_to_an_abandoned_event_reaches_the_circuit_breaker(down):
    first, second, third = down.outboxes
    for outbox in down.outboxes:
        outbox.put(message(1))
    down.clock.advance(0.1)
    first.abandon()
    down.answer(200)
    assert down.sent == ["PUT id1:1", "PUT id2:1"]
    assert down.listeners[0].calls == []
    assert (second.level, third.level) == (0, 0)


class OutboxMachine(RuleBasedStateMachine):
    """Compares an outbox with a plain queue, for any events and any answers of the backend."""

    @initialize()
    def start(self):
        self.rig = Rig(inbox=3000)
        self.outbox = self.rig.outbox
        self.webhook = self.rig.webhook
        self.number = 0
        self.ended = False
        self.held = False
        self.current = None
        self.queue = []
        self.delivered = []
        self.discards_when_undelivered = False
        self.abandoned = False
        self.rig.listener.on_undelivered = self.undelivered
        self.put(opened())

    def put(self, event):
        if self.abandoned or self.current == "settled":
            pass
        elif self.current is None and not self.held:
            self.begin(event)
        else:
            self.queue.append(event)
        self.outbox.put(event)

    def begin(self, event):
        self.current = event
        self.delivered.append(event)

    def go_on(self):
        self.current = None
        if self.queue and not self.held:
            self.begin(self.queue.pop(0))

    def undelivered(self):
        if self.discards_when_undelivered:
            self.drop()
            self.outbox.discard_messages()

    def drop(self):
        self.queue = [event for event in self.queue if isinstance(event, Closed)]

    def answer(self, verdict):
        if not isinstance(self.webhook.pending, Closed):
            is_over = self.current
            self.webhook.answer(verdict)
            assert self.current is is_over
            self.go_on()
        else:
            self.webhook.answer(verdict)
            self.current = "settled"

    @precondition(lambda self: self.number > 2 and not self.abandoned)
    @rule()
    def it_is_abandoned(self):
        current = [] if self.current in (None, "settled") else [self.current]
        assert self.outbox.abandon() == current + self.queue
        self.abandoned = True
        self.current = None
        self.queue = []
        self.known_calls = list(self.rig.calls)

    @precondition(lambda self: self.abandoned)
    @rule(verdict=st.sampled_from([DELIVERED, ADMITTED, AGAIN, Undeliverable("no", Reason.UNDELIVERED)]))
    def a_late_verdict_comes(self, verdict):
        if self.webhook.calls:
            self.webhook.answer(verdict)

    @precondition(lambda self: self.abandoned)
    @rule()
    def whoever_sends_tries_to(self):
        self.outbox.skip_delay()
        assert not self.outbox.attempt()
        assert self.outbox.give_up_overdue(self.rig.clock.now() + 1000.0)

    @precondition(lambda self: not self.ended)
    @rule(size=st.sampled_from([0, 1, 100, 1000, 5000]))
    def a_message_comes(self, size):
        self.number += 1
        self.put(message(self.number, size))

    @precondition(lambda self: not self.ended and self.number > 3)
    @rule()
    def the_end_comes(self):
        self.ended = True
        self.put(closed(self.number + 1))

    @precondition(lambda self: self.webhook.calls and not self.abandoned)
    @rule(reply=st.booleans())
    def the_backend_takes_it(self, reply):
        if isinstance(self.webhook.pending, Opened):
            self.answer(ADMITTED)
        else:
            reply = reply and isinstance(self.webhook.pending, Message)
            self.answer(Delivered(REPLY) if reply else DELIVERED)

    @precondition(lambda self: self.webhook.calls and isinstance(self.webhook.pending, Message) and not self.abandoned)
    @rule(discards=st.booleans())
    def the_backend_refuses_it(self, discards):
        self.discards_when_undelivered = discards
        self.answer(Undeliverable("no", Reason.UNDELIVERED))

    @precondition(
        lambda self: self.webhook.calls and not isinstance(self.webhook.pending, Opened) and not self.abandoned
    )
    @rule(after=st.sampled_from([0.0, 0.0, 1.0, 20.0, 1000.0]))
    def the_backend_is_not_ready(self, after):
        known = len(self.rig.calls)
        self.discards_when_undelivered = False
        event = self.webhook.answer(Retry("not ready", after))
        ends = [call[0] for call in self.rig.calls[known:] if call[0] in ("undelivered", "failed")]
        if ends == ["undelivered"]:
            self.go_on()
        elif ends == ["failed"]:
            self.current = "settled"
        else:
            assert ends == []
            assert len(self.rig.clock.timers) == 1
        assert not ends or isinstance(event, Closed) == (ends == ["failed"])

    @precondition(lambda self: self.rig.clock.timers)
    @rule()
    def the_pause_is_over(self):
        (timer,) = self.rig.clock.timers
        pause = timer.at - self.rig.clock.now()
        assert 0 <= pause <= (300.001 if isinstance(self.current, Closed) else 30.001)
        self.rig.clock.advance(pause)

    @rule()
    def the_outbox_is_held(self):
        self.held = True
        self.outbox.hold()

    @rule()
    def the_outbox_is_released(self):
        if self.held:
            self.held = False
            if self.current is None:
                self.go_on()
        self.outbox.release()

    @rule()
    def the_messages_are_discarded(self):
        waiting = len(self.queue)
        self.drop()
        assert self.outbox.discard_messages() == waiting - len(self.queue)

    @invariant()
    def what_has_to_be_delivered_is_delivered(self):
        assert self.webhook.events == self.delivered
        numbers = [event.number for event in self.delivered if not isinstance(event, Closed)]
        assert numbers == sorted(set(numbers))
        assert not any(isinstance(event, Closed) for event in self.delivered[:-1])

    @invariant()
    def what_waits_is_counted(self):
        counters, inbox = self.webhook.counters, self.outbox._inbox
        assert counters.backlog == self.outbox.level
        assert counters.paused == (inbox is not None and inbox.pressure.paused)

    @invariant()
    def an_abandoned_outbox_tells_nothing(self):
        if self.abandoned:
            assert self.rig.calls == self.known_calls
            assert self.rig.clock.timers == []
            assert self.outbox.level == 0
            assert self.outbox.state in (State.DONE, State.ABANDONED)

    @invariant()
    def the_state_is_that_of_the_current_event(self):
        state = self.outbox.state
        if self.abandoned:
            return
        if self.webhook.calls:
            assert state is State.DELIVERING
        elif self.rig.clock.timers:
            assert state in (State.BACKING_OFF, State.DELAYED)
        else:
            assert state is (State.IDLE if self.current is None else State.DONE)

    @invariant()
    def at_most_one_is_on_its_way(self):
        if self.abandoned:
            return
        on_their_way = len(self.webhook.calls) + len(self.rig.clock.timers)
        assert on_their_way == (self.current is not None and self.current != "settled")

    @invariant()
    def pauses_and_resumes_alternate_and_follow_the_level(self):
        if self.abandoned:
            return
        level = sum(MESSAGE_OVERHEAD + len(event.data) for event in self.queue if isinstance(event, Message))
        assert self.outbox.level == level
        calls = [call for call in self.rig.calls if call in ("pause", "resume")]
        assert calls == (["pause", "resume"] * len(calls))[: len(calls)]
        paused = len(calls) % 2 == 1
        assert paused or level <= 3000
        assert not paused or level > 1500
        assert self.outbox.backlogged == (paused and self.current is not None)

    def teardown(self):
        if not hasattr(self, "rig"):
            return
        if self.abandoned:
            sent = self.webhook.tries
            self.put(closed())
            self.outbox.release()
            self.rig.clock.advance(1000.0)
            assert self.webhook.tries == sent
            return
        if not self.ended:
            self.the_end_comes()
        self.the_outbox_is_released()
        while self.current != "settled":
            if self.rig.clock.timers:
                self.the_pause_is_over()
            self.the_backend_takes_it(reply=False)
            self.what_has_to_be_delivered_is_delivered()
            self.pauses_and_resumes_alternate_and_follow_the_level()
        assert isinstance(self.webhook.events[-1], Closed)
        assert self.queue == []


OutboxMachine.TestCase.settings = settings(deadline=None, max_examples=150, stateful_step_count=40)
TestOutboxMachine = OutboxMachine.TestCase
