"""Repeated lines are logged once, then with a count at increasing intervals."""

import logging
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsaas.log import logger
from wsaas.log.throttle import MAX_CAUSES, MIN_INTERVAL_S, LogThrottle


class Rig:
    """A throttle whose clock is advanced by the test, with a call of `log_due` each second as in the gateway."""

    def __init__(self):
        self.time = 100.0
        self.throttle = LogThrottle(lambda: self.time)

    def wait(self, seconds):
        for _ in range(seconds):
            self.time += 1
            self.throttle.log_due(self.time)


@pytest.fixture
def rig(caplog):
    caplog.set_level("INFO", "wsaas")
    return Rig()


def test_the_first_line_of_a_cause_is_logged_at_once(rig, caplog):
    rig.throttle.warning("down", "the backend %s", "is down")
    rig.throttle.info("slow", "it is slow")
    rig.throttle.error("lost", "it is lost")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "the backend is down"),
        ("INFO", "it is slow"),
        ("ERROR", "it is lost"),
    ]


def test_repetitions_are_counted_and_the_latest_is_logged_a_second_later(rig, caplog):
    for number in range(5):
        rig.throttle.warning("down", "number %d", number)
    assert caplog.messages == ["number 0"]
    rig.wait(1)
    assert caplog.messages == ["number 0", "number 4 (4 more in 1 s)"]


def test_while_a_cause_continues_the_intervals_double_up_to_a_minute(rig, caplog):
    times: list[float] = []
    for _ in range(400):
        rig.throttle.warning("down", "down")
        rig.throttle.warning("down", "down")
        rig.wait(1)
        times += [rig.time] * (len(caplog.messages) - 1 - len(times))
    gaps = [later - earlier for earlier, later in pairwise([100.0, *times])]
    assert gaps[:7] == [1, 2, 4, 8, 16, 32, 60]
    assert set(gaps[7:]) == {60}
    assert caplog.messages[-1] == "down (120 more in 60 s)"


def test_a_cause_that_recurs_every_few_seconds_is_not_logged_each_time(rig, caplog):
    for _ in range(100):
        rig.throttle.warning("down", "down")
        rig.wait(3)
    assert caplog.messages[:3] == ["down"] * 3
    assert len(caplog.messages) < 12
    assert caplog.messages[-1] == "down (20 more in 60 s)"


def test_a_cause_that_did_not_repeat_for_a_minute_is_logged_at_once_again(rig, caplog):
    for _ in range(100):
        rig.throttle.warning("down", "down")
        rig.wait(1)
    rig.wait(59)
    rig.throttle.warning("down", "down again")
    rig.throttle.warning("down", "down again")
    assert caplog.messages[-2:] == ["down (37 more in 60 s)", "down again"]
    rig.wait(60)
    rig.wait(60)
    rig.throttle.warning("down", "and again")
    rig.throttle.warning("down", "and again")
    rig.wait(1)
    assert caplog.messages[-2:] == ["and again", "and again (1 more in 1 s)"]


def test_a_single_line_is_not_logged_twice(rig, caplog):
    rig.throttle.warning("down", "down")
    rig.wait(200)
    rig.throttle.flush()
    assert caplog.messages == ["down"]


def test_flush_logs_the_repetitions_that_were_counted(rig, caplog):
    for _ in range(3):
        rig.throttle.warning("down", "down")
    rig.throttle.flush()
    rig.throttle.flush()
    assert caplog.messages == ["down", "down (2 more in 1 s)"]


def test_an_argument_is_formatted_only_when_its_line_is_logged(rig, caplog):
    class Costly:
        def __str__(self):
            formatted.append(self)
            return "costly"

    formatted: list[object] = []
    for _ in range(1000):
        rig.throttle.warning("down", "%s", Costly())
    rig.wait(1)
    assert caplog.messages == ["costly", "costly (999 more in 1 s)"]
    assert len(set(formatted)) == 2


def test_a_percent_sign_in_an_argument_is_kept(rig, caplog):
    for _ in range(2):
        rig.throttle.warning("down", "%s", "100 %s %d")
    rig.wait(1)
    assert caplog.messages == ["100 %s %d", "100 %s %d (1 more in 1 s)"]


def test_causes_beyond_the_limit_share_one(rig, caplog):
    for number in range(MAX_CAUSES + 10):
        rig.throttle.warning(number, "cause %d", number)
    assert len(caplog.messages) == MAX_CAUSES + 1
    rig.wait(1)
    assert caplog.messages[-1] == f"cause {MAX_CAUSES + 9} (9 more in 1 s)"
    rig.wait(60)
    rig.throttle.warning("new", "new")
    assert caplog.messages[-1] == "new"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=200))
def test_every_line_is_counted_and_no_cause_is_logged_twice_in_a_second(steps):
    rig = Rig()
    logged: list[tuple[float, tuple[Any, ...]]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert isinstance(record.args, tuple)
            logged.append((rig.time, record.args))

    handler = Handler()
    logger.addHandler(handler)
    try:
        given_lines = dict.fromkeys(range(4), 0)
        for cause, seconds in steps:
            rig.throttle.error(cause, "cause %d", cause)
            given_lines[cause] += 1
            rig.wait(seconds)
        ends = rig.time
        rig.throttle.flush()
    finally:
        logger.removeHandler(handler)
    for cause, number in given_lines.items():
        mine = [(at, args) for at, args in logged if args[0] == cause]
        assert sum(args[1] if len(args) > 1 else 1 for _, args in mine) == number
        times = [at for at, _ in mine if at < ends]
        assert all(later - earlier >= MIN_INTERVAL_S for earlier, later in pairwise(times))


def test_the_count_of_a_line_with_fields_is_among_them(rig, caplog):
    for number in range(3):
        rig.throttle.warning("down", "%(path)s: 100%% down", {"path": f"/{number}"})
    rig.wait(1)
    assert caplog.messages == ["/0: 100% down", "/2: 100% down (2 more in 1 s)"]
    assert [record.args for record in caplog.records] == [
        {"path": "/0"},
        {"path": "/2", "repeated": 2, "within_s": 1},
    ]
