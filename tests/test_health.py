import pytest
from fakes import FakeClock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wsaas.health import FIRST_PAUSE, LONGEST_PAUSE, PATIENCE, Health
from wsaas.pool import Failure
from wsaas.responses import Response

OK = Response(200, {})
FAULTS = [Failure.BROKEN, Failure.GARBLED, Failure.TIMED_OUT, Response(500, {}), Response(503, {}), Response(599, {})]
ANSWERS = [Response(status, {}) for status in (200, 204, 302, 400, 404, 408, 429, 499)]


class FakeWaiter:
    """Who counts its attempts. `left`: whether it has anything to try; `until`: when it waits in vain."""

    def __init__(self, rig, name):
        self.rig = rig
        self.name = name
        self.left = True
        self.until = float("inf")

    def attempt(self):
        if self.left:
            self.rig.attempts.append(self.name)
        return self.left

    def overdue(self, now):
        self.rig.asked.append(self.name)
        return now >= self.until


class Rig:
    def __init__(self):
        self.clock = FakeClock()
        self.attempts = []
        self.asked = []
        self.downs = 0
        self.on_down = lambda: None
        self.health = Health(self.clock, self.went_down)
        self.stranger = FakeWaiter(self, "stranger")

    def went_down(self):
        self.downs += 1
        assert self.health.is_down
        self.on_down()

    def waiter(self, name):
        return FakeWaiter(self, name)

    def observe(self, outcome, waiter=None):
        self.health.observe(waiter or self.stranger, outcome)

    def fall(self):
        self.observe(Failure.UNREACHABLE)
        assert self.health.is_down
        return self

    def line_up(self, count):
        waiters = [self.waiter(str(number)) for number in range(count)]
        for waiter in waiters:
            self.health.wait(waiter)
        return waiters

    def take(self):
        """Return who attempted since the last time."""
        attempts, self.attempts = self.attempts, []
        return attempts


@pytest.fixture
def rig():
    return Rig()


# Up and down.


def test_a_backend_is_there_until_it_shows_otherwise(rig):
    assert not rig.health.is_down
    assert len(rig.health) == 0
    assert rig.clock.timers == []
    assert rig.downs == 0


def test_one_refused_connection_is_enough(rig):
    rig.observe(Failure.UNREACHABLE)
    assert rig.health.is_down
    assert rig.downs == 1


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_sixteen_failures_in_a_row_are_enough_and_fifteen_are_not(rig, fault):
    assert PATIENCE == 16
    for _ in range(15):
        rig.observe(fault)
        assert not rig.health.is_down
    rig.observe(fault)
    assert rig.health.is_down
    assert rig.downs == 1


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: str(answer.status))
def test_any_answer_but_a_server_error_ends_the_row(rig, answer):
    for _ in range(3):
        for _ in range(15):
            rig.observe(Failure.BROKEN)
        rig.observe(answer)
    assert not rig.health.is_down
    assert rig.downs == 0


def test_having_no_connection_free_says_nothing_of_the_backend(rig):
    for _ in range(100):
        rig.observe(Failure.CROWDED)
    assert not rig.health.is_down
    for _ in range(15):
        rig.observe(Failure.BROKEN)
        rig.observe(Failure.CROWDED)
    assert not rig.health.is_down
    rig.observe(Failure.BROKEN)
    assert rig.health.is_down


def test_each_failure_is_known(rig):
    for failure in Failure:
        rig.observe(failure)
    assert rig.health.is_down


def test_going_down_is_told_once_until_it_was_up_again(rig):
    rig.fall()
    for _ in range(40):
        rig.observe(Failure.UNREACHABLE)
    assert rig.downs == 1
    rig.observe(OK)
    assert not rig.health.is_down
    rig.fall()
    assert rig.downs == 2


def test_an_answer_starts_the_count_anew(rig):
    rig.fall().observe(OK)
    for _ in range(15):
        rig.observe(Failure.TIMED_OUT)
    assert not rig.health.is_down


def test_down_and_up_are_logged_with_how_many_wait(rig, caplog):
    caplog.set_level("INFO", "wsaas")
    rig.fall().line_up(3)
    rig.observe(OK)
    assert caplog.messages == ["the backend is down: requests wait", "the backend answers again: 3 wait"]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_who_is_turned_away_when_it_goes_down_may_line_up_at_once(rig):
    waiter = rig.waiter("turned away")

    def turn_away():
        rig.health.observe(waiter, Failure.CROWDED)
        rig.health.wait(waiter)

    rig.on_down = turn_away
    rig.fall()
    assert (rig.downs, len(rig.health)) == (1, 1)
    rig.clock.advance(FIRST_PAUSE)
    assert rig.take() == ["turned away"]


