import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.fakes import FakeClock
from wsaas.delivery.circuit_breaker import (
    FAILURE_THRESHOLD,
    FIRST_PROBE_DELAY_S,
    MAX_PROBE_DELAY_S,
    MAX_TRIALS,
    NEXT_STATES,
    SUSTAINED_FAILURES,
    TRANSITIONS,
    TRIAL_SLOT_S,
    CircuitBreaker,
    Evidence,
    State,
)
from wsaas.delivery.pool import Failure
from wsaas.http.response import Response
from wsaas.log.throttle import throttle

OK = Response(200, {})
FAILED_EXCHANGES = [
    Failure.BROKEN,
    Failure.INVALID_RESPONSE,
    Failure.TIMED_OUT,
    Response(502, {}),
    Response(503, {}),
    Response(504, {}),
]
ANSWERS = [Response(status, {}) for status in (200, 204, 302, 400, 404, 408, 429, 499, 500, 501, 505, 599)]


class FakeDelivery:
    """Counts its attempts. `left`: whether there is anything to send; `until`: when it is overdue."""

    def __init__(self, rig, name):
        self.rig = rig
        self.connection_id = name
        self.untried = True
        self.left = True
        self.until = float("inf")

    def attempt(self):
        if self.left:
            self.rig.attempts.append(self.connection_id)
        return self.left

    def give_up_overdue(self, now):
        self.rig.asked.append(self.connection_id)
        return now >= self.until


class Rig:
    """A breaker between fakes. `calls`: what it did with the requests that wait for a connection."""

    def __init__(self):
        self.clock = FakeClock()
        self.attempts = []
        self.asked = []
        self.calls = []
        self.on_call = lambda: None
        self.breaker = CircuitBreaker(self.clock, self)
        self.count = 0

    def fail_waiting(self):
        assert self.breaker.state is State.OPEN
        self.calls.append("turn away")
        self.on_call()

    def fail_waiting_retries(self):
        assert self.breaker.state is State.HALF_OPEN
        self.calls.append("return retried")
        self.on_call()

    @property
    def state(self):
        return self.breaker.state

    def delivery(self, name):
        return FakeDelivery(self, name)

    def observe(self, outcome, delivery=None):
        """Report an outcome of `delivery`, or of a new connection."""
        if delivery is None:
            self.count += 1
            delivery = self.delivery(f"stranger {self.count}")
        self.breaker.observe(delivery, outcome)
        return self

    def open(self):
        self.observe(Failure.UNREACHABLE)
        assert self.state is State.OPEN
        return self

    def half_open(self, failures=FAILURE_THRESHOLD):
        for _ in range(failures):
            self.observe(Failure.BROKEN)
        assert self.state is State.HALF_OPEN
        return self

    def wait(self, count, prefix="", *, untried=True):
        deliveries = [self.delivery(f"{prefix}{number}") for number in range(count)]
        for delivery in deliveries:
            delivery.untried = untried
            self.breaker.wait(delivery)
        return deliveries

    def take(self):
        """Return the deliveries that were attempted since the last call."""
        attempts, self.attempts = self.attempts, []
        return attempts


@pytest.fixture
def rig():
    return Rig()


def test_only_this_evidence_changes_the_state():
    assert NEXT_STATES == {
        (State.CLOSED, Evidence.UNREACHABLE): State.OPEN,
        (State.CLOSED, Evidence.FAILURES): State.HALF_OPEN,
        (State.OPEN, Evidence.SUCCESS): State.CLOSED,
        (State.OPEN, Evidence.FAILED_PROBE): State.HALF_OPEN,
        (State.HALF_OPEN, Evidence.UNREACHABLE): State.OPEN,
        (State.HALF_OPEN, Evidence.SUCCESS): State.CLOSED,
    }


def test_every_transition_has_one_reason():
    assert {state: set(row) for state, row in TRANSITIONS.items()} == {
        State.CLOSED: {State.OPEN, State.HALF_OPEN},
        State.OPEN: {State.CLOSED, State.HALF_OPEN},
        State.HALF_OPEN: {State.OPEN, State.CLOSED},
    }
    assert sum(map(len, TRANSITIONS.values())) == len(NEXT_STATES)


