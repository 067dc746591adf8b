import math
from dataclasses import fields

import pytest

from tests.support.fakes import FakeClock, make_settings
from wsaas.clock import GRACE_S
from wsaas.settings import Settings
from wsaas.transport.timeouts import BATCH_GAP_S, BATCH_SIZE, SPREAD_SHARE, HasDeadline, Timeouts, check_interval


class Connection(HasDeadline):
    """Records the times of its checks, and calls `on_check` with each."""

    def __init__(self, on_check=lambda _now: None):
        self.checks = []
        self.closed = False
        self._on_check = on_check

    def check_deadline(self, now):
        self.checks.append(now)
        self._on_check(now)

    def close_gracefully(self):
        self.closed = True


@pytest.fixture
def clock():
    return FakeClock()


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ({}, 1.0),
        ({"ws_timeout": "1000"}, 0.1),
        ({"handshake_timeout": "2000"}, 0.2),
        ({"keep_alive_timeout": "3000"}, 0.3),
        ({"api_timeout": "4000"}, 0.4),
        ({"api_connection_age": "5000"}, 0.5),
        ({"api_connection_age": "0"}, 1.0),
        ({"api_timeout": "4000", "ws_timeout": "0"}, 0.4),
        ({"api_timeout": "90000", "ws_timeout": "0", "handshake_timeout": "90000"}, 1.0),
        ({"ws_timeout": "1", "api_timeout": "4000"}, 0.01),
    ],
)
def test_the_interval_is_a_tenth_of_the_shortest_timeout_within_bounds(values, seconds):
    assert check_interval(make_settings(**values)) == pytest.approx(seconds)


TIMES = [setting.name for setting in fields(Settings) if "number of milliseconds" in setting.metadata["kind"].accepts]
HAVE_THEIR_OWN_TIMERS = {"api_retry", "cluster_lease", "drain_timeout"}


@pytest.mark.parametrize("name", TIMES)
def test_each_timeout_without_a_timer_of_its_own_determines_the_interval(name):
    values = dict.fromkeys(TIMES, "100000") | {name: "1000"}
    assert check_interval(make_settings(**values)) == (1.0 if name in HAVE_THEIR_OWN_TIMERS else 0.1)


def test_deadlines_are_checked_at_each_interval_with_the_time(clock):
    timeouts, connection = Timeouts(clock, 0.5), Connection()
    timeouts.add(connection)
    timeouts.start()
    clock.advance(0.4)
    assert connection.checks == []
    clock.advance(1.1)
    assert connection.checks == [1000.5, 1001.0, 1001.5]


def test_jobs_run_after_the_deadlines_were_checked(clock):
    calls: list[object] = []
    timeouts = Timeouts(clock, 1.0, calls.append, calls.append)
    connection = Connection(lambda now: calls.append(("connection", now)))
    timeouts.add(connection)
    timeouts.start()
    clock.advance(1.0)
    assert calls == [("connection", 1001.0), 1001.0, 1001.0]


def test_a_discarded_connection_is_not_checked_any_more(clock):
    timeouts, kept, forgotten = Timeouts(clock, 1.0), Connection(), Connection()
    timeouts.add(kept)
    timeouts.add(forgotten)
    assert len(timeouts) == 2
    assert set(timeouts) == {kept, forgotten}
    timeouts.discard(forgotten)
    timeouts.discard(forgotten)
    assert len(timeouts) == 1
    assert list(timeouts) == [kept]
    timeouts.start()
    clock.advance(1.0)
    assert (len(kept.checks), len(forgotten.checks)) == (1, 0)


def test_a_connection_that_is_added_twice_counts_once(clock):
    timeouts, connection = Timeouts(clock, 1.0), Connection()
    timeouts.add(connection)
    timeouts.add(connection)
    assert len(timeouts) == 1


def test_a_check_may_add_and_discard_connections(clock):
    def replace(_now):
        timeouts.discard(first)
        timeouts.add(second)

    timeouts, first, second = Timeouts(clock, 1.0), Connection(replace), Connection()
    timeouts.add(first)
    timeouts.start()
    clock.advance(1.0)
    assert list(timeouts) == [second]
    assert second.checks == []


