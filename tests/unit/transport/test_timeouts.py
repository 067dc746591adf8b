import pytest

from tests.support.fakes import FakeClock, make_settings
from wsaas.clock import GRACE_S
from wsaas.transport.timeouts import SLICE, SPREAD, TICK, Timeouts, period


class Watched:
    def __init__(self):
        self.sweeps = []

    def sweep(self, now):
        self.sweeps.append(now)


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
def test_the_period_is_a_tenth_of_the_shortest_timeout_within_bounds(values, seconds):
    assert period(make_settings(**values)) == pytest.approx(seconds)


def test_what_is_watched_is_swept_at_each_beat_with_the_time(clock):
    heartbeat, watched = Timeouts(clock, 0.5), Watched()
    heartbeat.watch(watched)
    heartbeat.start()
    clock.advance(0.4)
    assert watched.sweeps == []
    clock.advance(1.1)
    assert watched.sweeps == [1000.5, 1001.0, 1001.5]


def test_further_sweeps_are_made_after_those_of_what_is_watched(clock):
    calls = []
    heartbeat, watched = Timeouts(clock, 1.0, calls.append, calls.append), Watched()
    watched.sweep = lambda now: calls.append(("watched", now))
    heartbeat.watch(watched)
    heartbeat.start()
    clock.advance(1.0)
    assert calls == [("watched", 1001.0), 1001.0, 1001.0]


def test_what_is_forgotten_is_swept_no_more(clock):
    heartbeat, kept, forgotten = Timeouts(clock, 1.0), Watched(), Watched()
    heartbeat.watch(kept)
    heartbeat.watch(forgotten)
    assert len(heartbeat) == 2
    assert set(heartbeat.watched()) == {kept, forgotten}
    heartbeat.forget(forgotten)
    heartbeat.forget(forgotten)
    assert len(heartbeat) == 1
    assert heartbeat.watched() == [kept]
    heartbeat.start()
    clock.advance(1.0)
    assert (len(kept.sweeps), len(forgotten.sweeps)) == (1, 0)


def test_what_is_watched_twice_is_swept_once(clock):
    heartbeat, watched = Timeouts(clock, 1.0), Watched()
    heartbeat.watch(watched)
    heartbeat.watch(watched)
    assert len(heartbeat) == 1


def test_a_sweep_may_forget_and_watch(clock):
    heartbeat, first, second = Timeouts(clock, 1.0), Watched(), Watched()

    def replace(_now):
        heartbeat.forget(first)
        heartbeat.watch(second)

    first.sweep = replace
    heartbeat.watch(first)
    heartbeat.start()
    clock.advance(1.0)
    assert heartbeat.watched() == [second]
    assert second.sweeps == []


def test_what_the_sweep_of_another_forgets_is_not_swept_in_the_same_turn(clock):
    heartbeat, one, other = Timeouts(clock, 1.0), Watched(), Watched()
    calls = []
    one.sweep = lambda _now: (calls.append(one), heartbeat.forget(other))
    other.sweep = lambda _now: (calls.append(other), heartbeat.forget(one))
    heartbeat.watch(one)
    heartbeat.watch(other)
    heartbeat.start()
    clock.advance(1.0)
    # Which of them comes first is up to their hashes: it stays, alone.
    assert calls == heartbeat.watched()
    assert len(calls) == 1


def test_the_list_of_what_is_watched_is_a_copy(clock):
    heartbeat = Timeouts(clock, 1.0)
    heartbeat.watch(Watched())
    heartbeat.watched().clear()
    assert len(heartbeat) == 1


def test_a_fault_in_a_sweep_is_not_the_end_of_all(clock):
    def fail(_now):
        raise ZeroDivisionError

    beats = []
    heartbeat, watched = Timeouts(clock, 1.0, beats.append), Watched()
    watched.sweep = fail
    heartbeat.watch(watched)
    heartbeat.start()
    with pytest.raises(ZeroDivisionError):
        clock.advance(1.0)
    heartbeat.forget(watched)
    clock.advance(1.0)
    assert len(beats) == 1


@pytest.fixture
def many(clock):
    """A heartbeat with more to sweep than it does at once, and what it sweeps."""
    heartbeat, all_watched = Timeouts(clock, 1.0), [Watched() for _ in range(3 * SLICE)]
    for watched in all_watched:
        heartbeat.watch(watched)
    heartbeat.start()
    return heartbeat, all_watched


def swept(all_watched):
    return sum(len(watched.sweeps) for watched in all_watched)


def test_many_are_swept_a_few_at_a_time(clock, many):
    _, all_watched = many
    before = 0
    clock.advance(1.0)
    for _ in range(3):
        # A group is swept whole: those here have one or two members, few have more.
        assert before < swept(all_watched) <= before + SLICE + 20
        before = swept(all_watched)
        clock.advance(TICK)
    clock.advance(0.5)
    assert all(len(watched.sweeps) == 1 for watched in all_watched)


def test_very_many_are_swept_within_a_part_of_the_time_between_two_beats(clock):
    seconds, count = 0.1, 10 * SLICE
    heartbeat, all_watched = Timeouts(clock, seconds), [Watched() for _ in range(count)]
    for watched in all_watched:
        heartbeat.watch(watched)
    heartbeat.start()
    clock.advance(seconds)
    assert 0 < swept(all_watched) < count
    clock.advance(seconds / SPREAD)
    assert swept(all_watched) == count