# Evidence.


def test_a_new_breaker_is_closed(rig):
    assert rig.state is State.CLOSED
    assert len(rig.breaker) == 0
    assert rig.clock.timers == []
    assert rig.calls == []


def test_one_unreachable_backend_opens_the_breaker(rig):
    rig.observe(Failure.UNREACHABLE)
    assert rig.state is State.OPEN
    assert rig.calls == ["turn away"]


@pytest.mark.parametrize(
    "outcome", FAILED_EXCHANGES, ids=lambda outcome: getattr(outcome, "status", None) or outcome.name
)
def test_failures_of_sixteen_connections_but_not_of_fifteen_make_it_half_open(rig, outcome):
    assert FAILURE_THRESHOLD == 16
    for _ in range(15):
        rig.observe(outcome)
    assert rig.state is State.CLOSED
    assert rig.observe(outcome).state is State.HALF_OPEN
    assert rig.calls == ["return retried"]


def test_any_number_of_failures_of_fifteen_connections_leaves_it_closed(rig):
    deliveries = [rig.delivery(str(number)) for number in range(15)]
    for _ in range(10):
        for delivery in deliveries:
            rig.observe(Failure.TIMED_OUT, delivery)
    assert rig.state is State.CLOSED


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: str(answer.status))
def test_any_other_answer_is_a_success_and_ends_the_count(rig, answer):
    for _ in range(3):
        for _ in range(15):
            rig.observe(Failure.BROKEN)
        rig.observe(answer)
    assert rig.state is State.CLOSED
    rig.open().observe(answer)
    assert rig.state is State.CLOSED
    rig.half_open().observe(answer)
    assert rig.state is State.CLOSED


def test_a_request_that_was_not_sent_is_no_evidence(rig):
    for _ in range(100):
        rig.observe(Failure.POOL_TIMEOUT)
    assert rig.state is State.CLOSED
    for _ in range(15):
        rig.observe(Failure.BROKEN).observe(Failure.POOL_TIMEOUT)
    assert rig.state is State.CLOSED
    assert rig.observe(Failure.BROKEN).state is State.HALF_OPEN


def test_the_ids_of_failed_connections_that_are_kept_are_bounded(rig):
    rig.half_open(10 * SUSTAINED_FAILURES)
    assert len(rig.breaker._failed) == SUSTAINED_FAILURES


def test_unreachable_opens_a_half_open_breaker(rig):
    rig.half_open().observe(Failure.UNREACHABLE)
    assert rig.state is State.OPEN
    assert rig.calls == ["return retried", "turn away"]


def test_a_probe_that_was_sent_but_failed_makes_it_half_open(rig):
    (probe,) = rig.open().wait(1)
    rig.clock.advance(FIRST_PROBE_DELAY_S)
    rig.observe(Failure.TIMED_OUT, probe)
    assert rig.state is State.HALF_OPEN


def test_failures_of_requests_sent_before_it_opened_are_no_evidence(rig):
    rig.open()
    for _ in range(100):
        rig.observe(Failure.BROKEN)
    assert rig.state is State.OPEN
    # Nor do they count once it is half-open.
    (probe,) = rig.wait(1)
    rig.clock.advance(FIRST_PROBE_DELAY_S)
    rig.observe(Failure.TIMED_OUT, probe)
    assert len(rig.breaker._failed) == 1


def test_the_state_changes_once_for_any_number_of_outcomes_of_a_kind(rig):
    rig.open()
    for _ in range(40):
        rig.observe(Failure.UNREACHABLE)
    assert rig.calls == ["turn away"]
    rig.observe(OK).half_open(40)
    assert rig.calls == ["turn away", "return retried"]