def test_a_connection_that_the_check_of_another_discards_is_not_checked(clock):
    def discard_other(_now):
        calls.append(one)
        timeouts.discard(other)

    def discard_one(_now):
        calls.append(other)
        timeouts.discard(one)

    timeouts, one, other = Timeouts(clock, 1.0), Connection(discard_other), Connection(discard_one)
    calls: list[Connection] = []
    timeouts.add(one)
    timeouts.add(other)
    timeouts.start()
    clock.advance(1.0)
    # Their hashes decide which connection is checked first. Only that one remains.
    assert calls == list(timeouts)
    assert len(calls) == 1


def test_connections_may_be_discarded_while_they_are_iterated(clock):
    timeouts = Timeouts(clock, 1.0)
    for _ in range(3):
        timeouts.add(Connection())
    for connection in timeouts:
        timeouts.discard(connection)
    assert len(timeouts) == 0


def test_an_exception_in_a_check_does_not_stop_the_timer(clock):
    def fail(_now):
        raise ZeroDivisionError

    jobs: list[float] = []
    timeouts, connection = Timeouts(clock, 1.0, jobs.append), Connection(fail)
    timeouts.add(connection)
    timeouts.start()
    with pytest.raises(ZeroDivisionError):
        clock.advance(1.0)
    timeouts.discard(connection)
    clock.advance(1.0)
    assert len(jobs) == 1


def test_all_connections_are_closed_gracefully_and_then_expire(clock):
    timeouts, connections = Timeouts(clock, 1.0), [Connection(), Connection()]
    for connection in connections:
        timeouts.add(connection)
    timeouts.close_all()
    assert all(connection.closed for connection in connections)
    timeouts.discard(connections[0])
    timeouts.expire_all()
    assert [connection.checks for connection in connections] == [[], [math.inf]]


@pytest.fixture
def many(clock):
    """Timeouts with more connections than one batch, and the connections."""
    timeouts, connections = Timeouts(clock, 1.0), [Connection() for _ in range(3 * BATCH_SIZE)]
    for connection in connections:
        timeouts.add(connection)
    timeouts.start()
    return timeouts, connections


def checks_of(connections):
    return sum(len(connection.checks) for connection in connections)


def test_many_connections_are_checked_in_batches(clock, many):
    _, connections = many
    before = 0
    clock.advance(1.0)
    for _ in range(3):
        # All connections of a bucket are checked together. Most buckets have one or two here, few have more.
        assert before < checks_of(connections) <= before + BATCH_SIZE + 20
        before = checks_of(connections)
        clock.advance(BATCH_GAP_S)
    clock.advance(0.5)
    assert all(len(connection.checks) == 1 for connection in connections)


def test_batches_grow_so_that_all_are_checked_within_a_part_of_the_interval(clock):
    seconds, count = 0.1, 10 * BATCH_SIZE
    timeouts, connections = Timeouts(clock, seconds), [Connection() for _ in range(count)]
    for connection in connections:
        timeouts.add(connection)
    timeouts.start()
    clock.advance(seconds)
    assert 0 < checks_of(connections) < count
    clock.advance(seconds * SPREAD_SHARE)
    assert checks_of(connections) == count


def test_a_connection_that_is_discarded_between_two_batches_is_not_checked(clock, many):
    timeouts, connections = many
    clock.advance(1.0)
    for connection in connections:
        if not connection.checks:
            timeouts.discard(connection)
    before = checks_of(connections)
    clock.advance(0.9)
    assert checks_of(connections) == before == len(timeouts)


def test_stop_between_two_batches_ends_the_checks(clock, many):
    timeouts, connections = many
    clock.advance(1.0)
    timeouts.stop()
    before = checks_of(connections)
    assert before < len(connections)
    clock.advance(5.0)
    assert checks_of(connections) == before
    assert clock.timers == []


