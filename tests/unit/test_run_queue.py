"""Fair scheduling, with a clock and a timer that the test advances."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes import FakeClock, Stopwatch
from wsaas.run_queue import SLICE_S, TURN_S, RunQueue


def make_queue():
    clock, stopwatch = FakeClock(), Stopwatch()
    return RunQueue(clock, stopwatch), clock, stopwatch


def turn(clock):
    """Run one turn of the loop: the calls that are due now, without the calls that they add."""
    due = clock.timers
    for timer in due:
        clock._timers.remove(timer)
        timer.callback(*timer.args)


def test_queued_work_runs_in_a_later_turn_of_the_loop():
    queue, clock, _ = make_queue()
    ran = []
    queue.add(lambda: ran.append("a"))
    assert not ran
    assert len(queue.waiting) == 1
    turn(clock)
    assert ran == ["a"]
    assert len(queue.waiting) == 0
    assert not clock.timers


def test_one_turn_of_the_loop_serves_connections_for_a_bounded_time():
    queue, clock, stopwatch = make_queue()
    ran = []

    def work(name):
        ran.append(name)
        stopwatch.now += TURN_S / 2

    for name in "abcde":
        queue.add(lambda name=name: work(name))
    turn(clock)
    assert ran == ["a", "b"]
    turn(clock)
    assert ran == ["a", "b", "c", "d"]
    turn(clock)
    assert ran == ["a", "b", "c", "d", "e"]
    assert not clock.timers


def test_a_connection_that_queues_again_goes_to_the_end_and_waits_for_the_next_turn():
    queue, clock, _ = make_queue()
    ran = []

    def insatiable():
        ran.append("insatiable")
        if len(ran) < 4:
            queue.add(insatiable)

    queue.add(insatiable)
    queue.add(lambda: ran.append("modest"))
    turn(clock)
    assert ran == ["insatiable", "modest"]
    turn(clock)
    assert ran == ["insatiable", "modest", "insatiable"]


def test_work_that_raises_does_not_stop_the_others():
    queue, clock, _ = make_queue()
    ran = []

    def broken():
        raise ZeroDivisionError

    queue.add(broken)
    queue.add(lambda: ran.append("next"))
    with pytest.raises(ZeroDivisionError):
        turn(clock)
    turn(clock)
    assert ran == ["next"]
    queue.add(lambda: ran.append("later"))
    turn(clock)
    assert ran == ["next", "later"]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.floats(0, 2 * SLICE_S))
def test_everything_runs_round_robin_and_no_turn_exceeds_its_time_by_more_than_one_slice(shares, cost):
    queue, clock, stopwatch = make_queue()
    left = dict(enumerate(shares))
    order = []

    def work(name):
        order.append(name)
        stopwatch.now += cost
        left[name] -= 1
        if left[name]:
            queue.add(lambda: work(name))

    for name in left:
        queue.add(lambda name=name: work(name))
    while clock.timers:
        before = stopwatch.now
        turn(clock)
        assert stopwatch.now - before <= TURN_S + cost + 1e-9
    assert not any(left.values())
    # Between two turns of one connection, every other one that still has work has exactly one.
    for at, name in enumerate(order):
        following = order[at + 1 :]
        if name in following:
            between = following[: following.index(name)]
            assert len(between) == len(set(between))