def test_how_long_the_backend_was_unreachable(rig):
    assert rig.breaker.unreachable_for(rig.clock.now()) == 0
    rig.clock.advance(5.0)
    rig.open().clock.advance(3.0)
    rig.observe(Failure.UNREACHABLE)
    assert rig.breaker.unreachable_for(rig.clock.now()) == 3.0
    rig.observe(OK).half_open()
    assert rig.breaker.unreachable_for(rig.clock.now()) == 0
    rig.observe(Failure.UNREACHABLE)
    rig.clock.advance(1.0)
    assert rig.breaker.unreachable_for(rig.clock.now()) == 1.0


# The log.


def test_transitions_are_logged(rig, caplog):
    caplog.set_level("INFO", "wsaas")
    rig.open().wait(3)
    rig.clock.advance(0.09)
    rig.observe(OK)
    rig.half_open().observe(OK)
    assert caplog.messages == [
        "circuit breaker open: the backend cannot be reached; messages and DELETEs wait, handshakes get 503",
        "circuit breaker closed: the backend answers again after 0.1 s; deliveries still waiting: 3",
        "circuit breaker half-open: requests of many connections failed; failed deliveries are retried one at a time",
        "circuit breaker closed: the backend answers again after 0.0 s; deliveries still waiting: 0",
    ]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING", "INFO"]


def test_a_flapping_state_is_throttled_in_the_log(rig, caplog):
    caplog.set_level("INFO", "wsaas")
    for _ in range(10):
        rig.half_open().observe(OK)
    throttle.flush()
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "circuit breaker half-open",
        "circuit breaker closed",
    ] * 2
    assert all("(9 more in 1 s)" in message for message in caplog.messages[2:])


# OPEN: all deliveries queue, and one probe is sent at a time.


def test_without_deliveries_nothing_is_attempted(rig):
    rig.open()
    assert rig.clock.timers == []


def test_the_oldest_is_the_probe_and_the_others_wait_until_it_is_answered(rig):
    rig.open().wait(3)
    assert rig.take() == []
    rig.clock.advance(FIRST_PROBE_DELAY_S * 0.99)
    assert rig.take() == []
    rig.clock.advance(FIRST_PROBE_DELAY_S * 0.01)
    assert rig.take() == ["0"]
    assert len(rig.breaker) == 2
    rig.clock.advance(60.0)
    assert rig.take() == []


def test_the_delays_between_probes_double_up_to_a_second(rig):
    deliveries = rig.open().wait(8)
    pauses = []
    for delivery in deliveries:
        (timer,) = rig.clock.timers
        pauses.append(timer.at - rig.clock.now())
        rig.clock.advance(pauses[-1])
        assert rig.take() == [delivery.connection_id]
        rig.observe(Failure.UNREACHABLE, delivery)
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0])
    assert (FIRST_PROBE_DELAY_S, MAX_PROBE_DELAY_S) == (0.1, 1.0)


@pytest.mark.parametrize("outcome", [Failure.UNREACHABLE, Failure.POOL_TIMEOUT])
def test_a_probe_that_was_not_sent_is_followed_by_another(rig, outcome):
    first, _ = rig.open().wait(2)
    rig.clock.advance(FIRST_PROBE_DELAY_S)
    rig.observe(outcome, first)
    assert rig.state is State.OPEN
    assert rig.take() == ["0"]
    rig.clock.advance(2 * FIRST_PROBE_DELAY_S)
    assert rig.take() == ["1"]


def test_a_probe_that_queues_again_goes_behind_the_others(rig):
    first, second = rig.open().wait(2)
    for delivery in (first, second, first, second):
        rig.clock.advance(MAX_PROBE_DELAY_S)
        assert rig.take() == [delivery.connection_id]
        rig.observe(Failure.UNREACHABLE, delivery)
        rig.breaker.wait(delivery)


def test_an_untried_delivery_is_probed_first(rig):
    rig.open().wait(1, "retry ", untried=False)
    (new,) = rig.wait(1, "new ")
    rig.clock.advance(FIRST_PROBE_DELAY_S)
    assert rig.take() == ["new 0"]
    rig.observe(Failure.UNREACHABLE, new)
    rig.clock.advance(2 * FIRST_PROBE_DELAY_S)
    assert rig.take() == ["retry 0"]