def test_a_check_that_takes_longer_than_the_interval_is_completed_first(clock, many):
    _, connections = many
    call_later = clock.call_later
    clock.call_later = lambda delay, callback, *args: call_later(
        0.6 if delay == BATCH_GAP_S else delay, callback, *args
    )
    clock.advance(2.3)
    assert [len(connection.checks) for connection in connections] == [1] * len(connections)
    clock.advance(2.0)
    assert [len(connection.checks) for connection in connections] == [2] * len(connections)


def test_the_loop_polls_before_deadlines_are_checked(clock):
    checks: list[float] = []
    timeouts = Timeouts(clock, 1.0, checks.append)
    timeouts.start()
    (timer,) = clock.timers
    clock.stand_still(1.0)
    for _ in range(2):
        # The loop polls between two calls that are due at once. The time that this takes must not count.
        assert checks == []
        timer.cancel()
        timer.callback(*timer.args)
        clock.stand_still(0.01)
        (timer,) = [each for each in clock.timers if each.at < 1002.0]
    timer.callback(*timer.args)
    assert checks == pytest.approx([1001.01])


def test_each_batch_is_checked_with_a_time_up_to_which_everything_was_read(clock, many):
    _, connections = many
    clock.advance(1.0)
    checks = []
    while len({id(connection) for connection in connections if connection.checks}) < len(connections):
        before = clock.now()
        # A stall before each slice but the first.
        clock.stand_still(0.05)
        clock.advance(0.0)
        checks.append((before, max(connection.checks[-1] for connection in connections if connection.checks)))
    assert len(checks) >= 2
    assert all(now <= before for before, now in checks)


def test_a_late_timer_postpones_the_check_once(clock):
    timeouts, connection = Timeouts(clock, 0.2), Connection()
    timeouts.add(connection)
    timeouts.start()
    clock.advance(0.5)
    assert connection.checks == pytest.approx([1000.2, 1000.4])
    clock.stand_still(4.0)
    clock.advance(GRACE_S - 0.01)
    assert len(connection.checks) == 2
    clock.advance(0.02)
    assert connection.checks[2:] == pytest.approx([1004.5 + GRACE_S])
    clock.advance(0.2)
    assert len(connection.checks) == 4


def test_deadlines_are_checked_also_when_the_timer_is_always_late(clock):
    timeouts, connection = Timeouts(clock, 0.2), Connection()
    timeouts.add(connection)
    timeouts.start()
    for _ in range(10):
        clock.stand_still(1.0)
        clock.advance(0.0)
    assert len(connection.checks) == 5


@pytest.mark.parametrize(
    ("seconds", "late", "checked_at_once"), [(0.01, 0.09, True), (0.01, 0.1, False), (1.0, 0.9, True)]
)
def test_a_timer_is_late_by_an_interval_and_a_tenth_of_a_second(clock, seconds, late, checked_at_once):
    timeouts, connection = Timeouts(clock, seconds), Connection()
    timeouts.add(connection)
    timeouts.start()
    clock.stand_still(seconds + late)
    clock.advance(0.0)
    assert bool(connection.checks) is checked_at_once


def test_stop_while_the_loop_polls_prevents_the_check(clock):
    timeouts, connection = Timeouts(clock, 1.0), Connection()
    timeouts.add(connection)
    timeouts.start()
    (timer,) = clock.timers
    timer.cancel()
    timer.callback(*timer.args)
    timeouts.stop()
    assert clock.timers == []
    clock.advance(5.0)
    assert connection.checks == []


def test_all_connections_share_one_timer(clock):
    timeouts = Timeouts(clock, 1.0)
    for _ in range(100):
        timeouts.add(Connection())
    assert clock.timers == []
    timeouts.start()
    clock.advance(5.0)
    assert len(clock.timers) == 1


def test_stop_cancels_the_timer(clock):
    timeouts, connection = Timeouts(clock, 1.0), Connection()
    timeouts.add(connection)
    timeouts.start()
    clock.advance(1.0)
    timeouts.stop()
    assert clock.timers == []
    clock.advance(5.0)
    assert len(connection.checks) == 1


def test_stop_before_start_is_harmless(clock):
    timeouts = Timeouts(clock, 1.0)
    timeouts.stop()
    assert clock.timers == []
