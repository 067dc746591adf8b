"""Tests of work on many clients in slices."""

from functools import partial

import pytest

from tests.support.fakes import FakeClock, Stopwatch
from wsaas.errors import TooManyRequests
from wsaas.run_queue import RunQueue
from wsaas.sessions.fan_out import FAN_OUT_SLICE_S, FanOut, FanOutQueue


class Work(FanOut):
    """Work of a number of steps, each of which is recorded as the name of the work."""

    def __init__(self, name, steps, done):
        super().__init__()
        self.name = name
        self.remaining = steps
        self.steps = done

    def count(self, _counters):
        """Count nothing."""

    def advance(self, timer, end):
        while self.remaining:
            self.remaining -= 1
            self.steps.append(self.name)
            if timer() >= end:
                return not self.remaining
        return True

    def summary(self):
        return {"steps": self.remaining}


class Rig:
    """A queue in which a slice of time suffices for two steps."""

    def __init__(self, limit=10):
        self.clock = FakeClock()
        self.run_queue = RunQueue(self.clock, Stopwatch(FAN_OUT_SLICE_S / 2))
        self.queue = FanOutQueue(self.run_queue, limit)
        self.steps = []
        self.ended = []

    def start(self, name, steps, channel):
        work = Work(name, steps, self.steps)
        self.queue.start(work, channel)
        if not work.is_done:
            work.on_done = partial(self.ended.append, name)
        return work

    def turn(self):
        """Let one turn of the loop pass; return the steps that were made in it."""
        self.steps.clear()
        self.clock.turn()
        return "".join(self.steps)


def test_small_work_is_done_at_once():
    rig = Rig()
    work = rig.start("a", 2, "room")
    assert work.is_done
    assert len(rig.queue) == 0
    assert rig.clock.timers == []


def test_large_work_is_done_in_slices_in_turns_of_the_loop():
    rig = Rig()
    work = rig.start("a", 5, "room")
    assert not work.is_done
    assert rig.steps == ["a", "a"]
    assert rig.turn() == "aa"
    assert rig.ended == []
    assert rig.turn() == "a"
    assert work.is_done
    assert rig.ended == ["a"]
    assert rig.clock.timers == []


def test_work_on_one_channel_is_done_in_order():
    rig = Rig()
    rig.start("a", 3, "room")
    rig.start("b", 1, "room")
    rig.start("c", 1, "room")
    assert [rig.turn(), rig.turn(), rig.turn()] == ["a", "b", "c"]
    assert rig.ended == ["a", "b", "c"]


def test_work_on_different_channels_takes_turns():
    rig = Rig()
    rig.start("a", 6, "room")
    rig.start("b", 4, "other")
    assert "".join(rig.turn() for _ in range(3)) == "aabbaa"
    assert rig.ended == ["b", "a"]


def test_small_work_does_not_wait_for_large_work_on_another_channel():
    rig = Rig()
    rig.start("a", 6, "room")
    assert rig.start("b", 2, "other").is_done


def test_other_connections_have_their_turn_between_two_slices():
    rig = Rig()
    rig.start("a", 6, "room")
    rig.run_queue.add(lambda: rig.steps.append("x"))
    assert [rig.turn(), rig.turn(), rig.turn()] == ["aa", "xaa", ""]


def test_a_further_work_is_refused_while_as_many_as_the_limit_are_under_way():
    rig = Rig(limit=2)
    rig.start("a", 3, "room")
    rig.start("b", 3, "room")
    with pytest.raises(TooManyRequests, match="2 publishes are under way") as refused:
        rig.start("c", 1, "other")
    assert refused.value.headers == (("Retry-After", "1"),)
    while rig.clock.timers:
        rig.turn()
    assert rig.ended == ["a", "b"]
    assert rig.start("c", 1, "other").is_done


def test_work_that_is_started_when_other_work_on_its_channel_is_done_is_not_lost():
    rig = Rig()
    first = rig.start("a", 3, "room")
    first.on_done = lambda: rig.start("b", 3, "room")
    assert rig.turn() == "abb"
    assert rig.turn() == "b"
    assert rig.ended == ["b"]
    assert len(rig.queue) == 0


def test_work_that_is_started_behind_waiting_work_keeps_its_place():
    rig = Rig()
    first = rig.start("a", 3, "room")
    rig.start("b", 1, "room")
    first.on_done = lambda: rig.start("c", 1, "room")
    assert [rig.turn(), rig.turn(), rig.turn()] == ["a", "b", "c"]


def test_a_stop_drops_the_work_under_way():
    rig = Rig()
    rig.start("a", 6, "room")
    rig.start("b", 6, "room")
    rig.queue.stop()
    assert rig.turn() == ""
    assert rig.ended == []
    assert rig.clock.timers == []
    assert len(rig.queue) == 0