def test_the_outcome_of_another_request_does_not_end_the_probe(rig):
    rig.open().wait(3)
    rig.clock.advance(FIRST_PROBE_DELAY_S)
    for _ in range(5):
        rig.observe(Failure.UNREACHABLE).observe(Failure.BROKEN).observe(Failure.POOL_TIMEOUT)
    rig.clock.advance(60.0)
    assert rig.take() == ["0"]


def test_a_delivery_with_nothing_to_send_lets_the_next_one_probe(rig):
    gone, also_gone, _, _ = rig.open().wait(4)
    gone.left = also_gone.left = False
    rig.clock.advance(FIRST_PROBE_DELAY_S)
    assert rig.take() == ["2"]
    assert len(rig.breaker) == 1


def test_without_anything_to_send_the_next_delivery_is_the_probe(rig):
    (gone,) = rig.open().wait(1)
    gone.left = False
    rig.clock.advance(FIRST_PROBE_DELAY_S)
    assert rig.take() == []
    assert rig.clock.timers == []
    rig.wait(1, "late ")
    rig.clock.advance(FIRST_PROBE_DELAY_S)
    assert rig.take() == ["late 0"]


def test_delays_are_short_again_each_time_it_opens(rig):
    for delivery in rig.open().wait(5):
        rig.clock.advance(MAX_PROBE_DELAY_S)
        rig.observe(Failure.UNREACHABLE, delivery)
    rig.observe(OK).take()
    rig.open().wait(1, "next ")
    rig.clock.advance(FIRST_PROBE_DELAY_S)
    assert rig.take() == ["next 0"]


def test_a_delivery_that_is_failed_when_it_opens_may_wait_at_once(rig):
    delivery = rig.delivery("turned away")

    def fail_waiting():
        rig.observe(Failure.POOL_TIMEOUT, delivery)
        rig.breaker.wait(delivery)

    rig.on_call = fail_waiting
    rig.open()
    assert (rig.calls, len(rig.breaker)) == (["turn away"], 1)
    rig.clock.advance(FIRST_PROBE_DELAY_S)
    assert rig.take() == ["turned away"]


def test_a_probe_from_before_it_closed_does_not_count_as_one(rig):
    (probe,) = rig.open().wait(1)
    rig.clock.advance(FIRST_PROBE_DELAY_S)
    # Another request succeeds; the probe fails later, and has to wait when the backend is unreachable once more.
    rig.observe(OK).observe(Failure.BROKEN, probe)
    rig.open().breaker.wait(probe)
    rig.take()
    rig.clock.advance(FIRST_PROBE_DELAY_S)
    assert rig.take() == ["0"]


# HALF_OPEN: retries queue, and a limited number of trials is sent at once.


def test_failed_deliveries_are_retried_one_at_a_time_at_the_rate_of_probes(rig):
    deliveries = rig.half_open().wait(6, untried=False)
    assert rig.take() == []
    pauses = []
    for delivery in deliveries:
        (timer,) = rig.clock.timers
        pauses.append(timer.at - rig.clock.now())
        rig.clock.advance(pauses[-1])
        assert rig.take() == [delivery.connection_id]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


def test_a_hung_retry_does_not_block_the_next(rig):
    rig.half_open().wait(3, untried=False)
    rig.clock.advance(0.7)
    assert rig.take() == ["0", "1", "2"]


def test_untried_deliveries_are_sent_at_once_while_few_are_under_way(rig):
    rig.half_open().wait(100, "retry ", untried=False)
    rig.wait(MAX_TRIALS)
    assert rig.take() == [str(number) for number in range(MAX_TRIALS)]
    rig.wait(2, "late ")
    assert rig.take() == []
    assert len(rig.breaker) == 102