def test_what_is_forgotten_between_two_turns_is_not_swept(clock, many):
    heartbeat, all_watched = many
    clock.advance(1.0)
    for watched in all_watched:
        if not watched.sweeps:
            heartbeat.forget(watched)
    before = swept(all_watched)
    clock.advance(0.9)
    assert swept(all_watched) == before == len(heartbeat)


def test_a_heartbeat_that_is_stopped_between_two_turns_sweeps_no_more(clock, many):
    heartbeat, all_watched = many
    clock.advance(1.0)
    heartbeat.stop()
    before = swept(all_watched)
    assert before < len(all_watched)
    clock.advance(5.0)
    assert swept(all_watched) == before
    assert clock.timers == []


def test_a_beat_that_finds_the_one_before_not_done_goes_on_with_it(clock, many):
    _, all_watched = many
    call_later = clock.call_later
    clock.call_later = lambda delay, callback, *args: call_later(0.6 if delay == TICK else delay, callback, *args)
    clock.advance(2.3)
    assert [len(watched.sweeps) for watched in all_watched] == [1] * len(all_watched)
    clock.advance(2.0)
    assert [len(watched.sweeps) for watched in all_watched] == [2] * len(all_watched)


def test_what_arrived_before_a_beat_is_read_before_it_sweeps(clock):
    sweeps = []
    heartbeat = Timeouts(clock, 1.0, sweeps.append)
    heartbeat.start()
    (timer,) = clock.timers
    clock.stand_still(1.0)
    for _ in range(2):
        # The loop polls between two calls that are due at once. However long that takes, the sweep is not about it.
        assert sweeps == []
        timer.cancel()
        timer.callback(*timer.args)
        clock.stand_still(0.01)
        (timer,) = [each for each in clock.timers if each.at < 1002.0]
    timer.callback(*timer.args)
    assert sweeps == pytest.approx([1001.01])


def test_slices_are_swept_with_a_time_up_to_which_everything_was_read(clock, many):
    _, all_watched = many
    clock.advance(1.0)
    sweeps = []
    while len({id(watched) for watched in all_watched if watched.sweeps}) < len(all_watched):
        before = clock.now()
        # A stall before each slice but the first.
        clock.stand_still(0.05)
        clock.advance(0.0)
        sweeps.append((before, max(watched.sweeps[-1] for watched in all_watched if watched.sweeps)))
    assert len(sweeps) >= 2
    assert all(now <= before for before, now in sweeps)


def test_a_late_beat_gives_everything_some_time_before_it_sweeps(clock):
    heartbeat, watched = Timeouts(clock, 0.2), Watched()
    heartbeat.watch(watched)
    heartbeat.start()
    clock.advance(0.5)
    assert watched.sweeps == pytest.approx([1000.2, 1000.4])
    clock.stand_still(4.0)
    clock.advance(GRACE_S - 0.01)
    assert len(watched.sweeps) == 2
    clock.advance(0.02)
    assert watched.sweeps[2:] == pytest.approx([1004.5 + GRACE_S])
    clock.advance(0.2)
    assert len(watched.sweeps) == 4


def test_a_host_that_is_always_slow_is_swept_for_all_that(clock):
    heartbeat, watched = Timeouts(clock, 0.2), Watched()
    heartbeat.watch(watched)
    heartbeat.start()
    for _ in range(10):
        clock.stand_still(1.0)
        clock.advance(0.0)
    assert len(watched.sweeps) == 5


@pytest.mark.parametrize(
    ("seconds", "late", "swept_at_once"), [(0.01, 0.09, True), (0.01, 0.1, False), (1.0, 0.9, True)]
)
def test_a_beat_is_late_by_a_period_and_a_tenth_of_a_second(clock, seconds, late, swept_at_once):
    heartbeat, watched = Timeouts(clock, seconds), Watched()
    heartbeat.watch(watched)
    heartbeat.start()
    clock.stand_still(seconds + late)
    clock.advance(0.0)
    assert bool(watched.sweeps) is swept_at_once


def test_a_heartbeat_that_is_stopped_while_it_reads_does_not_sweep(clock):
    heartbeat, watched = Timeouts(clock, 1.0), Watched()
    heartbeat.watch(watched)
    heartbeat.start()
    (beat,) = clock.timers
    beat.cancel()
    beat.callback(*beat.args)
    heartbeat.stop()
    assert clock.timers == []
    clock.advance(5.0)
    assert watched.sweeps == []


def test_one_timer_serves_all(clock):
    heartbeat = Timeouts(clock, 1.0)
    for _ in range(100):
        heartbeat.watch(Watched())
    assert clock.timers == []
    heartbeat.start()
    clock.advance(5.0)
    assert len(clock.timers) == 1


def test_a_stopped_heartbeat_beats_no_more(clock):
    heartbeat, watched = Timeouts(clock, 1.0), Watched()
    heartbeat.watch(watched)
    heartbeat.start()
    clock.advance(1.0)
    heartbeat.stop()
    assert clock.timers == []
    clock.advance(5.0)
    assert len(watched.sweeps) == 1


def test_a_heartbeat_that_never_started_can_be_stopped(clock):
    heartbeat = Timeouts(clock, 1.0)
    heartbeat.stop()
    assert clock.timers == []