# Probes.


def test_while_nobody_waits_nothing_is_tried(rig):
    rig.fall()
    assert rig.clock.timers == []


def test_the_one_that_waits_longest_tries_after_a_pause_and_the_others_wait_on(rig):
    rig.fall()
    rig.line_up(3)
    assert rig.take() == []
    rig.clock.advance(FIRST_PAUSE * 0.99)
    assert rig.take() == []
    rig.clock.advance(FIRST_PAUSE * 0.01)
    assert rig.take() == ["0"]
    assert len(rig.health) == 2
    rig.clock.advance(60.0)
    assert rig.take() == []


def test_the_pauses_between_probes_double_up_to_a_second(rig):
    rig.fall()
    waiters = rig.line_up(8)
    pauses = []
    for waiter in waiters:
        (timer,) = rig.clock.timers
        pauses.append(timer.at - rig.clock.now())
        rig.clock.advance(pauses[-1])
        assert rig.take() == [waiter.name]
        rig.observe(Failure.UNREACHABLE, waiter)
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0])
    assert (FIRST_PAUSE, LONGEST_PAUSE) == (0.1, 1.0)


@pytest.mark.parametrize("outcome", [*Failure, Response(503, {})], ids=str)
def test_a_probe_that_fails_in_whatever_way_is_followed_by_another(rig, outcome):
    rig.fall()
    first, _ = rig.line_up(2)
    rig.clock.advance(FIRST_PAUSE)
    rig.observe(outcome, first)
    assert rig.take() == ["0"]
    rig.clock.advance(2 * FIRST_PAUSE)
    assert rig.take() == ["1"]


def test_a_probe_that_lines_up_again_comes_behind_the_others(rig):
    rig.fall()
    first, second = rig.line_up(2)
    for waiter in (first, second, first, second):
        rig.clock.advance(LONGEST_PAUSE)
        assert rig.take() == [waiter.name]
        rig.observe(Failure.TIMED_OUT, waiter)
        rig.health.wait(waiter)


def test_the_failure_of_another_is_not_that_of_the_probe(rig):
    rig.fall()
    rig.line_up(3)
    rig.clock.advance(FIRST_PAUSE)
    for _ in range(5):
        rig.observe(Failure.UNREACHABLE)
    rig.clock.advance(60.0)
    assert rig.take() == ["0"]


def test_who_has_nothing_left_to_try_lets_the_next_one_try(rig):
    rig.fall()
    gone, also_gone, _, _ = rig.line_up(4)
    gone.left = also_gone.left = False
    rig.clock.advance(FIRST_PAUSE)
    assert rig.take() == ["2"]
    assert len(rig.health) == 1


def test_where_nobody_has_anything_left_to_try_the_next_one_to_line_up_does(rig):
    rig.fall()
    (gone,) = rig.line_up(1)
    gone.left = False
    rig.clock.advance(FIRST_PAUSE)
    assert rig.take() == []
    assert rig.clock.timers == []
    rig.health.wait(rig.waiter("late"))
    rig.clock.advance(FIRST_PAUSE)
    assert rig.take() == ["late"]


def test_each_time_it_goes_down_the_pauses_are_short_again(rig):
    rig.fall()
    waiters = rig.line_up(5)
    for waiter in waiters:
        rig.clock.advance(LONGEST_PAUSE)
        rig.observe(Failure.UNREACHABLE, waiter)
    rig.observe(OK)
    rig.take()
    rig.fall().health.wait(rig.waiter("next"))
    rig.clock.advance(FIRST_PAUSE)
    assert rig.take() == ["next"]


def test_a_probe_that_is_due_when_the_backend_is_up_again_is_not_sent(rig):
    rig.fall()
    rig.line_up(5)
    rig.observe(OK)
    assert rig.take() == ["0", "1"]
    rig.clock.advance(60.0)
    assert rig.take() == []
    assert len(rig.health) == 3


# Up again.


def test_each_answer_lets_two_follow_and_each_failure_one(rig):
    rig.fall()
    rig.line_up(9)
    rig.clock.advance(FIRST_PAUSE)
    assert rig.take() == ["0"]
    rig.observe(OK)
    assert rig.take() == ["1", "2"]
    rig.observe(Failure.BROKEN)
    assert rig.take() == ["3"]
    rig.observe(Failure.CROWDED)
    assert rig.take() == ["4"]
    rig.observe(Response(404, {}))
    assert rig.take() == ["5", "6"]
    rig.observe(Response(500, {}))
    assert rig.take() == ["7"]
    rig.observe(OK)
    assert rig.take() == ["8"]
    assert len(rig.health) == 0
    rig.observe(OK)
    assert rig.take() == []