def test_a_failed_trial_frees_its_slot_for_the_oldest_and_the_newest_in_turn(rig):
    rig.half_open()
    trials = rig.wait(MAX_TRIALS)
    rig.wait(6, "late ")
    rig.take()
    for trial, follows in zip(trials, [0, 5, 1, 4, 2, 3], strict=False):
        trial.untried = False
        rig.observe(Failure.BROKEN, trial)
        rig.breaker.wait(trial)
        assert rig.take() == [f"late {follows}"]
    assert rig.state is State.HALF_OPEN


def test_a_trial_that_was_not_sent_frees_its_slot(rig):
    trials = rig.half_open().wait(MAX_TRIALS)
    rig.wait(1, "late ")
    rig.take()
    rig.observe(Failure.POOL_TIMEOUT, trials[0])
    assert rig.take() == ["late 0"]


def test_hung_trials_occupy_their_slots_for_at_most_a_second(rig):
    rig.half_open().wait(MAX_TRIALS)
    rig.take()
    rig.clock.advance(TRIAL_SLOT_S * 0.99)
    rig.wait(1, "early ")
    assert rig.take() == []
    rig.clock.advance(TRIAL_SLOT_S * 0.01)
    rig.wait(1, "late ")
    assert rig.take() == ["late 0"]
    # The queued one follows at the next interval.
    rig.clock.advance(MAX_PROBE_DELAY_S)
    assert rig.take() == ["early 0"]


def test_untried_deliveries_are_sent_before_failed_ones_while_half_open(rig):
    rig.half_open().wait(1, "retry ", untried=False)
    for trial in rig.wait(MAX_TRIALS + 3):
        rig.observe(Failure.POOL_TIMEOUT, trial)
    assert rig.take() == ["0", "1", "2", "3", "4", "5", "6", "7", "8", "10", "9"]
    rig.clock.advance(FIRST_PROBE_DELAY_S)
    assert rig.take() == ["retry 0"]


def test_under_sustained_failures_slots_are_freed_only_by_time(rig):
    trials = rig.half_open(SUSTAINED_FAILURES).wait(MAX_TRIALS + 1)
    for trial in trials[:MAX_TRIALS]:
        rig.observe(Failure.BROKEN, trial)
    assert rig.take() == [str(number) for number in range(MAX_TRIALS)]
    assert len(rig.breaker) == 1


def test_under_sustained_failures_queued_deliveries_go_at_the_pace_of_retries(rig):
    rig.half_open(SUSTAINED_FAILURES).wait(MAX_TRIALS + 4)
    rig.wait(1, "retry ", untried=False)
    rig.take()
    rig.clock.advance(TRIAL_SLOT_S + 0.1)
    # Before the slots were free again, the retry was sent.
    assert rig.take() == ["retry 0"]
    for name in ("8", "11", "9", "10"):
        rig.clock.advance(MAX_PROBE_DELAY_S)
        assert rig.take() == [name]


def test_under_sustained_failures_new_deliveries_are_still_sent_at_once(rig):
    rig.half_open(SUSTAINED_FAILURES).wait(1000)
    rig.take()
    rig.clock.advance(TRIAL_SLOT_S)
    rig.take()
    rig.wait(1, "new ")
    assert rig.take() == ["new 0"]


def test_a_trial_with_nothing_to_send_occupies_no_slot(rig):
    rig.half_open()
    trials = rig.wait(MAX_TRIALS)
    gone, last = rig.wait(2, "late ")
    gone.left = False
    rig.take()
    rig.observe(Failure.BROKEN, trials[0])
    assert rig.take() == [last.connection_id]
    assert len(rig.breaker) == 0


def test_deliveries_that_queued_while_open_are_attempted_when_connecting_works(rig):
    rig.open().wait(5, "retry ", untried=False)
    probe, *_ = rig.wait(MAX_TRIALS + 2)
    rig.clock.advance(FIRST_PROBE_DELAY_S)
    rig.take()
    rig.observe(Failure.BROKEN, probe)
    assert len(rig.take()) == MAX_TRIALS
    assert len(rig.breaker) == 6


def test_deliveries_returned_when_it_becomes_half_open_are_tried_within_bounds(rig):
    waiting = [rig.delivery(str(number)) for number in range(20)]

    def fail_waiting_retries():
        for delivery in waiting:
            rig.observe(Failure.POOL_TIMEOUT, delivery)
            rig.breaker.wait(delivery)

    rig.on_call = fail_waiting_retries
    rig.half_open()
    assert rig.take() == [str(number) for number in range(MAX_TRIALS)]


# CLOSED again.


def test_each_success_lets_two_follow_and_any_other_outcome_one(rig):
    rig.open().wait(9)
    rig.clock.advance(FIRST_PROBE_DELAY_S)
    assert rig.take() == ["0"]
    rig.observe(OK)
    assert rig.take() == ["1", "2"]
    rig.observe(Failure.BROKEN)
    assert rig.take() == ["3"]
    rig.observe(Failure.POOL_TIMEOUT)
    assert rig.take() == ["4"]
    rig.observe(Response(404, {}))
    assert rig.take() == ["5", "6"]
    rig.observe(Response(503, {}))
    assert rig.take() == ["7"]
    rig.observe(Response(500, {}))
    assert rig.take() == ["8"]
    assert len(rig.breaker) == 0
    rig.observe(OK)
    assert rig.take() == []


def test_untried_deliveries_follow_before_failed_ones(rig):
    rig.open().wait(2, "retry ", untried=False)
    rig.wait(3, "new ")
    rig.observe(OK).observe(OK).observe(OK)
    assert rig.take() == ["new 0", "new 1", "new 2", "retry 0", "retry 1"]


def test_a_delivery_with_nothing_to_send_takes_no_turn(rig):
    deliveries = rig.open().wait(6)
    for number in (0, 2, 4):
        deliveries[number].left = False
    rig.observe(OK)
    assert rig.take() == ["1", "3"]


def test_no_timer_tries_deliveries_once_it_is_closed(rig):
    rig.open().wait(5)
    rig.observe(OK)
    assert rig.take() == ["0", "1"]
    rig.clock.advance(60.0)
    assert rig.take() == []
    assert len(rig.breaker) == 3


@pytest.mark.parametrize("again", [Rig.open, Rig.half_open])
def test_deliveries_that_wait_when_it_opens_again_are_probed(rig, again):
    rig.open().wait(40, untried=False)
    rig.observe(OK)
    before = len(rig.take())
    again(rig)
    before += len(rig.take())
    rig.clock.advance(FIRST_PROBE_DELAY_S)
    assert rig.take() == [str(before)]


# Overdue deliveries.


def test_a_sweep_drops_overdue_deliveries_and_keeps_the_order_of_the_others(rig):
    deliveries = rig.open().wait(5)
    deliveries += rig.wait(1, "retry ", untried=False)
    for number in (0, 2, 4, 5):
        deliveries[number].until = rig.clock.now() + 30.0
    rig.breaker.sweep(rig.clock.now() + 29.9)
    assert rig.asked == ["0", "1", "2", "3", "4", "retry 0"]
    assert len(rig.breaker) == 6
    rig.breaker.sweep(rig.clock.now() + 30.0)
    assert len(rig.breaker) == 2
    rig.observe(OK)
    assert rig.take() == ["1", "3"]


def test_a_delivery_that_queues_during_a_sweep_goes_behind_the_others(rig):
    late, patient = rig.open().wait(2)

    def wait_again(_now):
        rig.wait(1, "again ")
        return True

    late.give_up_overdue = wait_again
    rig.breaker.sweep(rig.clock.now())
    rig.observe(OK)
    assert rig.take() == [patient.connection_id, "again 0"]


def test_after_all_were_dropped_the_next_one_probes(rig):
    (late,) = rig.open().wait(1)
    late.until = 0.0
    rig.breaker.sweep(rig.clock.now())
    assert len(rig.breaker) == 0
    rig.clock.advance(FIRST_PROBE_DELAY_S)
    assert rig.take() == []
    rig.wait(1, "next ")
    rig.clock.advance(FIRST_PROBE_DELAY_S)
    assert rig.take() == ["next 0"]