def test_who_has_nothing_left_to_try_takes_no_turn(rig):
    rig.fall()
    waiters = rig.line_up(6)
    for number in (0, 2, 4):
        waiters[number].left = False
    rig.observe(OK)
    assert rig.take() == ["1", "3"]


def test_the_answer_of_anybody_says_that_the_backend_is_there(rig):
    rig.fall()
    rig.line_up(2)
    rig.clock.advance(FIRST_PAUSE)
    rig.observe(OK)
    assert not rig.health.is_down
    assert rig.take() == ["0", "1"]


def test_a_probe_from_before_is_none_any_more_once_the_backend_was_up(rig):
    rig.fall()
    (probe,) = rig.line_up(1)
    rig.clock.advance(FIRST_PAUSE)
    # Somebody else is answered; the probe fails later, and has to wait when the backend is down once more.
    rig.observe(OK)
    rig.observe(Failure.BROKEN, probe)
    rig.fall().health.wait(probe)
    rig.take()
    rig.clock.advance(FIRST_PAUSE)
    assert rig.take() == ["0"]


def test_a_probe_that_is_answered_late_does_not_keep_others_from_probing(rig):
    rig.fall()
    (probe,) = rig.line_up(1)
    rig.clock.advance(FIRST_PAUSE)
    rig.observe(OK)
    rig.observe(OK, probe)
    rig.fall().health.wait(rig.waiter("later"))
    rig.take()
    rig.clock.advance(FIRST_PAUSE)
    assert rig.take() == ["later"]


def test_a_line_that_is_left_when_the_backend_goes_down_again_goes_on_probing(rig):
    rig.fall()
    rig.line_up(4)
    rig.observe(OK)
    rig.clock.advance(60.0)
    assert rig.take() == ["0", "1"]
    # Who finds out that it is down again does not line up itself.
    rig.fall()
    rig.clock.advance(FIRST_PAUSE)
    assert rig.take() == ["2"]


# Those that wait in vain.


def test_a_sweep_lets_go_of_those_that_are_overdue_and_keeps_the_order_of_the_others(rig):
    rig.fall()
    waiters = rig.line_up(5)
    for number in (0, 2, 4):
        waiters[number].until = rig.clock.now() + 30.0
    rig.health.sweep(rig.clock.now() + 29.9)
    assert rig.asked == ["0", "1", "2", "3", "4"]
    assert len(rig.health) == 5
    rig.health.sweep(rig.clock.now() + 30.0)
    assert len(rig.health) == 2
    rig.observe(OK)
    assert rig.take() == ["1", "3"]


def test_who_lines_up_during_a_sweep_comes_behind_the_others(rig):
    rig.fall()
    late, patient = rig.line_up(2)

    def line_up_again(_now):
        rig.health.wait(rig.waiter("again"))
        return True

    late.overdue = line_up_again
    rig.health.sweep(rig.clock.now())
    rig.observe(OK)
    assert rig.take() == [patient.name, "again"]


def test_a_sweep_of_an_empty_line_does_nothing(rig):
    rig.fall().health.sweep(rig.clock.now())
    assert rig.asked == []
    assert len(rig.health) == 0


def test_after_everybody_was_let_go_the_next_one_probes(rig):
    rig.fall()
    (late,) = rig.line_up(1)
    late.until = 0.0
    rig.health.sweep(rig.clock.now())
    assert len(rig.health) == 0
    rig.clock.advance(FIRST_PAUSE)
    assert rig.take() == []
    rig.health.wait(rig.waiter("next"))
    rig.clock.advance(FIRST_PAUSE)
    assert rig.take() == ["next"]


class Client:
    """Tries until it was answered, as an outbox does: by itself while the backend is up, in line while it is down."""

    def __init__(self, machine, lines_up):
        self.machine = machine
        self.lines_up = lines_up
        self.is_waiting = self.is_done = False
        self.until = 0.0

    def start(self):
        if self.machine.health.is_down and self.lines_up:
            self.wait()
        else:
            self.machine.under_way.append(self)

    def wait(self):
        assert not self.is_waiting
        self.is_waiting = True
        self.until = self.machine.clock.now() + 30.0
        self.machine.health.wait(self)

    def attempt(self):
        assert self.is_waiting
        self.is_waiting = False
        if self.is_done:
            return False
        self.machine.under_way.append(self)
        self.machine.released.append(self)
        return True

    def overdue(self, now):
        if self.is_done or now >= self.until:
            self.is_waiting = False
            self.is_done = True
        return self.is_done

    def answered(self, outcome):
        self.machine.health.observe(self, outcome)
        if self.is_done:
            return
        if outcome is OK or not self.lines_up:
            self.is_done = True
        elif self.machine.health.is_down:
            self.wait()
        else:
            self.machine.retries.append(self)