def test_after_a_stop_nothing_is_attempted(rig):
    rig.breaker.stop()
    rig.open().wait(2)
    rig.breaker.stop()
    rig.clock.advance(10 * MAX_PROBE_DELAY_S)
    assert rig.take() == []
    assert len(rig.breaker) == 0


class Client:
    """Retries until it is answered, as an outbox does: by itself while the breaker is closed, else when attempted."""

    def __init__(self, machine, name, is_post):
        self.machine = machine
        self.connection_id = name
        self.is_post = is_post
        self.untried = True
        self.is_waiting = self.is_under_way = self.is_done = False
        self.until = 0.0

    def start(self):
        if self.machine.breaker.state is State.CLOSED or self.is_post:
            self.send()
        else:
            self.wait()

    def send(self):
        assert not self.is_under_way
        self.is_under_way = True
        self.machine.under_way.append(self)

    def wait(self):
        assert not self.is_waiting
        self.is_waiting = True
        self.until = self.machine.clock.now() + 30.0
        self.machine.breaker.wait(self)

    def attempt(self):
        assert self.is_waiting
        self.is_waiting = False
        if self.is_done:
            return False
        self.machine.sent(self)
        self.send()
        return True

    def give_up_overdue(self, now):
        if not self.is_done and now >= self.until:
            spent = not self.untried or self.machine.breaker.unreachable_for(now) >= 30.0
            self.is_done = spent
        if self.is_done:
            self.is_waiting = False
        return self.is_done

    def answered(self, outcome):
        self.is_under_way = False
        self.machine.breaker.observe(self, outcome)
        if self.is_done:
            return
        if outcome is OK or self.is_post:
            self.is_done = True
            return
        if outcome not in (Failure.UNREACHABLE, Failure.POOL_TIMEOUT):
            self.untried = False
        if self.machine.breaker.state is State.CLOSED:
            self.machine.retries.append(self)
        else:
            self.wait()


class BreakerMachine(RuleBasedStateMachine):
    """Clients that connect, retry, give up and disconnect, and a backend that starts, stops and fails."""

    @initialize()
    def start(self):
        self.clock = FakeClock()
        self.breaker = CircuitBreaker(self.clock, self)
        self.clients = []
        self.under_way = []
        self.retries = []
        self.released = []
        self.probe = None
        self.trials = []

    def fail_waiting(self):
        self.take_back(self.under_way[1::2])

    def fail_waiting_retries(self):
        self.take_back([client for client in self.under_way[1::2] if not client.is_post])

    def take_back(self, clients):
        """Fail the requests of `clients`. (Here every other request waits for a connection.)"""
        for client in clients:
            self.under_way.remove(client)
        for client in clients:
            client.answered(Failure.POOL_TIMEOUT)

    def sent(self, client):
        """Record an attempt that the breaker made."""
        now = self.clock.now()
        self.released.append(client)
        if self.breaker.state is State.OPEN:
            assert self.probe is None or self.probe not in self.under_way
            self.probe = client
        if len(self.breaker._failed) < SUSTAINED_FAILURES:
            # Up to then, an answer frees the slot of its trial.
            self.trials.clear()
        elif client.untried:
            self.trials.append(now)
            assert sum(now < at + TRIAL_SLOT_S for at in self.trials) <= MAX_TRIALS

    @rule(is_post=st.sampled_from([False, False, False, True]), count=st.sampled_from([1, 1, 5, 20]))
    def clients_come(self, is_post, count):
        for _ in range(count):
            client = Client(self, str(len(self.clients)), is_post)
            self.clients.append(client)
            client.start()

    @precondition(lambda self: self.under_way)
    @rule(
        which=st.integers(0, 100),
        outcome=st.sampled_from([OK, *Failure, Response(503, {})]),
        count=st.sampled_from([1, 1, 5, 20]),
    )
    def some_are_answered(self, which, outcome, count):
        for _ in range(count):
            if not self.under_way:
                break
            waiting, state = len(self.breaker), self.breaker.state
            abandoned = any(client.is_done and client.is_waiting for client in self.clients)
            self.released.clear()
            client = self.under_way.pop(which % len(self.under_way))
            client.answered(outcome)
            if outcome is OK:
                assert self.breaker.state is State.CLOSED
                assert len(self.released) <= 2
                if not abandoned:
                    assert len(self.released) == min(2, waiting)
            elif outcome is Failure.UNREACHABLE:
                assert self.breaker.state is State.OPEN
            elif state is State.CLOSED and self.breaker.state is State.CLOSED:
                assert len(self.released) <= 1
            elif self.breaker.state is State.OPEN:
                assert state is State.OPEN
            if self.breaker.state is not State.OPEN:
                self.probe = None
            if self.breaker.state is State.CLOSED:
                self.trials.clear()

    @precondition(lambda self: self.retries)
    @rule()
    def a_retry_is_due(self):
        self.retries.pop(0).start()

    @precondition(lambda self: any(client.is_waiting for client in self.clients))
    @rule(which=st.integers(0, 100))
    def one_that_waits_is_abandoned(self, which):
        waiting = [client for client in self.clients if client.is_waiting]
        waiting[which % len(waiting)].is_done = True

    @precondition(lambda self: self.clock.timers)
    @rule()
    def the_pause_is_over(self):
        self.released.clear()
        assert self.breaker.state is not State.CLOSED
        (timer,) = self.clock.timers
        assert 0 <= timer.at - self.clock.now() <= MAX_PROBE_DELAY_S
        self.clock.advance(timer.at - self.clock.now())
        retried = [client for client in self.released if not client.untried]
        assert len(retried) <= 1
        if self.breaker.state is State.OPEN or len(self.breaker._failed) >= SUSTAINED_FAILURES:
            assert len(self.released) <= 1

    @rule(seconds=st.sampled_from([0.05, 0.5, 10.0, 31.0]))
    def time_passes(self, seconds):
        self.clock.advance(seconds)
        self.breaker.sweep(self.clock.now())
        for client in self.clients:
            if client.is_waiting and self.breaker.state is not State.OPEN:
                assert client.untried or client.until > self.clock.now()

    @invariant()
    def nothing_is_lost_and_nothing_is_tried_twice_at_once(self):
        assert len(self.breaker) == sum(client.is_waiting for client in self.clients)
        for client in self.clients:
            places = client.is_waiting + client.is_under_way + (client in self.retries)
            assert places <= 1
            assert places == 1 or client.is_done
        assert len(self.under_way) == len(set(self.under_way))

    @invariant()
    def what_waits_never_stalls(self):
        if not len(self.breaker):
            return
        if self.breaker.state is State.CLOSED:
            # After any outcome, at least one of them follows.
            assert self.under_way
        elif self.breaker.state is State.OPEN:
            assert self.clock.timers or self.probe in self.under_way
        else:
            assert self.clock.timers

    @invariant()
    def at_most_one_timer_runs(self):
        assert len(self.clock.timers) <= 1
        assert not (self.clock.timers and self.breaker.state is State.CLOSED)

    @invariant()
    def a_failure_is_remembered_while_it_is_not_closed(self):
        assert self.breaker._failed or self.breaker.state is State.CLOSED

    @invariant()
    def what_is_kept_is_bounded(self):
        assert len(self.breaker._failed) <= SUSTAINED_FAILURES
        assert len(self.breaker._trials) <= MAX_TRIALS

    def teardown(self):
        if not hasattr(self, "breaker"):
            return
        # After a success everything that is queued is sent, as each answer lets others follow.
        steps = 0
        while len(self.breaker):
            steps += 1
            assert steps < 10 * len(self.clients) + 10
            if self.under_way:
                self.under_way.pop(0).answered(OK)
            else:
                self.the_pause_is_over()
        assert not any(client.is_waiting for client in self.clients)


BreakerMachine.TestCase.settings = settings(deadline=None, max_examples=200, stateful_step_count=50)
TestBreakerMachine = BreakerMachine.TestCase