class HealthMachine(RuleBasedStateMachine):
    """Clients that come, try, give up and leave, before a backend that comes and goes."""

    @initialize()
    def start(self):
        self.clock = FakeClock()
        self.downs = 0
        self.probe = None
        self.health = Health(self.clock, self.went_down)
        self.clients = []
        self.under_way = []
        self.released = []
        self.retries = []

    def went_down(self):
        self.downs += 1
        # What waits for a connection is turned away.
        turned_away, self.under_way = self.under_way[1::2], self.under_way[::2]
        for client in turned_away:
            client.answered(Failure.CROWDED)

    @rule(lines_up=st.sampled_from([True, True, True, False]))
    def somebody_comes(self, lines_up):
        client = Client(self, lines_up)
        self.clients.append(client)
        client.start()

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 100), outcome=st.sampled_from([OK, OK, *Failure, Response(503, {})]))
    def somebody_is_answered(self, which, outcome):
        was_down, downs = self.health.is_down, self.downs
        waiting = len(self.health)
        self.released.clear()
        client = self.under_way.pop(which % len(self.under_way))
        client.answered(outcome)
        if client is self.probe or not self.health.is_down:
            self.probe = None
        assert self.downs == downs + (self.health.is_down and not was_down)
        if outcome is OK:
            assert not self.health.is_down
            assert len(self.released) <= 2
            if not any(client.is_done for client in self.clients):
                assert len(self.released) == min(2, waiting)
        elif was_down:
            assert self.released == []
        else:
            assert len(self.released) <= 1

    @precondition(lambda self: self.retries)
    @rule()
    def somebody_tries_again(self):
        self.retries.pop(0).start()

    @precondition(lambda self: any(client.is_waiting for client in self.clients))
    @rule(which=st.integers(0, 100))
    def somebody_who_waits_is_abandoned(self, which):
        waiting = [client for client in self.clients if client.is_waiting]
        waiting[which % len(waiting)].is_done = True

    @precondition(lambda self: self.clock.timers)
    @rule()
    def the_pause_is_over(self):
        self.released.clear()
        was_down = self.health.is_down
        (timer,) = self.clock.timers
        assert 0 <= timer.at - self.clock.now() <= LONGEST_PAUSE
        self.clock.advance(timer.at - self.clock.now())
        assert len(self.released) <= (1 if was_down else 0)
        if self.released:
            assert self.probe is None
            self.probe = self.released[0]

    @rule(seconds=st.sampled_from([0.05, 10.0, 31.0]))
    def time_passes_without_a_timer(self, seconds):
        if not self.clock.timers:
            self.clock.advance(seconds)
        self.health.sweep(self.clock.now())
        assert all(client.until > self.clock.now() for client in self.clients if client.is_waiting)

    @invariant()
    def the_line_holds_those_that_wait(self):
        assert len(self.health) == sum(client.is_waiting for client in self.clients)

    @invariant()
    def the_line_never_stalls(self):
        if len(self.health) and self.health.is_down:
            assert self.clock.timers or self.probe in self.under_way
        elif len(self.health):
            # Any outcome lets at least one of them try.
            assert self.under_way

    @invariant()
    def at_most_one_timer_runs(self):
        assert len(self.clock.timers) <= 1

    def teardown(self):
        if not hasattr(self, "health"):
            return
        # Whoever is under way never ends: in the end the line is empty all the same, by the sweep.
        steps = 0
        while len(self.health):
            steps += 1
            assert steps < 10 * len(self.clients) + 10
            if self.under_way:
                self.under_way.pop(0).answered(OK)
            elif self.clock.timers:
                self.the_pause_is_over()
        assert not any(client.is_waiting for client in self.clients)


HealthMachine.TestCase.settings = settings(deadline=None, max_examples=200, stateful_step_count=50)
TestHealthMachine = HealthMachine.TestCase


# The end.


def test_once_stopped_nobody_tries_any_more(rig):
    rig.health.stop()
    rig.fall().line_up(2)
    rig.health.stop()
    rig.clock.advance(10 * LONGEST_PAUSE)
    assert rig.take() == []
    assert len(rig.health) == 0
